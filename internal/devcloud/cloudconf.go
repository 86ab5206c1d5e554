package devcloud

import (
	"errors"
	"fmt"
	"os"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/keystone"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
)

// CloudConf returns a cloud.conf with which the driver logs in as the demo user.
func (c *Cloud) CloudConf() string { return c.CloudConfFor(state.DemoUser) }

// CloudConfFor is CloudConf for another user: "other" has a project of its own,
// "admin" may do everything.
func (c *Cloud) CloudConfFor(name string) string {
	user, _ := c.state.Accounts().User(name)
	project, _ := c.state.Accounts().Project(user.ProjectID)
	return fmt.Sprintf(`[Global]
auth-url=%s
username=%s
password=%s
tenant-name=%s
domain-name=Default
tenant-domain-name=Default
region=%s

[BlockStorage]
ignore-volume-az=false
`, c.AuthURL(), user.Name, user.Password, project.Name, keystone.Region)
}

// CredentialConf is CloudConf with an application credential in place of the password.
func (c *Cloud) CredentialConf() string {
	accounts := c.state.Accounts()
	user, _ := accounts.User(state.DemoUser)
	cred, _ := accounts.Credential("", user.Name, user.ID)
	return fmt.Sprintf(`[Global]
auth-url=%s
application-credential-id=%s
application-credential-secret=%s
region=%s
`, c.AuthURL(), cred.ID, cred.Secret, keystone.Region)
}

// WriteCloudConf writes CloudConf to a file that only its owner can read,
// whoever could read the one that was there.
func (c *Cloud) WriteCloudConf(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) // #nosec G304 -- the caller's own file
	if err != nil {
		return err
	}
	if err = f.Chmod(0o600); err == nil {
		_, err = f.WriteString(c.CloudConf())
	}
	return errors.Join(err, f.Close())
}
