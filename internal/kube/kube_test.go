package kube_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cinder-csi/cinder-csi/internal/kube"
	"github.com/cinder-csi/cinder-csi/internal/kube/kubetest"
)

// metadata is all of an object that these tests look at.
type metadata struct {
	metav1.ObjectMeta `json:"metadata"`
}

func TestObjectsAreReadAlone(t *testing.T) {
	server := kubetest.New(t, token)
	server.Store(kube.PersistentVolumes, "", "pv-1", map[string]any{"metadata": map[string]any{"uid": "a"}})
	server.Store(kube.Pods, "space", "pod-1", nil)
	c := open(t, kube.Options{Kubeconfig: server.Kubeconfig(t, token)})
	if pv, err := kube.Get[metadata](t.Context(), c, kube.PersistentVolumes, "", "pv-1"); err != nil || pv == nil || pv.UID != "a" {
		t.Errorf("%v, %v", pv, err)
	}
	if pod, err := kube.Get[metadata](t.Context(), c, kube.Pods, "space", "pod-1"); err != nil || pod == nil || pod.Namespace != "space" {
		t.Errorf("%v, %v", pod, err)
	}
	if pod, err := kube.Get[metadata](t.Context(), c, kube.Pods, "space", "pod-2"); err != nil || pod != nil {
		t.Errorf("%v, %v", pod, err)
	}
	server.Without(kube.SnapshotContents)
	if _, err := kube.Get[metadata](t.Context(), c, kube.SnapshotContents, "", "x"); !kube.Unknown(err) {
		t.Errorf("got %v", err)
	}
	server.Instead(func(w http.ResponseWriter, _ *http.Request) {
		kubetest.Status(w, 403, "Forbidden", `User "x" cannot get resource`, "pv-1")
	})
	if _, err := kube.Get[metadata](t.Context(), c, kube.PersistentVolumes, "", "pv-1"); err == nil || !strings.Contains(err.Error(), "the verb get for persistentvolumes") {
		t.Errorf("got %v", err)
	}
}

// stored are names of PersistentVolumes that the server has.
func stored(server *kubetest.Server, n int) {
	for i := range n {
		server.Store(kube.PersistentVolumes, "", fmt.Sprintf("pv-%04d", i), nil)
	}
}

func TestListsAreWhole(t *testing.T) {
	server := kubetest.New(t, token)
	stored(server, 1234)
	server.Store(kube.Pods, "a", "pod-1", nil)
	server.Store(kube.Pods, "b", "pod-1", nil)
	c := open(t, kube.Options{Kubeconfig: server.Kubeconfig(t, token)})
	all, err := kube.List[metadata](t.Context(), c, kube.PersistentVolumes, "")
	if err != nil || len(all) != 1234 || all[1233].Name != "pv-1233" {
		t.Errorf("%d, %v", len(all), err)
	}
	if n := server.Asked(); n != 7 { // pages of 200
		t.Errorf("%d requests", n)
	}
	if pods, err := kube.List[metadata](t.Context(), c, kube.Pods, "a"); err != nil || len(pods) != 1 {
		t.Errorf("%v, %v", pods, err)
	}
	if pods, err := kube.List[metadata](t.Context(), c, kube.Pods, ""); err != nil || len(pods) != 2 {
		t.Errorf("%v, %v", pods, err)
	}
	server.Without(kube.SnapshotContents)
	if _, err := kube.List[metadata](t.Context(), c, kube.SnapshotContents, ""); !kube.Unknown(err) {
		t.Errorf("got %v", err)
	}
}

// A page that can't be had makes the whole list one that can't be had: what isn't in a
// list would be taken for gone.
func TestAListWhosePagesBreakOffIsNone(t *testing.T) {
	for name, test := range map[string]struct {
		code   int
		reason string
		whole  bool
	}{
		"the server fails":       {500, "InternalError", false},
		"the token ends":         {401, "Unauthorized", false},
		"the permission ends":    {403, "Forbidden", false},
		"the pages are outdated": {410, "Expired", true},
	} {
		t.Run(name, func(t *testing.T) {
			server := kubetest.New(t, token)
			stored(server, 501)
			pass := server.Config.Handler
			server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.URL.Query().Get("continue") != "" {
					kubetest.Status(w, test.code, test.reason, "no", "")
					return
				}
				pass.ServeHTTP(w, req)
			})
			c := open(t, kube.Options{Kubeconfig: server.Kubeconfig(t, token)})
			all, err := kube.List[metadata](t.Context(), c, kube.PersistentVolumes, "")
			if test.whole && (err != nil || len(all) != 501) || !test.whole && (err == nil || all != nil) {
				t.Errorf("%d, %v", len(all), err)
			}
		})
	}
}

// A large cluster is never in memory as a whole.
func TestEachObjectIsHandedOutBeforeTheNextPageIsRead(t *testing.T) {
	server := kubetest.New(t, token)
	stored(server, 501)
	pass, found := server.Config.Handler, 0
	var before []int
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		before = append(before, found)
		pass.ServeHTTP(w, req)
	})
	c := open(t, kube.Options{Kubeconfig: server.Kubeconfig(t, token)})
	if err := kube.Each(t.Context(), c, kube.PersistentVolumes, func(*metadata) { found++ }); err != nil {
		t.Fatal(err)
	}
	if found != 501 || !slices.Equal(before, []int{0, 200, 400}) {
		t.Errorf("%d objects, and %v before the pages", found, before)
	}
}

func TestProgramsLogIn(t *testing.T) {
	server := kubetest.New(t, token)
	server.Put("space/data-0", nil)
	program := filepath.Join(t.TempDir(), "log-in")
	credential := fmt.Sprintf(`{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":%q}}`, token)
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho '"+credential+"'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	path := kubeconfig(t, fmt.Sprintf("{server: %q, insecure-skip-tls-verify: true}", server.URL),
		fmt.Sprintf("{exec: {apiVersion: client.authentication.k8s.io/v1, command: %q, interactiveMode: Never}}", program))
	c := open(t, kube.Options{Kubeconfig: path})
	if _, err := c.Annotations(t.Context(), kube.Claims, "space", "data-0"); err != nil {
		t.Error(err)
	}
}

func TestAPasswordLogsInAndAsSomebodyElse(t *testing.T) {
	server := kubetest.New(t, token)
	for user, want := range map[string]string{
		"{username: u, password: p}": "Basic dTpw ",
		"{token: t, as: admin}":      "Bearer t admin",
	} {
		got := ""
		server.Instead(func(w http.ResponseWriter, req *http.Request) {
			got = req.Header.Get("Authorization") + " " + req.Header.Get("Impersonate-User")
			http.NotFound(w, req)
		})
		path := kubeconfig(t, fmt.Sprintf("{server: %q, insecure-skip-tls-verify: true}", server.URL), user)
		if _, err := open(t, kube.Options{Kubeconfig: path}).Annotations(t.Context(), kube.Claims, "space", "data-0"); err == nil || got != want {
			t.Errorf("%s: %q, %v", user, got, err)
		}
	}
}

func TestTheKubeconfigIsFoundAsKubectlFindsIt(t *testing.T) {
	server := kubetest.New(t, token)
	server.Put("space/data-0", nil)
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("KUBECONFIG", "")
	asked := func(opts kube.Options) {
		t.Helper()
		if _, err := open(t, opts.AsKubectl()).Annotations(t.Context(), kube.Claims, "space", "data-0"); err != nil {
			t.Error(err)
		}
	}
	asked(kube.Options{ServiceAccountDir: server.ServiceAccount(t, token)})
	text, err := os.ReadFile(server.Kubeconfig(t, token))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(home, ".kube"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".kube", "config"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	asked(kube.Options{})
	asked(kube.Options{Kubeconfig: server.Kubeconfig(t, token)})
	// Two halves, and a file that doesn't exist, which kubectl passes over.
	halves := []string{
		write(t, "apiVersion: v1\nkind: Config\ncurrent-context: one\ncontexts: [{name: one, context: {cluster: here, user: driver}}]\n"),
		"/no/such/file", server.Kubeconfig(t, token),
	}
	t.Setenv("KUBECONFIG", strings.Join(halves, string(os.PathListSeparator)))
	asked(kube.Options{})
}
