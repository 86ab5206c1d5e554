package claims

import (
	"cmp"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v2"
)

// kubeconfig is a kubeconfig file.
type kubeconfig struct {
	CurrentContext string `yaml:"current-context"`
	Contexts       []struct {
		Name    string `yaml:"name"`
		Context struct {
			Cluster string `yaml:"cluster"`
			User    string `yaml:"user"`
		} `yaml:"context"`
	} `yaml:"contexts"`
	Clusters []struct {
		Name    string  `yaml:"name"`
		Cluster cluster `yaml:"cluster"`
	} `yaml:"clusters"`
	Users []struct {
		Name string `yaml:"name"`
		User user   `yaml:"user"`
	} `yaml:"users"`
}

type cluster struct {
	Server        string `yaml:"server"`
	TLSServerName string `yaml:"tls-server-name"`
	Insecure      bool   `yaml:"insecure-skip-tls-verify"`
	CAFile        string `yaml:"certificate-authority"`
	CAData        string `yaml:"certificate-authority-data"`
	ProxyURL      string `yaml:"proxy-url"`
}

type user struct {
	CertFile  string `yaml:"client-certificate"`
	CertData  string `yaml:"client-certificate-data"`
	KeyFile   string `yaml:"client-key"`
	KeyData   string `yaml:"client-key-data"`
	Token     string `yaml:"token"`
	TokenFile string `yaml:"tokenFile"`
	Username  string `yaml:"username"`
	Password  string `yaml:"password"`
	As        string `yaml:"as"`
	Exec      any    `yaml:"exec"`
	Provider  any    `yaml:"auth-provider"`
}

// readKubeconfig returns the access of the current context; master replaces the
// address where it is not empty.
func readKubeconfig(path, master string) (access, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return access{}, errors.Unwrap(err)
	}
	var file kubeconfig
	if err := yaml.Unmarshal(text, &file); err != nil {
		// The message of the parser may quote the file, which holds secrets.
		return access{}, errors.New("it is no YAML of the kind")
	}
	at, who, err := file.current()
	if err != nil {
		return access{}, err
	}
	server, err := parseServer(cmp.Or(master, at.Server))
	if err != nil {
		return access{}, err
	}
	dir := filepath.Dir(path)
	found := access{server: server, username: who.Username, password: who.Password, token: who.Token}
	if who.TokenFile != "" {
		found.tokenFile = beside(dir, who.TokenFile)
	}
	if found.proxy, err = at.proxy(); err != nil {
		return found, err
	}
	if found.tls, err = at.tls(dir); err != nil {
		return found, err
	}
	return found, who.certify(found.tls, dir)
}

// current returns the cluster and the user of the current context.
func (f kubeconfig) current() (at cluster, who user, err error) {
	for _, c := range f.Contexts {
		if c.Name != f.CurrentContext {
			continue
		}
		found := false
		for _, named := range f.Clusters {
			if named.Name == c.Context.Cluster {
				at, found = named.Cluster, true
			}
		}
		if !found {
			return at, who, fmt.Errorf("there is no cluster %q", c.Context.Cluster)
		}
		for _, named := range f.Users {
			if named.Name == c.Context.User {
				who = named.User
			}
		}
		if who.Exec != nil || who.Provider != nil || who.As != "" {
			return at, who, fmt.Errorf("user %q logs in by exec, auth-provider or as somebody else, which is not supported: use a token or a client certificate", c.Context.User)
		}
		return at, who, nil
	}
	return at, who, fmt.Errorf("there is no context %q", f.CurrentContext)
}

func (c cluster) proxy() (func(*http.Request) (*url.URL, error), error) {
	if c.ProxyURL == "" {
		return http.ProxyFromEnvironment, nil
	}
	proxy, err := url.Parse(c.ProxyURL)
	if err != nil || proxy.Host == "" {
		return nil, errors.New("proxy-url is no URL")
	}
	return http.ProxyURL(proxy), nil
}

func (c cluster) tls(dir string) (*tls.Config, error) {
	conf := newTLS()
	conf.ServerName = c.TLSServerName
	conf.InsecureSkipVerify = c.Insecure // #nosec G402 -- the operator's own choice
	pem, err := content(dir, c.CAFile, c.CAData)
	switch {
	case err != nil:
		return nil, fmt.Errorf("certificate-authority: %w", err)
	case pem == nil:
		return conf, nil
	}
	return conf, trust(conf, pem)
}

// certify adds the user's certificate.
func (u user) certify(conf *tls.Config, dir string) error {
	cert, err := content(dir, u.CertFile, u.CertData)
	if err != nil {
		return fmt.Errorf("client-certificate: %w", err)
	}
	key, err := content(dir, u.KeyFile, u.KeyData)
	if err != nil {
		return fmt.Errorf("client-key: %w", err)
	}
	if cert == nil && key == nil {
		return nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("client-certificate and client-key: %w", err)
	}
	conf.Certificates = []tls.Certificate{pair}
	return nil
}

// content returns data that is in the kubeconfig, or in a file that it names.
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
