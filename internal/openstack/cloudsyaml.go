package openstack

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
	"go.yaml.in/yaml/v2"
)

// withClouds fills what is empty in c from its entry of a clouds.yaml, and
// returns the TLS settings that follow from both.
func (c CloudConfig) withClouds() (CloudConfig, *tls.Config, error) {
	path, err := cloudsFile(c.CloudsFile)
	if err != nil {
		return c, nil, c.errorf("use-clouds: %w", err)
	}
	name, err := cloudName(path, cmp.Or(c.Cloud, os.Getenv("OS_CLOUD")))
	if err != nil {
		return c, nil, c.errorf("use-clouds: %s: %w", path, err)
	}
	auth, endpoint, tlsConfig, err := parseClouds(path, name, c)
	if err != nil {
		return c, nil, c.errorf("use-clouds: %s: cloud %q: %s", path, name, oneLine(err.Error()))
	}
	if c.TLSInsecure != "" {
		tlsConfig.InsecureSkipVerify = c.TLSInsecure == "true" // #nosec G402 -- the operator's own choice
	}
	tlsConfig.MinVersion = tls.VersionTLS12
	c.fill(auth, endpoint)
	c.source = fmt.Sprintf("%s, %s cloud %q", c.origin(), path, name)
	return c, tlsConfig, nil
}

// fill takes from an entry what c leaves open. An id and a name that mean the
// same thing are taken together, so that the two files never contradict.
func (c *CloudConfig) fill(auth gophercloud.AuthOptions, endpoint gophercloud.EndpointOpts) {
	if !c.userDomain() {
		c.UserDomainID, c.UserDomainName = auth.DomainID, auth.DomainName
	}
	if scope := auth.Scope; scope != nil {
		c.TrustID = cmp.Or(c.TrustID, scope.TrustID)
		if c.TenantDomainID == "" && c.TenantDomainName == "" && c.DomainID == "" && c.DomainName == "" {
			c.TenantDomainID, c.TenantDomainName = scope.DomainID, scope.DomainName
		}
	}
	if c.TenantID == "" && c.TenantName == "" {
		c.TenantID, c.TenantName = auth.TenantID, auth.TenantName
	}
	if c.UserID == "" && c.Username == "" {
		c.UserID, c.Username = auth.UserID, auth.Username
	}
	c.AuthURL = cmp.Or(c.AuthURL, auth.IdentityEndpoint)
	c.Password = cmp.Or(c.Password, auth.Password)
	c.Token = cmp.Or(c.Token, auth.TokenID)
	c.ApplicationCredentialID = cmp.Or(c.ApplicationCredentialID, auth.ApplicationCredentialID)
	c.ApplicationCredentialName = cmp.Or(c.ApplicationCredentialName, auth.ApplicationCredentialName)
	c.ApplicationCredentialSecret = cmp.Or(c.ApplicationCredentialSecret, auth.ApplicationCredentialSecret)
	c.Region = cmp.Or(c.Region, endpoint.Region)
	c.EndpointType = cmp.Or(c.EndpointType, string(endpoint.Availability))
}

// cloudsFile returns the file that is to be read: the one given, the one of
// OS_CLIENT_CONFIG_FILE, or the first that exists in the usual places.
func cloudsFile(given string) (string, error) {
	if path := cmp.Or(given, os.Getenv("OS_CLIENT_CONFIG_FILE")); path != "" {
		if _, err := os.Stat(path); err != nil { // #nosec G703 -- a path from the operator
			return "", fmt.Errorf("clouds-file %s: %w", path, reason(err))
		}
		return path, nil
	}
	places := []string{"clouds.yaml"}
	if dir, err := os.UserConfigDir(); err == nil {
		places = append(places, filepath.Join(dir, "openstack", "clouds.yaml"))
	}
	places = append(places, "/etc/openstack/clouds.yaml")
	for _, path := range places {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("clouds-file is empty and there is none of %v", places)
}

// cloudName returns the wanted name, or the only one that the file has.
func cloudName(path, wanted string) (string, error) {
	text, err := os.ReadFile(path) // #nosec G304 -- a path from the operator's configuration
	if err != nil {
		return "", reason(err)
	}
	var file struct {
		Clouds map[string]any `yaml:"clouds"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		return "", errors.New(oneLine(err.Error()))
	}
	names := make([]string, 0, len(file.Clouds))
	for name := range file.Clouds {
		names = append(names, name)
	}
	slices.Sort(names)
	switch {
	case wanted != "" && slices.Contains(names, wanted):
		return wanted, nil
	case wanted != "":
		return "", fmt.Errorf("there is no cloud %q, only %q", wanted, names)
	case len(names) == 1:
		return names[0], nil
	}
	return "", fmt.Errorf("key cloud is empty and the file has %d clouds: %q", len(names), names)
}

// parseClouds reads one entry. The library dereferences the entry's auth
// without looking, so that an entry that has none would end the program.
func parseClouds(path, name string, c CloudConfig) (auth gophercloud.AuthOptions, endpoint gophercloud.EndpointOpts, conf *tls.Config, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("has no auth")
		}
	}()
	return clouds.Parse(
		clouds.WithLocations(path),
		clouds.WithCloudName(name),
		clouds.WithCACertPath(c.CAFile),
		clouds.WithClientCertPath(c.CertFile),
		clouds.WithClientKeyPath(c.KeyFile),
	)
}
