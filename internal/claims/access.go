package claims

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v2"
)

// serviceAccount is where Kubernetes puts the service account of a pod.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

// access is how the apiserver is reached.
type access struct {
	server *url.URL
	tls    tls.Config
	proxy  func(*http.Request) (*url.URL, error)
	// token is a bearer token, or tokenFile the file that holds one.
	token, tokenFile string
}

// access finds out how the apiserver is reached.
func (o Options) access() (*access, error) {
	a := &access{tls: tls.Config{MinVersion: tls.VersionTLS12}, proxy: http.ProxyFromEnvironment}
	if o.Kubeconfig == "" && o.Master == "" {
		return a, a.inCluster(cmp.Or(o.ServiceAccountDir, serviceAccount))
	}
	server := o.Master
	if o.Kubeconfig != "" {
		named, err := a.kubeconfig(o.Kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("kubeconfig %s: %w", o.Kubeconfig, err)
		}
		server = cmp.Or(server, named)
	}
	address := server
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	parsed, err := url.Parse(address)
	if err != nil || parsed.Host == "" || parsed.Scheme != "https" && parsed.Scheme != "http" {
		return nil, fmt.Errorf("--master or kubeconfig: %q is no address of an apiserver", server)
	}
	a.server = parsed
	return a, nil
}

// inCluster is the access that every pod has.
func (a *access) inCluster(dir string) error {
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return errors.New("this is no pod (KUBERNETES_SERVICE_HOST is not set): name a --kubeconfig to read claims with")
	}
	a.server = &url.URL{Scheme: "https", Host: net.JoinHostPort(host, port)}
	a.tokenFile = filepath.Join(dir, "token")
	if _, err := os.Stat(a.tokenFile); err != nil {
		return fmt.Errorf("the pod has no service account (automountServiceAccountToken?): %w", err)
	}
	pem, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return fmt.Errorf("the certificate authority of the cluster: %w", err)
	}
	return a.trust(pem)
}

// trust makes the authorities in pem the only ones.
func (a *access) trust(pem []byte) error {
	a.tls.RootCAs = x509.NewCertPool()
	if !a.tls.RootCAs.AppendCertsFromPEM(pem) {
		return errors.New("the certificate authority of the cluster is no PEM certificate")
	}
	return nil
}

// named is an entry of one of the lists of a kubeconfig, of which it has one part.
type named struct {
	Name    string
	Context struct{ Cluster, User string }
	Cluster struct {
		Server        string
		TLSServerName string `yaml:"tls-server-name"`
		Insecure      bool   `yaml:"insecure-skip-tls-verify"`
		CAFile        string `yaml:"certificate-authority"`
		CAData        string `yaml:"certificate-authority-data"`
		ProxyURL      string `yaml:"proxy-url"`
	}
	User struct {
		CertFile     string `yaml:"client-certificate"`
		CertData     string `yaml:"client-certificate-data"`
		KeyFile      string `yaml:"client-key"`
		KeyData      string `yaml:"client-key-data"`
		Token        string
		TokenFile    string `yaml:"tokenFile"`
		Username, As string
		Exec         any
		Provider     any `yaml:"auth-provider"`
	}
}

// kubeconfig takes the current context of a kubeconfig file, and returns the address of
// its apiserver.
func (a *access) kubeconfig(path string) (server string, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", errors.Unwrap(err)
	}
	var file struct {
		CurrentContext            string `yaml:"current-context"`
		Contexts, Clusters, Users []named
	}
	if yaml.Unmarshal(text, &file) != nil {
		// The message of the parser may quote the file, which holds secrets.
		return "", errors.New("it is no YAML of the kind")
	}
	find := func(list []named, name string) (found named, ok bool) {
		for _, entry := range list {
			if entry.Name == name {
				return entry, true
			}
		}
		return found, false
	}
	current, ok := find(file.Contexts, file.CurrentContext)
	if !ok {
		return "", fmt.Errorf("there is no context %q", file.CurrentContext)
	}
	cluster, ok := find(file.Clusters, current.Context.Cluster)
	if !ok {
		return "", fmt.Errorf("there is no cluster %q", current.Context.Cluster)
	}
	user, _ := find(file.Users, current.Context.User)
	if err := a.reach(cluster, filepath.Dir(path)); err != nil {
		return "", err
	}
	return cluster.Cluster.Server, a.logIn(user, filepath.Dir(path))
}

// reach takes over how a cluster of a kubeconfig in dir is reached.
func (a *access) reach(named named, dir string) error {
	cluster := named.Cluster
	a.tls.ServerName, a.tls.InsecureSkipVerify = cluster.TLSServerName, cluster.Insecure // #nosec G402 -- the operator's own choice
	if cluster.ProxyURL != "" {
		proxy, err := url.Parse(cluster.ProxyURL)
		if err != nil || proxy.Host == "" {
			return errors.New("proxy-url is no URL")
		}
		a.proxy = http.ProxyURL(proxy)
	}
	pem, err := content(dir, cluster.CAFile, cluster.CAData)
	if err != nil {
		return fmt.Errorf("certificate-authority: %w", err)
	}
	if pem == nil {
		return nil
	}
	return a.trust(pem)
}

// logIn takes over the credentials of a user of a kubeconfig in dir.
func (a *access) logIn(named named, dir string) error {
	user := named.User
	if user.Exec != nil || user.Provider != nil || user.As != "" || user.Username != "" {
		return fmt.Errorf("user %q logs in by exec, auth-provider, username or as somebody else, which is not supported: use a token or a client certificate", named.Name)
	}
	a.token = user.Token
	if user.TokenFile != "" {
		a.tokenFile = beside(dir, user.TokenFile)
	}
	certificate, err := content(dir, user.CertFile, user.CertData)
	if err != nil {
		return fmt.Errorf("client-certificate: %w", err)
	}
	key, err := content(dir, user.KeyFile, user.KeyData)
	if err != nil {
		return fmt.Errorf("client-key: %w", err)
	}
	if certificate == nil && key == nil {
		return nil
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return fmt.Errorf("client-certificate and client-key: %w", err)
	}
	a.tls.Certificates = []tls.Certificate{pair}
	return nil
}

// content returns data that is in a kubeconfig in dir, or in a file that it names; nil
// for neither.
func content(dir, file, data string) ([]byte, error) {
	switch {
	case data != "":
		text, err := base64.StdEncoding.DecodeString(data)
		if err != nil {
			return nil, errors.New("it is not base64")
		}
		return text, nil
	case file != "":
		return os.ReadFile(beside(dir, file))
	}
	return nil, nil
}

// beside returns the path of a file that a kubeconfig in dir names.
func beside(dir, file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(dir, file)
}

// authorize adds the token to a request. One in a file is read every time: Kubernetes
// exchanges it within the hour.
func (a *access) authorize(req *http.Request) error {
	token := a.token
	if a.tokenFile != "" {
		text, err := os.ReadFile(a.tokenFile)
		if err != nil {
			return fmt.Errorf("the token: %w", err)
		}
		token = strings.TrimSpace(string(text))
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return nil
}
