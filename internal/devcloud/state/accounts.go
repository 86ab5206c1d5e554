package state

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
)

// Accounts are who may use the cloud. They are made with the cloud, with
// passwords of their own, and never change.
type Accounts struct {
	Projects    []Project
	Users       []User
	Credentials []Credential
}

// Project is a project.
type Project struct{ ID, Name string }

// User is a user, with the one project in which it has roles.
type User struct {
	ID, Name, Password string
	ProjectID          string
	Roles              []string
}

// Credential is an application credential.
type Credential struct{ ID, Name, Secret, UserID string }

// The accounts of every cloud: an ordinary user, another one in another
// project, and an administrator. Each has a project of its own name.
const (
	DemoUser  = "demo"
	OtherUser = "other"
	AdminUser = "admin"
)

func newAccounts() *Accounts {
	a := &Accounts{}
	for _, name := range []string{DemoUser, OtherUser, AdminUser} {
		project := Project{ID: secret(16), Name: name}
		user := User{ID: secret(16), Name: name, Password: secret(12), ProjectID: project.ID, Roles: []string{"member", "reader"}}
		if name == AdminUser {
			user.Roles = []string{"admin", "member", "reader"}
		}
		a.Projects = append(a.Projects, project)
		a.Users = append(a.Users, user)
		a.Credentials = append(a.Credentials, Credential{ID: secret(16), Name: name, Secret: secret(24), UserID: user.ID})
	}
	return a
}

// secret returns so many random bytes in hexadecimal.
func secret(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// Accounts returns who may use the cloud.
func (c *Cloud) Accounts() *Accounts {
	var a *Accounts
	c.view(func() {
		s, _ := c.settings.Get(settingsKey)
		a = s.Accounts
	})
	return a
}

// User returns a user by id or name.
func (a *Accounts) User(idOrName string) (User, bool) {
	for _, u := range a.Users {
		if u.ID == idOrName || u.Name == idOrName {
			return u, true
		}
	}
	return User{}, false
}

// Project returns a project by id or name.
func (a *Accounts) Project(idOrName string) (Project, bool) {
	for _, p := range a.Projects {
		if p.ID == idOrName || p.Name == idOrName {
			return p, true
		}
	}
	return Project{}, false
}

// Credential returns an application credential by id, or by name and user.
func (a *Accounts) Credential(id, name, userID string) (Credential, bool) {
	for _, c := range a.Credentials {
		if id != "" && c.ID == id || id == "" && name != "" && c.Name == name && c.UserID == userID {
			return c, true
		}
	}
	return Credential{}, false
}

// Matches compares secrets in constant time.
func Matches(got, want string) bool {
	return subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1
}

// Admin reports whether the user may do everything.
func (u User) Admin() bool {
	for _, r := range u.Roles {
		if r == "admin" {
			return true
		}
	}
	return false
}
