package nodestart_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"

	"github.com/cinder-csi/cinder-csi/internal/kube"
)

// apiserver answers over HTTP for Nodes and CSINodes as Kubernetes does: lists in pages,
// watches, JSON patches that test. It counts its requests.
type apiserver struct {
	url string
	// old has it know no watch that begins with a list, as before Kubernetes 1.32.
	old bool

	mu       sync.Mutex
	objects  map[string]map[string]map[string]any // by resource and name
	version  int
	watchers map[chan event]string
	requests map[string]int
	// refuse answers a verb and a resource, as in "patch nodes", with a status; 0 hangs.
	refuse map[string]int
	ends   chan struct{}
}

type event struct {
	Type   string         `json:"type"`
	Object map[string]any `json:"object"`
}

func newAPIServer(t *testing.T) *apiserver {
	t.Helper()
	s := &apiserver{
		objects:  map[string]map[string]map[string]any{"nodes": {}, "csinodes": {}},
		watchers: map[chan event]string{}, requests: map[string]int{}, refuse: map[string]int{}, ends: make(chan struct{}),
	}
	server := httptest.NewServer(s)
	s.url = server.URL
	t.Cleanup(func() { close(s.ends); server.Close() })
	return s
}

func (s *apiserver) client(t *testing.T) *kube.Client {
	t.Helper()
	c, err := kube.New(kube.Options{Master: s.url, QPS: 10000, Burst: 10000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// put makes an object, or changes it.
func (s *apiserver) put(resource string, object map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store(resource, object)
}

func (s *apiserver) store(resource string, object map[string]any) {
	name := object["metadata"].(map[string]any)["name"].(string)
	s.version++
	object["metadata"].(map[string]any)["resourceVersion"] = strconv.Itoa(s.version)
	kind := "ADDED"
	if s.objects[resource][name] != nil {
		kind = "MODIFIED"
	}
	s.objects[resource][name] = object
	s.tell(resource, event{kind, object})
}

func (s *apiserver) remove(resource, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	gone := s.objects[resource][name]
	delete(s.objects[resource], name)
	s.tell(resource, event{"DELETED", gone})
}

func (s *apiserver) tell(resource string, e event) {
	for c, of := range s.watchers {
		if of == resource {
			c <- e
		}
	}
}

// answers has requests of a verb answered with a status from now on, or hang for 0; ok
// ends that.
func (s *apiserver) answers(what string, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse[what] = status
}

func (s *apiserver) works() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.refuse)
}

func (s *apiserver) count() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.requests)
}

// taints are those of a Node, by key.
func (s *apiserver) taints(name string) (keys []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, _ := s.objects["nodes"][name]["spec"].(map[string]any)["taints"].([]any)
	for _, t := range list {
		keys = append(keys, t.(map[string]any)["key"].(string))
	}
	return keys
}

func (s *apiserver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	resource, name := "nodes", ""
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	for i, part := range parts {
		if part == "nodes" || part == "csinodes" {
			resource = part
			name = strings.Join(parts[i+1:], "/")
		}
	}
	verb := "list"
	switch {
	case r.Method == http.MethodPatch:
		verb = "patch"
	case r.URL.Query().Get("watch") != "":
		verb = "watch"
	}
	what := verb + " " + resource
	s.mu.Lock()
	s.requests[what]++
	status, refused := s.refuse[what]
	s.mu.Unlock()
	switch {
	case refused && status == 0:
		select {
		case <-r.Context().Done():
		case <-s.ends:
		}
	case refused:
		fail(w, status)
	case verb == "patch":
		s.patch(w, r, resource, name)
	case verb == "watch":
		s.watch(w, r, resource)
	default:
		s.list(w, r, resource)
	}
}

func fail(w http.ResponseWriter, status int) {
	reasons := map[int]string{403: "Forbidden", 404: "NotFound", 409: "Conflict", 422: "Invalid", 500: "InternalError", 503: "ServiceUnavailable"}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reasons[status], "message": "refused"})
}

func kinds(resource string) (kind, version string) {
	if resource == "nodes" {
		return "Node", "v1"
	}
	return "CSINode", "storage.k8s.io/v1"
}

func (s *apiserver) list(w http.ResponseWriter, r *http.Request, resource string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := slices.Sorted(maps.Keys(s.objects[resource]))
	from, _ := strconv.Atoi(r.URL.Query().Get("continue"))
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	if limit == 0 || r.URL.Query().Get("resourceVersion") == "0" {
		limit = len(names)
	}
	to := min(from+limit, len(names))
	items := []any{}
	for _, name := range names[from:to] {
		items = append(items, s.objects[resource][name])
	}
	metadata := map[string]any{"resourceVersion": strconv.Itoa(s.version)}
	if to < len(names) {
		metadata["continue"] = strconv.Itoa(to)
	}
	kind, version := kinds(resource)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"kind": kind + "List", "apiVersion": version, "metadata": metadata, "items": items})
}

func (s *apiserver) watch(w http.ResponseWriter, r *http.Request, resource string) {
	initial := r.URL.Query().Get("sendInitialEvents") == "true"
	if initial && s.old {
		fail(w, http.StatusUnprocessableEntity)
		return
	}
	c := make(chan event, 10000)
	s.mu.Lock()
	if initial {
		for _, name := range slices.Sorted(maps.Keys(s.objects[resource])) {
			c <- event{"ADDED", s.objects[resource][name]}
		}
		kind, version := kinds(resource)
		c <- event{"BOOKMARK", map[string]any{"kind": kind, "apiVersion": version, "metadata": map[string]any{
			"resourceVersion": strconv.Itoa(s.version), "annotations": map[string]any{"k8s.io/initial-events-end": "true"},
		}}}
	} else {
		// What has changed since the list of that version.
		since, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
		for _, object := range s.objects[resource] {
			if v, _ := strconv.Atoi(object["metadata"].(map[string]any)["resourceVersion"].(string)); v > since {
				c <- event{"MODIFIED", object}
			}
		}
	}
	s.watchers[c] = resource
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, c)
	}()
	w.Header().Set("Content-Type", "application/json")
	_ = http.NewResponseController(w).Flush()
	for {
		select {
		case e := <-c:
			s.mu.Lock()
			err := json.NewEncoder(w).Encode(e)
			s.mu.Unlock()
			if err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
		case <-r.Context().Done():
			return
		case <-s.ends:
			return
		}
	}
}

func (s *apiserver) patch(w http.ResponseWriter, r *http.Request, resource, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	object := s.objects[resource][name]
	if object == nil {
		fail(w, http.StatusNotFound)
		return
	}
	if r.Header.Get("Content-Type") != "application/json-patch+json" {
		fail(w, http.StatusUnsupportedMediaType)
		return
	}
	var body json.RawMessage
	_ = json.NewDecoder(r.Body).Decode(&body)
	patch, err := jsonpatch.DecodePatch(body)
	before, _ := json.Marshal(object)
	var after []byte
	if err == nil {
		after, err = patch.Apply(before)
	}
	if err != nil {
		fail(w, http.StatusUnprocessableEntity)
		return
	}
	changed := map[string]any{}
	_ = json.Unmarshal(after, &changed)
	s.store(resource, changed)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(changed)
}

// nodeObject is a Node with taints, and as much else as a real one has.
func nodeObject(name string, taints ...map[string]any) map[string]any {
	list := []any{}
	for _, t := range taints {
		list = append(list, t)
	}
	images := []any{}
	for i := range 50 {
		images = append(images, map[string]any{"names": []any{fmt.Sprintf("registry.example.org/some/image/of/a/usual/length@sha256:%064d", i), fmt.Sprintf("registry.example.org/some/image/of/a/usual/length:v1.%d.0", i)}, "sizeBytes": 123456789})
	}
	return map[string]any{
		"kind": "Node", "apiVersion": "v1",
		"metadata": map[string]any{"name": name, "uid": "uid-of-" + name, "labels": map[string]any{"kubernetes.io/hostname": name}},
		"spec":     map[string]any{"taints": list}, "status": map[string]any{"images": images},
	}
}

func taintObject(key, value, effect string) map[string]any {
	if value == "" {
		return map[string]any{"key": key, "effect": effect}
	}
	return map[string]any{"key": key, "value": value, "effect": effect}
}

// csiNodeObject is a CSINode with our driver, which tells a limit unless that is 0.
func csiNodeObject(name string, limit int) map[string]any {
	ours := map[string]any{"name": driver, "nodeID": "server-of-" + name, "topologyKeys": []any{"zone"}}
	if limit > 0 {
		ours["allocatable"] = map[string]any{"count": limit}
	}
	return csiNodeWith(name, map[string]any{"name": "other.example.org", "nodeID": name, "allocatable": map[string]any{"count": 3}}, ours)
}

func csiNodeWith(name string, drivers ...map[string]any) map[string]any {
	list := []any{}
	for _, d := range drivers {
		list = append(list, d)
	}
	return map[string]any{
		"kind": "CSINode", "apiVersion": "storage.k8s.io/v1",
		"metadata": map[string]any{"name": name, "uid": "csi-" + name, "ownerReferences": []any{
			map[string]any{"apiVersion": "v1", "kind": "Node", "name": name, "uid": "uid-of-" + name},
		}},
		"spec": map[string]any{"drivers": list},
	}
}

// eventually waits until a condition is met; the test's own deadline is the only one.
func eventually(t *testing.T, ctx context.Context, met func() bool) { //nolint:revive // t goes first in tests
	t.Helper()
	for !met() {
		select {
		case <-ctx.Done():
			t.Fatal("it doesn't happen")
		case <-tick():
		}
	}
}
