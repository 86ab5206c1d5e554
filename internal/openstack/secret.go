package openstack

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// The keys of a secret that holds credentials: either the content of a
// clouds.yaml, of which "cloud" names the entry if there are several, or an
// application credential in the words of cloud.conf; and the certificate
// authorities of the cloud in PEM, if they are its own.
const (
	secretClouds = "clouds.yaml"
	secretCA     = "ca.crt"
)

// secretKeys are all keys of a secret that are about credentials. "cloud" alone
// names a cloud of the driver's own configuration.
func secretKeys() []string {
	return []string{
		secretClouds, secretCA, "auth-url", "region", "os-endpoint-type",
		"application-credential-id", "application-credential-name", "application-credential-secret",
		"user-id", "username", "user-domain-id", "user-domain-name",
	}
}

// SecretConfig returns how to reach the cloud that a secret holds credentials
// for, and a fingerprint that differs for different credentials; found is false
// for a secret without any. Errors wrap cloud.ErrInvalid and never quote the
// secret. Whoever wrote the secret is not trusted with this machine's files:
// a clouds.yaml may name none.
func SecretConfig(secret map[string]string) (cfg CloudConfig, fingerprint string, found bool, err error) {
	switch {
	case secret[secretClouds] != "":
		cfg, err = cloudsOf(secret[secretClouds], secret["cloud"])
	case secret["auth-url"]+secret["application-credential-id"]+secret["application-credential-name"] != "":
		cfg = CloudConfig{
			AuthURL: secret["auth-url"], Region: secret["region"], EndpointType: secret["os-endpoint-type"],
			ApplicationCredentialID:     secret["application-credential-id"],
			ApplicationCredentialName:   secret["application-credential-name"],
			ApplicationCredentialSecret: secret["application-credential-secret"],
			UserID:                      secret["user-id"], Username: secret["username"],
			UserDomainID: secret["user-domain-id"], UserDomainName: secret["user-domain-name"],
		}
		if !cfg.applicationCredential() {
			err = fmt.Errorf("%w: the secret has no application-credential-id", cloud.ErrInvalid)
		}
	default:
		return cfg, "", false, nil
	}
	cfg.source, cfg.untrusted = "the secret of the StorageClass", true
	cfg.caPEM = []byte(secret[secretCA])
	if err == nil {
		if checkErr := cfg.check(); checkErr != nil {
			err = fmt.Errorf("%w: %w", cloud.ErrInvalid, checkErr)
		}
	}
	return cfg, fingerprintOf(secret), true, err
}

// cloudsOf reads one entry of the content of a clouds.yaml. What the parser
// complains about is not told, as it quotes what it reads.
func cloudsOf(content, wanted string) (cfg CloudConfig, err error) {
	file, err := parseClouds([]byte(content))
	if err != nil || len(file.Clouds) == 0 {
		return cfg, fmt.Errorf("%w: %s in the secret is not a clouds.yaml", cloud.ErrInvalid, secretClouds)
	}
	name, err := file.choose(wanted)
	if err != nil {
		return cfg, fmt.Errorf("%w: %s in the secret has %d clouds and none is %q: name one with the key cloud", cloud.ErrInvalid, secretClouds, len(file.Clouds), wanted)
	}
	entry := file.Clouds[name]
	if entry.unreadable != nil {
		return cfg, fmt.Errorf("%w: %s in the secret is not a clouds.yaml", cloud.ErrInvalid, secretClouds)
	}
	values, err := merge("", []yamlCloud{entry})
	if err != nil {
		return cfg, fmt.Errorf("%w: %s in the secret: %w", cloud.ErrInvalid, secretClouds, err)
	}
	for _, key := range []string{"cacert", "cert", "key", "profile", "cloud"} {
		if values[key] != "" {
			return cfg, fmt.Errorf("%w: %s in the secret has key %s, which leads to a file: only %s is possible", cloud.ErrInvalid, secretClouds, key, secretCA)
		}
	}
	if err := cfg.fill(values); err != nil {
		return cfg, fmt.Errorf("%w: %s in the secret: %w", cloud.ErrInvalid, secretClouds, err)
	}
	return cfg, nil
}

// fingerprintOf returns a hash of all that a secret says about credentials.
func fingerprintOf(secret map[string]string) string {
	var b bytes.Buffer
	keys := append(secretKeys(), "cloud")
	slices.Sort(keys)
	for _, key := range keys {
		b.WriteString(strconv.Quote(key) + strconv.Quote(secret[key]))
	}
	sum := sha256.Sum256(b.Bytes())
	return hex.EncodeToString(sum[:])
}
