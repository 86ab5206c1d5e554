// Package claimstest is an apiserver over HTTPS that knows claims, VolumeSnapshots and
// nothing else, and answers as the real one does. It is for tests.
package claimstest

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Server is an apiserver.
type Server struct {
	*httptest.Server
	mu    sync.Mutex
	token string
	// objects are the annotations of all objects, by path.
	objects map[string]map[string]string
	// instead answers requests, where it is not nil.
	instead http.HandlerFunc
	// asked counts the requests.
	asked int
}

// New starts an apiserver that accepts one token.
func New(t *testing.T, token string) *Server {
	t.Helper()
	s := &Server{token: token, objects: make(map[string]map[string]string)}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// Put stores a claim, by its namespace and name with a slash between them.
func (s *Server) Put(claim string, annotations map[string]string) {
	s.put("api/v1", claim, "persistentvolumeclaims", annotations)
}

// PutSnapshot stores a VolumeSnapshot, by its namespace and name with a slash between them.
func (s *Server) PutSnapshot(snapshot string, annotations map[string]string) {
	s.put("apis/snapshot.storage.k8s.io/v1", snapshot, "volumesnapshots", annotations)
}

func (s *Server) put(group, object, kind string, annotations map[string]string) {
	namespace, name, _ := strings.Cut(object, "/")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects["/"+group+"/namespaces/"+namespace+"/"+kind+"/"+name] = annotations
}

// SetToken exchanges the token that is accepted.
func (s *Server) SetToken(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = token
}

// Instead has every request answered by h; nil ends that.
func (s *Server) Instead(h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instead = h
}

// Asked returns the number of requests so far.
func (s *Server) Asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// CA returns the certificate authority in PEM.
func (s *Server) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// Kubeconfig writes a kubeconfig with a token and returns its path.
func (s *Server) Kubeconfig(t *testing.T, token string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: one
contexts: [{name: one, context: {cluster: here, user: driver}}]
clusters: [{name: here, cluster: {server: %q, certificate-authority-data: %s}}]
users: [{name: driver, user: {token: %s}}]
`, s.URL, base64.StdEncoding.EncodeToString(s.CA()), token)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// ServiceAccount puts a service account where a pod would find it, tells the
// process that it runs in a pod of this cluster, and returns the folder.
func (s *Server) ServiceAccount(t *testing.T, token string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"token": token + "\n", "ca.crt": string(s.CA())} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	host, port, _ := strings.Cut(strings.TrimPrefix(s.URL, "https://"), ":")
	t.Setenv("KUBERNETES_SERVICE_HOST", host)
	t.Setenv("KUBERNETES_SERVICE_PORT", port)
	return dir
}

func (s *Server) serve(w http.ResponseWriter, req *http.Request) {
	s.mu.Lock()
	s.asked++
	token, instead := s.token, s.instead
	annotations, found := s.objects[req.URL.Path]
	kind, name := path.Base(path.Dir(req.URL.Path)), path.Base(req.URL.Path)
	s.mu.Unlock()
	switch {
	case instead != nil:
		instead(w, req)
	case req.Header.Get("Authorization") != "Bearer "+token:
		Status(w, http.StatusUnauthorized, "Unauthorized", "Unauthorized", "")
	case kind != "persistentvolumeclaims" && kind != "volumesnapshots" || req.Method != http.MethodGet || req.URL.RawQuery != "":
		http.NotFound(w, req)
	case !found:
		Status(w, http.StatusNotFound, "NotFound", fmt.Sprintf("%s %q not found", kind, name), name)
	default:
		object := map[string]any{"kind": "PersistentVolumeClaim", "apiVersion": "v1", "spec": map[string]any{"volumeName": ""}}
		if strings.Contains(req.Header.Get("Accept"), "as=PartialObjectMetadata") {
			object = map[string]any{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
		}
		object["metadata"] = map[string]any{"name": name, "annotations": annotations}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(object)
	}
}

// Status answers with a Status, as the apiserver does when something is wrong.
func Status(w http.ResponseWriter, code int, reason, message, name string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"kind": "Status", "apiVersion": "v1", "metadata": map[string]any{}, "status": "Failure", "message": message, "reason": reason,
		"details": map[string]any{"name": name, "kind": "persistentvolumeclaims"}, "code": code,
	})
}
