package tests

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/openstack"
)

// isToldOf: inspect volume says that all sides agree while a volume is used and after it has
// grown, says when it grew behind Kubernetes' back, and the command that it tells mends that.
func isToldOf(s *scenario) {
	plugin := buildPlugin(s.T, s.cluster.Source, s.TempDir())
	conf := filepath.Join(s.cluster.Dir, "run", "cloud.conf")
	claim := s.claim("data", xfs)
	w := s.writer("writer", withClaim(claim))
	pv := s.bound(claim)
	names := []string{s.namespace + "/" + claim, pv.Name, handleOf(*pv)}
	well := func() {
		for _, name := range names {
			s.inspected(0, "All sides agree.", plugin, "inspect", "volume", name, "--cloud-config="+conf)
		}
		s.inspected(0, "All sides agree.", filepath.Join(s.cluster.BinDir, "kubectl"), "exec", "--namespace", driverNamespace,
			"deployment/"+controllerName, "--container", "cinder-csi-plugin", "--", "/bin/cinder-csi-plugin", "inspect", "volume", names[0])
	}
	well()
	s.editClaim(claim, "1Gi", "2Gi")
	s.capacity(claim, "2Gi")
	well()

	config, err := openstack.ReadConfig(conf)
	s.must(err, "reading cloud.conf")
	section, err := config.Cloud("")
	s.must(err, "reading cloud.conf")
	client, err := openstack.Connect(s.Context(), section, openstack.Options{})
	s.must(err, "logging in")
	s.Cleanup(client.Close)
	s.must(client.ExtendVolume(s.Context(), handleOf(*pv), 3, true), "having the volume grow in Cinder")
	said := s.inspected(1, "kubectl patch pvc", plugin, "inspect", "volume", names[0], "--cloud-config="+conf)
	_, cure, _ := strings.Cut(said, "kubectl patch pvc")
	cure, _, _ = strings.Cut(cure, "\n")
	s.inspected(0, "patched", "/bin/sh", "-c", filepath.Join(s.cluster.BinDir, "kubectl")+" patch pvc"+cure)
	s.capacity(claim, "3Gi")
	well()
	w.neverStopped()
}

// inspected runs a command until it ends with a status and says a word.
func (s *scenario) inspected(status int, word, program string, args ...string) (said string) {
	s.Helper()
	s.eventually("an answer of "+program+" "+strings.Join(args, " "), func(ctx context.Context) error {
		command := exec.CommandContext(ctx, program, args...)
		command.Env = append(os.Environ(), "KUBECONFIG="+s.cluster.Kubeconfig)
		out, _ := command.CombinedOutput()
		said = string(out)
		if command.ProcessState == nil || command.ProcessState.ExitCode() != status || !strings.Contains(said, word) {
			return fmt.Errorf("want exit status %d and %q: %s", status, word, said)
		}
		return nil
	})
	return said
}
