package openstack

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gophercloud/gophercloud/v2"
)

func TestAuthOptions(t *testing.T) {
	tests := []struct {
		name string
		cfg  CloudConfig
		want gophercloud.AuthOptions
	}{
		{"a user and a project in one domain",
			CloudConfig{Username: "u", Password: "p", TenantName: "t", DomainName: "Default"},
			gophercloud.AuthOptions{Username: "u", Password: "p", DomainName: "Default",
				Scope: &gophercloud.AuthScope{ProjectName: "t", DomainName: "Default"}}},
		{"a user and a project in two domains, which win over the common one",
			CloudConfig{Username: "u", Password: "p", TenantName: "t", DomainID: "d", UserDomainName: "un", TenantDomainID: "td"},
			gophercloud.AuthOptions{Username: "u", Password: "p", DomainName: "un",
				Scope: &gophercloud.AuthScope{ProjectName: "t", DomainID: "td"}}},
		{"a project's id wins over its name",
			CloudConfig{UserID: "u", Password: "p", TenantID: "i", TenantName: "t", DomainName: "Default"},
			gophercloud.AuthOptions{UserID: "u", Password: "p", Scope: &gophercloud.AuthScope{ProjectID: "i"}}},
		{"an application credential asks for no scope",
			CloudConfig{ApplicationCredentialID: "i", ApplicationCredentialSecret: "s", Username: "u", Password: "p", TenantID: "t", DomainName: "d"},
			gophercloud.AuthOptions{ApplicationCredentialID: "i", ApplicationCredentialSecret: "s", Username: "u", DomainName: "d", Scope: &gophercloud.AuthScope{}}},
		{"an application credential by name",
			CloudConfig{ApplicationCredentialName: "n", ApplicationCredentialSecret: "s", Username: "u", UserDomainID: "d"},
			gophercloud.AuthOptions{ApplicationCredentialName: "n", ApplicationCredentialSecret: "s", Username: "u", DomainID: "d", Scope: &gophercloud.AuthScope{}}},
		{"a trust with its trustee",
			CloudConfig{Username: "u", Password: "p", UserDomainName: "d", TrustID: "tr", TrusteeID: "te", TrusteePassword: "tp", TenantID: "t"},
			gophercloud.AuthOptions{UserID: "te", Password: "tp", Scope: &gophercloud.AuthScope{TrustID: "tr"}}},
		{"a token leaves out the account",
			CloudConfig{Token: "t", Username: "u", Password: "p", DomainName: "d", TenantID: "i"},
			gophercloud.AuthOptions{TokenID: "t", Scope: &gophercloud.AuthScope{ProjectID: "i"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.cfg.AuthURL, test.want.IdentityEndpoint = "http://keystone/v3", "http://keystone/v3"
			if err := test.cfg.check(); err != nil {
				t.Fatal(err)
			}
			got := test.cfg.authOptions()
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("unlike what was expected (-want +got):\n%s", diff)
			}
			scope, err := got.ToTokenV3ScopeMap()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := got.ToTokenV3CreateMap(scope); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestIncompleteConfigurationIsToldByItsKey(t *testing.T) {
	tests := []struct {
		name string
		cfg  CloudConfig
		key  string
	}{
		{"nothing at all", CloudConfig{}, "auth-url is empty"},
		{"an address that is none", CloudConfig{AuthURL: "keystone:5000"}, "auth-url"},
		{"an address with a password that stays secret", CloudConfig{AuthURL: "ftp://u:sesame@host"}, "auth-url"},
		{"an interface that does not exist", CloudConfig{AuthURL: "http://k", EndpointType: "secret"}, "os-endpoint-type"},
		{"no account", CloudConfig{AuthURL: "http://k"}, "username"},
		{"no password", CloudConfig{AuthURL: "http://k", Username: "u", DomainName: "d"}, "password"},
		{"no domain", CloudConfig{AuthURL: "http://k", Username: "u", Password: "p"}, "user-domain-name"},
		{"no domain of the project", CloudConfig{AuthURL: "http://k", UserID: "u", Password: "p", TenantName: "t"}, "tenant-domain-name"},
		{"no secret", CloudConfig{AuthURL: "http://k", ApplicationCredentialID: "i"}, "application-credential-secret"},
		{"no user for a named credential", CloudConfig{AuthURL: "http://k", ApplicationCredentialName: "n", ApplicationCredentialSecret: "s"}, "application-credential-name"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.cfg.source = "/etc/cloud.conf [Global]"
			_, err := Connect(t.Context(), test.cfg, Options{})
			checkLine(t, err, "/etc/cloud.conf [Global]", test.key)
			if diff := cmp.Diff(false, contains(err, "sesame")); diff != "" {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}
