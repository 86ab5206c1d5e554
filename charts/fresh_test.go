package charts

import (
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.yaml.in/yaml/v2"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/driver"
)

// scrape runs a driver that nobody asks for anything, and returns its metrics when the page
// ready says that it is.
func scrape(t *testing.T, cfg driver.Config, ready string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.HTTPEndpoint = listener.Addr().String()
	cfg.Endpoint, cfg.Cluster, cfg.DefaultFSType = "unix://"+filepath.Join(t.TempDir(), "csi.sock"), "fresh", "ext4"
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- driver.Run(ctx, cfg, zap.NewNop()) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	for {
		if status, _ := get(t, "http://"+cfg.HTTPEndpoint+ready); status == http.StatusOK {
			break
		}
		select {
		case err := <-done:
			done <- err
			t.Fatal("the driver ended")
		case <-t.Context().Done():
			t.Fatal("the driver was never ready")
		case <-time.After(50 * time.Millisecond):
		}
	}
	_, text := get(t, "http://"+cfg.HTTPEndpoint+"/metrics")
	return text
}

// get returns the status and the body of an answer, 0 where there is none.
func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, ""
	}
	return answer.StatusCode, string(text)
}

// steady are the samples of a scrape that rules name, as series of a test of alerts that
// stay as they are, with the labels of a target.
func steady(rules objects, scraped, target string, steps int) []any {
	var named strings.Builder
	for _, rule := range rules {
		named.WriteString(rule.text("expr"))
	}
	var all []any
	for line := range strings.SplitSeq(scraped, "\n") {
		cut := strings.LastIndex(line, " ")
		if strings.HasPrefix(line, "#") || cut < 0 {
			continue
		}
		name, labels, _ := strings.Cut(strings.TrimSuffix(line[:cut], "}"), "{")
		value, err := strconv.ParseFloat(line[cut+1:], 64)
		if err != nil || !strings.Contains(named.String(), name+"{") {
			continue
		}
		if math.IsInf(value, 1) {
			value = math.MaxFloat32 // series of tests have no notation for it
		}
		if labels != "" {
			labels = "," + labels
		}
		all = append(all, object{"series": name + "{" + target + labels + "}", "values": fmt.Sprintf("%sx%d", strconv.FormatFloat(value, 'f', -1, 64), steps)})
	}
	return all
}

// TestAFreshInstallRaisesNoAlert: what two replicas of the controller and a node export
// that nobody has asked for anything yet calls for nobody, not after a day either.
func TestAFreshInstallRaisesNoAlert(t *testing.T) {
	cloud, err := devcloud.Start(t.Context(), devcloud.Config{
		StateDir: t.TempDir(), Disks: devcloud.DisksNone, Servers: []devcloud.Server{{Name: "n1", Zone: "az1"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cloud.Close() })
	conf := filepath.Join(t.TempDir(), "cloud.conf")
	if err := os.WriteFile(conf, []byte(cloud.CloudConf()), 0o600); err != nil {
		t.Fatal(err)
	}
	const steps = 380 // of four minutes: Prometheus goes on with a sample for five
	var series []any
	rules := alerts(t)
	for i := range 2 {
		target := fmt.Sprintf(`namespace="kube-system",pod="controller-%d",instance="10.0.0.%d:8080"`, i, i)
		series = append(series, steady(rules, scrape(t, driver.Config{Controller: true, CloudNames: []string{""}, CloudConfig: []string{conf}}, "/readyz"), target, steps)...)
	}
	node := steady(rules, scrape(t, driver.Config{Node: true, NodeID: "00000000-0000-4000-8000-000000000001"}, "/healthz"), `namespace="kube-system",pod="node-a",node="n1",instance="10.0.1.1:9808"`, steps)
	series = append(series, node...)
	for _, name := range []string{"cinder_csi_build_info", "cinder_csi_cloud_up", "cinder_csi_node_refusals_total"} {
		if !slices.ContainsFunc(series, func(s any) bool { o, _ := s.(object); return strings.HasPrefix(o.text("series"), name+"{") }) {
			t.Errorf("nothing exports %s", name)
		}
	}
	var quiet []any
	for _, name := range alertNames(t) {
		for _, after := range []string{"8m", "40m", "25h"} {
			quiet = append(quiet, object{"alertname": name, "eval_time": after, "exp_alerts": []any{}})
		}
	}
	text, err := yaml.Marshal(object{"rule_files": []string{"rules.yaml"}, "evaluation_interval": "4m", "tests": []any{object{"interval": "4m", "input_series": series, "alert_rule_test": quiet}}})
	dir := t.TempDir()
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "fresh.yaml"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	writeRules(t, filepath.Join(dir, "rules.yaml"), rules)
	promtool(t, "test", "rules", filepath.Join(dir, "fresh.yaml"))
}
