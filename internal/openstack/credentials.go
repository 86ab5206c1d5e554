package openstack

import "github.com/gophercloud/gophercloud/v2"

// authOptions turns the configuration into what gophercloud authenticates
// with. It prefers a token over an application credential over a password,
// and takes domain-id and domain-name for the domain of the user and of the
// project where those have none of their own.
func (c CloudConfig) authOptions() gophercloud.AuthOptions {
	opts := gophercloud.AuthOptions{
		IdentityEndpoint: c.AuthURL,
		Scope:            c.scope(),
	}
	switch {
	case c.Token != "":
		opts.TokenID = c.Token
		return opts
	case c.applicationCredential():
		opts.ApplicationCredentialID = c.ApplicationCredentialID
		opts.ApplicationCredentialName = c.ApplicationCredentialName
		opts.ApplicationCredentialSecret = c.ApplicationCredentialSecret
	default:
		opts.Password = c.password()
	}
	if id := c.userID(); id != "" {
		opts.UserID = id
		return opts
	}
	opts.Username = c.Username
	opts.DomainID, opts.DomainName = domain(c.UserDomainID, c.UserDomainName, c.DomainID, c.DomainName)
	return opts
}

// scope is what the token is to be good for. An application credential has its
// project built in, and Keystone refuses to be told another.
func (c CloudConfig) scope() *gophercloud.AuthScope {
	switch {
	case c.Token == "" && c.applicationCredential():
		return &gophercloud.AuthScope{}
	case c.TrustID != "":
		return &gophercloud.AuthScope{TrustID: c.TrustID}
	case c.TenantID != "":
		return &gophercloud.AuthScope{ProjectID: c.TenantID}
	case c.TenantName != "":
		scope := &gophercloud.AuthScope{ProjectName: c.TenantName}
		scope.DomainID, scope.DomainName = domain(c.TenantDomainID, c.TenantDomainName, c.DomainID, c.DomainName)
		return scope
	}
	scope := &gophercloud.AuthScope{}
	scope.DomainID, scope.DomainName = domain("", "", c.DomainID, c.DomainName)
	return scope
}

// domain returns its own id or name, else the common ones, and never both: an
// id says it all.
func domain(id, name, commonID, commonName string) (string, string) {
	switch {
	case id != "":
		return id, ""
	case name != "":
		return "", name
	case commonID != "":
		return commonID, ""
	}
	return "", commonName
}
