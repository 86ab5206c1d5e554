package kube

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/transport"
)

// serviceAccount is where Kubernetes puts the service account of a pod.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

// Options say which Kubernetes to ask, and how often.
type Options struct {
	// Kubeconfig is the path of a kubeconfig file, or several as in the variable
	// KUBECONFIG. Its current context is used. Empty: the service account of the pod, or
	// Master alone.
	Kubeconfig string
	// Master is the URL of the apiserver, instead of the one of Kubeconfig.
	Master string
	// ServiceAccountDir is where a pod finds its service account; empty: where
	// Kubernetes puts it.
	ServiceAccountDir string
	// QPS is the most requests per second, and Burst the most at once; 0 or less: 50 and
	// 100.
	QPS   float64
	Burst int
	// Timeout bounds a request for one object, and six times as long one for a page of a
	// list; 0 or less: 10 s.
	Timeout time.Duration
}

// AsKubectl returns the options with the kubeconfig that kubectl would take: the one of
// Kubeconfig, else of the variable KUBECONFIG, else ~/.kube/config where it exists; else
// none, so that a pod uses its service account.
func (o Options) AsKubectl() Options {
	o.Kubeconfig = cmp.Or(o.Kubeconfig, os.Getenv(clientcmd.RecommendedConfigPathEnvVar))
	if home, err := os.UserHomeDir(); err == nil && o.Kubeconfig == "" && o.Master == "" {
		path := filepath.Join(home, clientcmd.RecommendedHomeDir, clientcmd.RecommendedFileName)
		if _, err := os.Stat(path); err == nil {
			o.Kubeconfig = path
		}
	}
	return o
}

// config finds out how the apiserver is reached.
func (o Options) config() (config *rest.Config, err error) {
	master, err := address(o.Master)
	if err != nil {
		return nil, fmt.Errorf("--master: %w", err)
	}
	switch {
	case o.Kubeconfig != "":
		if config, err = kubeconfig(o.Kubeconfig, master); err != nil {
			return nil, fmt.Errorf("kubeconfig %s: %w", o.Kubeconfig, err)
		}
	case master != "":
		config = &rest.Config{Host: master}
	default:
		if config, err = inCluster(cmp.Or(o.ServiceAccountDir, serviceAccount)); err != nil {
			return nil, err
		}
	}
	if config.BearerTokenFile != "" {
		// The file is read again after a minute, and after a 401, which client-go's own use of
		// BearerTokenFile leaves out.
		config.Wrap(transport.ResettableTokenSourceWrapTransport(transport.NewCachedFileTokenSource(config.BearerTokenFile)))
		config.BearerToken, config.BearerTokenFile = "", ""
	}
	config.UserAgent = "cinder-csi-plugin"
	config.QPS, config.Burst = float32(cmp.Or(max(o.QPS, 0), 50)), cmp.Or(max(o.Burst, 0), 100)
	return config, nil
}

// address returns the URL of an apiserver that is named by its URL, or by host and port.
func address(of string) (string, error) {
	if of == "" {
		return "", nil
	}
	whole := of
	if !strings.Contains(of, "://") {
		whole = "https://" + of
	}
	parsed, err := url.Parse(whole)
	if err != nil || parsed.Host == "" || parsed.Scheme != "https" && parsed.Scheme != "http" {
		return "", fmt.Errorf("%q is no address of an apiserver", of)
	}
	return whole, nil
}

// inCluster is the access that every pod has. client-go's own doesn't tell where a
// certificate authority can't be read.
func inCluster(dir string) (*rest.Config, error) {
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return nil, errors.New("this is no pod (KUBERNETES_SERVICE_HOST is not set): name a --kubeconfig to reach Kubernetes with")
	}
	token, authority := filepath.Join(dir, "token"), filepath.Join(dir, "ca.crt")
	if _, err := os.Stat(token); err != nil {
		return nil, fmt.Errorf("the pod has no service account (automountServiceAccountToken?): %w", err)
	}
	if _, err := os.Stat(authority); err != nil {
		return nil, fmt.Errorf("the certificate authority of the cluster: %w", err)
	}
	return &rest.Config{
		Host:            "https://" + net.JoinHostPort(host, port),
		BearerTokenFile: token,
		TLSClientConfig: rest.TLSClientConfig{CAFile: authority},
	}, nil
}

// kubeconfig reads files that are named as in the variable KUBECONFIG.
func kubeconfig(paths, master string) (*rest.Config, error) {
	rules := clientcmd.ClientConfigLoadingRules{Precedence: filepath.SplitList(paths)}
	for _, path := range rules.Precedence {
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) && len(rules.Precedence) > 1 {
			continue
		}
		if err != nil {
			return nil, errors.Unwrap(err)
		}
		if _, err := clientcmd.Load(text); err != nil {
			// The message of the parser may quote the file, which holds secrets.
			return nil, errors.New("it is no YAML of the kind")
		}
	}
	loaded, err := rules.Load()
	if err != nil {
		return nil, err
	}
	current := loaded.Contexts[loaded.CurrentContext]
	if current == nil {
		return nil, fmt.Errorf("there is no context %q", loaded.CurrentContext)
	}
	cluster := loaded.Clusters[current.Cluster]
	if cluster == nil {
		return nil, fmt.Errorf("there is no cluster %q", current.Cluster)
	}
	// client-go would quote the address of the proxy, which may have a password.
	if proxy, err := url.Parse(cluster.ProxyURL); err != nil || cluster.ProxyURL != "" && proxy.Host == "" {
		return nil, errors.New("proxy-url is no URL")
	}
	// client-go would speak HTTP to an address without a scheme.
	if cluster.Server, err = address(cmp.Or(master, cluster.Server)); err != nil {
		return nil, err
	}
	return clientcmd.NewNonInteractiveClientConfig(*loaded, loaded.CurrentContext, nil, &rules).ClientConfig()
}
