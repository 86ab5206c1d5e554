package supervisor

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// inside tells the test that it is to become another program.
const inside = "CINDER_CSI_BECOME_IN"

func TestAHostHasANameAndMountsOfItsOwn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("namespaces are root's to make: run this test as root")
	}
	if dir := os.Getenv(inside); dir != "" {
		t.Fatal(Become("other", []Mount{Bind(dir+"/own", dir+"/place/new")}, "sh", "-c", "uname -n; cat "+dir+"/place/new/file"))
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "own"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "own", "file"), []byte("here"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), inside+"="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "other\nhere" {
		t.Errorf("the program says %q, %v", out, err)
	}
	if name, err := os.Hostname(); err != nil || name == "other" {
		t.Errorf("the machine itself is called %q, %v", name, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "place", "new", "file")); err == nil {
		t.Error("the machine itself sees the mount")
	}
}
