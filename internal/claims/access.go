package claims

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// serviceAccount is where Kubernetes puts the service account of a pod.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

// access is how the apiserver is reached.
type access struct {
	server *url.URL
	tls    *tls.Config
	proxy  func(*http.Request) (*url.URL, error)
	// token is a bearer token, or tokenFile the file that holds one.
	token, tokenFile string
	// username and password are for a proxy that asks for them.
	username, password string
}

// access finds out how the apiserver is reached.
func (o Options) access() (access, error) {
	switch {
	case o.Kubeconfig != "":
		found, err := readKubeconfig(o.Kubeconfig, o.Master)
		if err != nil {
			return found, fmt.Errorf("kubeconfig %s: %w", o.Kubeconfig, err)
		}
		return found, nil
	case o.Master != "":
		server, err := parseServer(o.Master)
		if err != nil {
			return access{}, fmt.Errorf("--master: %w", err)
		}
		return access{server: server, tls: newTLS(), proxy: http.ProxyFromEnvironment}, nil
	}
	return inCluster(cmp.Or(o.ServiceAccountDir, serviceAccount))
}

// inCluster is the access that every pod has.
func inCluster(dir string) (access, error) {
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return access{}, errors.New("this is no pod (KUBERNETES_SERVICE_HOST is not set): name a --kubeconfig to read claims with")
	}
	found := access{
		server:    &url.URL{Scheme: "https", Host: net.JoinHostPort(host, port)},
		tls:       newTLS(),
		proxy:     http.ProxyFromEnvironment,
		tokenFile: filepath.Join(dir, "token"),
	}
	if _, err := os.Stat(found.tokenFile); err != nil {
		return found, fmt.Errorf("the pod has no service account (automountServiceAccountToken?): %w", err)
	}
	pem, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return found, fmt.Errorf("the certificate authority of the cluster: %w", err)
	}
	return found, trust(found.tls, pem)
}

func newTLS() *tls.Config { return &tls.Config{MinVersion: tls.VersionTLS12} }

// trust makes conf trust the authorities in pem, and no others.
func trust(conf *tls.Config, pem []byte) error {
	conf.RootCAs = x509.NewCertPool()
	if !conf.RootCAs.AppendCertsFromPEM(pem) {
		return errors.New("the certificate authority of the cluster is no PEM certificate")
	}
	return nil
}

// parseServer reads the address of an apiserver.
func parseServer(address string) (*url.URL, error) {
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	server, err := url.Parse(address)
	if err != nil || server.Host == "" || server.Scheme != "https" && server.Scheme != "http" {
		return nil, fmt.Errorf("%q is no address of an apiserver", address)
	}
	return server, nil
}

// authorize adds the credentials to a request. A token in a file is read every
// time: Kubernetes exchanges it within the hour.
func (a access) authorize(req *http.Request) error {
	token := a.token
	if a.tokenFile != "" {
		text, err := os.ReadFile(a.tokenFile)
		if err != nil {
			return fmt.Errorf("the token: %w", err)
		}
		token = strings.TrimSpace(string(text))
	}
	switch {
	case token != "":
		req.Header.Set("Authorization", "Bearer "+token)
	case a.username != "":
		req.SetBasicAuth(a.username, a.password)
	}
	return nil
}
