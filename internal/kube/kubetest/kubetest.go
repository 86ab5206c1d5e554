// Package kubetest is an apiserver over HTTPS that keeps the objects that a test gives it, and
// answers to get and list as the real one does. It is for tests.
package kubetest

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/kube"
)

// Server is an apiserver.
type Server struct {
	*httptest.Server
	mu    sync.Mutex
	token string
	// kinds are the collections that the server has, by the path of one without a
	// namespace.
	kinds map[string]kube.Resource
	// objects are by path.
	objects map[string]map[string]any
	// instead answers requests, where it is not nil.
	instead http.HandlerFunc
	// asked counts the requests.
	asked int
}

// New starts an apiserver that accepts one token.
func New(t *testing.T, token string) *Server {
	t.Helper()
	s := &Server{token: token, objects: make(map[string]map[string]any), kinds: make(map[string]kube.Resource)}
	for _, kind := range []kube.Resource{
		kube.Claims, kube.PersistentVolumes, kube.Pods, kube.Nodes, kube.Events, kube.Attachments, kube.CSINodes,
		kube.StorageClasses, kube.Snapshots, kube.SnapshotContents,
	} {
		s.kinds[address(kind, "", "")] = kind
	}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// address is the path of an object; of all of a kind where name is empty.
func address(kind kube.Resource, namespace, name string) string {
	gvr := kind.GVR()
	root := "/apis/" + gvr.Group
	if gvr.Group == "" {
		root = "/api"
	}
	if namespace != "" {
		namespace = "namespaces/" + namespace
	}
	return path.Join(root, gvr.Version, namespace, gvr.Resource, name)
}

// Put stores a claim, by its namespace and name with a slash between them.
func (s *Server) Put(claim string, annotations map[string]string) {
	s.put(kube.Claims, claim, annotations)
}

// PutSnapshot stores a VolumeSnapshot, by its namespace and name with a slash between them.
func (s *Server) PutSnapshot(snapshot string, annotations map[string]string) {
	s.put(kube.Snapshots, snapshot, annotations)
}

func (s *Server) put(kind kube.Resource, object string, annotations map[string]string) {
	namespace, name, _ := strings.Cut(object, "/")
	s.Store(kind, namespace, name, map[string]any{"metadata": map[string]any{"annotations": annotations}})
}

// Store keeps an object, given as what becomes its JSON; its name and namespace are added.
func (s *Server) Store(kind kube.Resource, namespace, name string, object map[string]any) {
	given, _ := object["metadata"].(map[string]any)
	metadata := map[string]any{"name": name}
	if namespace != "" {
		metadata["namespace"] = namespace
	}
	maps.Copy(metadata, given)
	whole := map[string]any{"kind": "Object", "apiVersion": kind.GVR().GroupVersion().String()}
	maps.Copy(whole, object)
	whole["metadata"] = metadata
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[address(kind, namespace, name)] = whole
}

// Delete forgets an object.
func (s *Server) Delete(kind kube.Resource, namespace, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, address(kind, namespace, name))
}

// Without makes a kind of objects unknown, as those whose definitions are not installed.
func (s *Server) Without(kind kube.Resource) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.kinds, address(kind, "", ""))
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
	defer s.mu.Unlock()
	s.asked++
	if instead := s.instead; instead != nil {
		s.mu.Unlock()
		defer s.mu.Lock()
		instead(w, req)
		return
	}
	collection, name := s.split(req.URL.Path)
	switch {
	case req.Header.Get("Authorization") != "Bearer "+s.token:
		Status(w, http.StatusUnauthorized, "Unauthorized", "Unauthorized", "")
	case collection == "" || req.Method != http.MethodGet:
		http.NotFound(w, req)
	case name == "":
		s.list(w, req, collection)
	default:
		s.get(w, req, path.Base(collection), name)
	}
}

// split parts the path of a request into the kind, as a path without a namespace, and the
// name of an object; empty for kinds that the server doesn't have.
func (s *Server) split(of string) (collection, name string) {
	parts := strings.Split(of, "/")
	for i, part := range parts {
		if part == "namespaces" && i+2 < len(parts) {
			parts = slices.Delete(slices.Clone(parts), i, i+2)
			break
		}
	}
	of = strings.Join(parts, "/")
	if _, ok := s.kinds[of]; ok {
		return of, ""
	}
	if _, ok := s.kinds[path.Dir(of)]; ok {
		return path.Dir(of), path.Base(of)
	}
	return "", ""
}

func (s *Server) get(w http.ResponseWriter, req *http.Request, kind, name string) {
	object, found := s.objects[req.URL.Path]
	if !found {
		Status(w, http.StatusNotFound, "NotFound", fmt.Sprintf("%s %q not found", kind, name), name)
		return
	}
	if strings.Contains(req.Header.Get("Accept"), "as=PartialObjectMetadata") {
		object = map[string]any{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(object)
}

// list answers with a page of the objects below a path.
func (s *Server) list(w http.ResponseWriter, req *http.Request, collection string) {
	all := []map[string]any{}
	for _, at := range slices.Sorted(maps.Keys(s.objects)) {
		if of, _ := s.split(at); of == collection && (req.URL.Path == collection || strings.HasPrefix(at, req.URL.Path+"/")) {
			all = append(all, s.objects[at])
		}
	}
	begin, _ := strconv.Atoi(req.URL.Query().Get("continue"))
	metadata := map[string]any{"resourceVersion": "1"}
	end := len(all)
	if limit, _ := strconv.Atoi(req.URL.Query().Get("limit")); limit > 0 && begin+limit < len(all) {
		end = begin + limit
		metadata["continue"] = strconv.Itoa(end)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"kind": "ObjectList", "apiVersion": s.kinds[collection].GVR().GroupVersion().String(), "metadata": metadata, "items": all[min(begin, len(all)):end],
	})
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
