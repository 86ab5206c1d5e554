// Package api speaks to an OpenStack in plain HTTP, so that what a cloud really
// answers can be looked at: status, headers, body, time.
package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// patience is longer than any answer takes, Nova's after a lost message counted.
const patience = 2 * time.Minute

// Credentials are an account: a user with a password and a project, or an
// application credential.
type Credentials struct {
	User     string `json:"user,omitempty"`
	Password string `json:"password,omitempty"`
	Project  string `json:"project,omitempty"`

	CredentialID     string `json:"credential_id,omitempty"`
	CredentialSecret string `json:"credential_secret,omitempty"`
}

// Session is an account that is logged in, with the services of its catalog.
type Session struct {
	Identity string
	Token    string
	UserID   string
	// ProjectID is the project of the token.
	ProjectID string
	// Public addresses by service type, without a slash at the end.
	Services map[string]string

	client *http.Client
}

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Text   []byte
	Took   time.Duration
}

// Anonymous returns a session without an account.
func Anonymous(identity string) *Session {
	return &Session{Identity: strings.TrimSuffix(identity, "/"), client: &http.Client{
		Timeout:       patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Login asks Keystone for a token.
func Login(ctx context.Context, identity string, c Credentials) (*Session, error) {
	s := Anonymous(identity)
	got, err := s.Do(ctx, http.MethodPost, s.Identity+"/auth/tokens", "", c.Request())
	if err != nil {
		return nil, err
	}
	var body struct {
		Token struct {
			User, Project struct{ ID string }
			Catalog       []struct {
				Type      string
				Endpoints []struct{ Interface, URL string }
			}
		}
	}
	if got.Status != http.StatusCreated {
		return nil, fmt.Errorf("log in at %s: %d %s", identity, got.Status, got.Text)
	}
	if err := json.Unmarshal(got.Text, &body); err != nil {
		return nil, fmt.Errorf("log in at %s: %w", identity, err)
	}
	s.Token = got.Header.Get("X-Subject-Token")
	s.UserID, s.ProjectID, s.Services = body.Token.User.ID, body.Token.Project.ID, map[string]string{}
	for _, service := range body.Token.Catalog {
		for _, e := range service.Endpoints {
			if e.Interface == "public" {
				s.Services[service.Type] = strings.TrimSuffix(e.URL, "/")
			}
		}
	}
	return s, nil
}

// Request is the body of a login.
func (c Credentials) Request() any {
	type object = map[string]any
	if c.CredentialID != "" {
		return object{"auth": object{"identity": object{
			"methods":                []string{"application_credential"},
			"application_credential": object{"id": c.CredentialID, "secret": c.CredentialSecret},
		}}}
	}
	domain := object{"name": "Default"}
	return object{"auth": object{
		"identity": object{"methods": []string{"password"}, "password": object{
			"user": object{"name": c.User, "password": c.Password, "domain": domain},
		}},
		"scope": object{"project": object{"name": c.Project, "domain": domain}},
	}}
}

// Do sends one request. The version is the value of OpenStack-API-Version, such
// as "volume 3.70"; the body is nil, text, bytes, or what becomes JSON.
func (s *Session) Do(ctx context.Context, method, url, version string, body any) (Answer, error) {
	raw, kind, err := encode(body)
	if err != nil {
		return Answer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(raw))
	if err != nil {
		return Answer{}, err
	}
	req.Header.Set("Accept", "application/json")
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	if s.Token != "" {
		req.Header.Set("X-Auth-Token", s.Token)
	}
	if version != "" {
		req.Header.Set("OpenStack-API-Version", version)
	}
	start := time.Now()
	resp, err := s.client.Do(req)
	if err != nil {
		return Answer{}, err
	}
	text, err := io.ReadAll(resp.Body)
	err = errors.Join(err, resp.Body.Close())
	return Answer{Status: resp.StatusCode, Header: resp.Header, Text: bytes.TrimSpace(text), Took: time.Since(start)}, err
}

// Revoke makes the session's token worthless.
func (s *Session) Revoke(ctx context.Context) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, s.Identity+"/auth/tokens", nil)
	if err != nil {
		return Answer{}, err
	}
	req.Header.Set("X-Auth-Token", s.Token)
	req.Header.Set("X-Subject-Token", s.Token)
	resp, err := s.client.Do(req)
	if err != nil {
		return Answer{}, err
	}
	return Answer{Status: resp.StatusCode, Header: resp.Header}, resp.Body.Close()
}

// encode returns a request's body and its type.
func encode(body any) (raw []byte, kind string, err error) {
	switch body := body.(type) {
	case nil:
		return nil, "", nil
	case string:
		if body == "" {
			return nil, "", nil
		}
		return []byte(body), "application/json", nil
	case []byte:
		return body, "application/octet-stream", nil
	}
	raw, err = json.Marshal(body)
	return raw, "application/json", err
}

// Volume sends a request to Cinder at microversion 3.minor, "" for none.
func (s *Session) Volume(ctx context.Context, minor, method, path string, body any) (Answer, error) {
	version := ""
	if minor != "" {
		version = "volume 3." + minor
	}
	return s.Do(ctx, method, s.Services["block-storage"]+path, version, body)
}

// Compute sends a request to Nova at microversion 2.minor, "" for none.
func (s *Session) Compute(ctx context.Context, minor, method, path string, body any) (Answer, error) {
	version := ""
	if minor != "" {
		version = "compute 2." + minor
	}
	return s.Do(ctx, method, s.Services["compute"]+path, version, body)
}

// Into reads the answer's body into a value, if its status is one of those that
// are meant; none means any below 300.
func (a Answer) Into(value any, statuses ...int) error {
	fine := len(statuses) == 0 && a.Status < http.StatusMultipleChoices
	for _, s := range statuses {
		fine = fine || a.Status == s
	}
	if !fine {
		return fmt.Errorf("answered %d %s", a.Status, a.Text)
	}
	if value == nil || len(a.Text) == 0 {
		return nil
	}
	return json.Unmarshal(a.Text, value)
}
