package tests

import (
	"compress/gzip"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// isBundled: the support bundle has the driver's objects, logs and metrics, and none of the secrets
// that are in the cluster.
func isBundled(s *scenario) {
	secrets := []string{"canary-in-a-secret", "canary-in-an-annotation", "canary-in-a-parameter"}
	_, err := s.kube.CoreV1().Secrets(s.namespace).Create(s.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "luks"}, StringData: map[string]string{"passphrase": secrets[0]},
	}, metav1.CreateOptions{})
	s.must(err, "making a Secret")
	class := s.storageClass("secret", func(c *storagev1.StorageClass) {
		c.Annotations = map[string]string{"kubectl.kubernetes.io/last-applied-configuration": secrets[1]}
		c.Parameters = map[string]string{"password": secrets[2]}
	})
	s.afterwards("deleting the class", func(ctx context.Context) error {
		return s.kube.StorageV1().StorageClasses().Delete(ctx, s.class(class), metav1.DeleteOptions{})
	})
	s.running("pod", withClaim(s.claim("data", xfs)))
	pv := s.bound("data")
	conf := filepath.Join(s.cluster.Dir, "run", "cloud.conf")
	content, err := os.ReadFile(conf)
	s.must(err, "reading cloud.conf")
	_, rest, _ := strings.Cut(string(content), "password=")
	password, _, _ := strings.Cut(rest, "\n")
	secrets = append(secrets, password)

	dir := s.TempDir()
	file := filepath.Join(dir, "bundle.tar.gz")
	command := exec.CommandContext(s.Context(), buildPlugin(s.T, s.cluster.Source, dir), "support-bundle", "--cloud-config="+conf, "--volume="+s.namespace+"/data", "--file="+file)
	command.Env = append(os.Environ(), "KUBECONFIG="+s.cluster.Kubeconfig)
	out, err := command.CombinedOutput()
	s.Logf("$ cinder-csi-plugin support-bundle: %s", out)
	if command.ProcessState == nil || command.ProcessState.ExitCode() == 1 {
		s.Fatalf("no bundle: %v", err)
	}
	archive, err := os.Open(file)
	s.must(err, "reading the bundle")
	defer func() { _ = archive.Close() }()
	zip, err := gzip.NewReader(archive)
	s.must(err, "reading the bundle")
	text, err := io.ReadAll(zip)
	s.must(err, "reading the bundle")
	for _, secret := range secrets {
		if strings.Contains(string(text), secret) {
			s.Errorf("the bundle has %q", secret)
		}
	}
	for _, wanted := range []string{
		pv.Name, s.class(class), "kubernetes/csinodes.json", "kubernetes/deployments.json", "/csi-provisioner.log", "cinder_csi_cloud_up{", "check-config.json",
		"inspect/volume-" + s.namespace + "-data.txt", `"method":"CreateVolume"`,
	} {
		if !strings.Contains(string(text), wanted) {
			s.Errorf("the bundle lacks %q", wanted)
		}
	}
}
