package driver_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/driver"
	"github.com/cinder-csi/cinder-csi/internal/kube"
	"github.com/cinder-csi/cinder-csi/internal/kube/kubetest"
)

// A cloud that was never reached is told of in an event of the CSIDriver, where no pod is
// known. It takes as long as such an event does: a minute.
func TestACloudThatIsDownIsToldOfInAnEvent(t *testing.T) {
	t.Parallel()
	conf := filepath.Join(t.TempDir(), "cloud.conf")
	if err := os.WriteFile(conf, []byte("[Global]\nauth-url = http://127.0.0.1:1/v3\nusername = demo\npassword = canary-3d1c\ntenant-name = demo\ndomain-name = Default\nregion = RegionOne\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	server := kubetest.New(t, "token")
	told := make(chan string, 100)
	server.Instead(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		told <- r.Method + " " + r.URL.Path + " " + string(body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"kind":"Event","apiVersion":"v1","metadata":{"name":"one"}}`))
	})
	start(t, driver.Config{
		Controller: true, Cluster: "test", CloudConfig: []string{conf}, CloudNames: []string{""},
		Events: true, Kubernetes: kube.Options{Kubeconfig: server.Kubeconfig(t, "token")},
	})
	said := <-told
	request, body, _ := strings.Cut(said, "{")
	var event struct {
		InvolvedObject struct{ Kind, Name string }
		Reason, Type   string
		Message        string
	}
	if err := json.Unmarshal([]byte("{"+body), &event); err != nil {
		t.Fatal(err)
	}
	if request != "POST /api/v1/namespaces/default/events " || event.InvolvedObject.Kind != "CSIDriver" || event.Reason != "CloudUnavailable" || event.Type != "Warning" ||
		!strings.Contains(event.Message, "refused") || strings.Contains(said, "canary-3d1c") {
		t.Errorf("told: %s", said)
	}
}
