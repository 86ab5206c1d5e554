package openstack

import (
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

const canary = "sesame-canary"

const twoClouds = `clouds:
  one:
    auth: {auth_url: "https://one/v3", application_credential_id: a, application_credential_secret: ` + canary + `}
    region_name: R1
    verify: false
  two:
    auth: {auth_url: "https://two/v3", username: u, password: ` + canary + `, project_name: p, user_domain_name: D, project_domain_name: E}
`

func TestCredentialsOfASecret(t *testing.T) {
	for name, test := range map[string]struct {
		secret map[string]string
		want   CloudConfig
	}{
		"an application credential": {
			map[string]string{"auth-url": "https://k/v3", "application-credential-id": "a", "application-credential-secret": canary, "region": "R"},
			CloudConfig{AuthURL: "https://k/v3", ApplicationCredentialID: "a", ApplicationCredentialSecret: canary, Region: "R"},
		},
		"an application credential by name": {
			map[string]string{"auth-url": "https://k/v3", "application-credential-name": "n", "application-credential-secret": canary, "username": "u", "user-domain-name": "D"},
			CloudConfig{AuthURL: "https://k/v3", ApplicationCredentialName: "n", ApplicationCredentialSecret: canary, Username: "u", UserDomainName: "D"},
		},
		"one of several clouds": {
			map[string]string{"clouds.yaml": twoClouds, "cloud": "two"},
			CloudConfig{AuthURL: "https://two/v3", Username: "u", Password: canary, TenantName: "p", UserDomainName: "D", TenantDomainName: "E"},
		},
		"another of them, unverified": {
			map[string]string{"clouds.yaml": twoClouds, "cloud": "one"},
			CloudConfig{AuthURL: "https://one/v3", ApplicationCredentialID: "a", ApplicationCredentialSecret: canary, Region: "R1", TLSInsecure: "true"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, key, found, err := SecretConfig(test.secret)
			if err != nil || !found || len(key) != 64 {
				t.Fatalf("found %t, key %q, %v", found, key, err)
			}
			got.source, got.caPEM, got.EndpointType = "", nil, ""
			// Compared field by field, so that no failure prints a secret.
			if got.AuthURL != test.want.AuthURL || got.authOptions().Password != test.want.authOptions().Password ||
				got.ApplicationCredentialSecret != test.want.ApplicationCredentialSecret || got.who() != test.want.who() ||
				got.Region != test.want.Region || got.TLSInsecure != test.want.TLSInsecure || *got.scope() != *test.want.scope() {
				t.Errorf("got %s for %s", got, got.who())
			}
			changed := map[string]string{}
			for k, v := range test.secret {
				changed[k] = strings.ReplaceAll(v, canary, "other")
			}
			if _, other, _, _ := SecretConfig(changed); other == key {
				t.Error("another password has the same fingerprint")
			}
			if _, same, _, _ := SecretConfig(test.secret); same != key {
				t.Error("the same secret has another fingerprint")
			}
		})
	}
}

func TestSecretsWithoutCredentials(t *testing.T) {
	for _, secret := range []map[string]string{nil, {}, {"cloud": "two"}, {"password": "x"}, {"clouds.yaml": ""}} {
		if _, _, found, err := SecretConfig(secret); found || err != nil {
			t.Errorf("%v: found %t, %v", secret, found, err)
		}
	}
}

func TestSecretsThatMakeNoSense(t *testing.T) {
	auth := `auth: {auth_url: "https://one/v3", application_credential_id: a, application_credential_secret: ` + canary + `}`
	for name, test := range map[string]struct {
		secret map[string]string
		says   string
	}{
		"no YAML":                {map[string]string{"clouds.yaml": "clouds: [" + canary}, "not a clouds.yaml"},
		"clouds that are a text": {map[string]string{"clouds.yaml": "clouds: " + canary}, "not a clouds.yaml"},
		"a cloud without auth":   {map[string]string{"clouds.yaml": "clouds: {one: {region_name: R}}"}, "auth-url is empty"},
		"auth that is a text":    {map[string]string{"clouds.yaml": "clouds: {one: {auth: " + canary + "}}"}, "not a clouds.yaml"},
		"odd values":             {map[string]string{"clouds.yaml": "clouds: {one: {auth: {auth_url: [" + canary + "]}}}"}, "auth-url is empty"},
		"several clouds":         {map[string]string{"clouds.yaml": twoClouds}, "name one with the key cloud"},
		"a cloud that is none":   {map[string]string{"clouds.yaml": twoClouds, "cloud": "three"}, `"three"`},
		"a file of this machine": {map[string]string{"clouds.yaml": "clouds: {one: {" + auth + ", cacert: /etc/shadow}}"}, "cacert"},
		"a key of this machine":  {map[string]string{"clouds.yaml": "clouds: {one: {" + auth + ", key: /etc/key}}"}, "key, which leads to a file"},
		"a public profile":       {map[string]string{"clouds.yaml": "clouds: {one: {" + auth + ", profile: p}}"}, "profile"},
		"a region's file":        {map[string]string{"clouds.yaml": "clouds: {one: {" + auth + ", regions: [{name: R, values: {cert: /etc/cert}}]}}"}, "cert, which leads to a file"},
		"several regions":        {map[string]string{"clouds.yaml": "clouds: {one: {" + auth + ", regions: [A, B]}}"}, "several regions: A, B"},
		"another way to log in":  {map[string]string{"clouds.yaml": "clouds: {one: {auth_type: v3oidcpassword, " + auth + "}}"}, "v3oidcpassword"},
		"no auth URL":            {map[string]string{"application-credential-id": "a", "application-credential-secret": canary}, "auth-url is empty"},
		"no credential":          {map[string]string{"auth-url": "https://k/v3"}, "application-credential-id"},
		"no secret":              {map[string]string{"auth-url": "https://k/v3", "application-credential-id": "a"}, "application-credential-secret is empty"},
		"an odd URL":             {map[string]string{"auth-url": "file:///etc/shadow", "application-credential-id": "a", "application-credential-secret": canary}, "not an http"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, found, err := SecretConfig(test.secret)
			if !found || !errors.Is(err, cloud.ErrInvalid) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("found %t, %v", found, err)
			}
			if err != nil && strings.Contains(err.Error(), canary) {
				t.Error("the secret is told")
			}
		})
	}
}

func TestOwnAuthoritiesOfASecret(t *testing.T) {
	c := newTLSCloud(t, says(200, `{"volumes": []}`), nil)
	secret := map[string]string{"auth-url": c.URL + "/identity/v3", "application-credential-id": "a", "application-credential-secret": canary}
	own := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate().Raw}))
	for authorities, want := range map[string]string{"": "TLS fails", "x": "ca.crt holds no PEM", own: ""} {
		secret["ca.crt"] = authorities
		cfg, _, _, err := SecretConfig(secret)
		if err != nil {
			t.Fatal(err)
		}
		client, err := Connect(t.Context(), cfg, Options{})
		switch {
		case err == nil && want == "":
			client.Close()
		case err == nil || want == "" || !strings.Contains(err.Error(), want):
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func FuzzCloudsOfASecret(f *testing.F) {
	f.Add(twoClouds, "one")
	f.Add("clouds: {one: {auth: {auth_url: x}}}", "")
	f.Add("clouds: {one: null, two: {auth: null}}", "two")
	f.Fuzz(func(t *testing.T, content, name string) {
		_, _, found, err := SecretConfig(map[string]string{"clouds.yaml": content, "cloud": name})
		if found != (content != "") || err != nil && !errors.Is(err, cloud.ErrInvalid) {
			t.Fatalf("found %t, %v", found, err)
		}
	})
}
