package cluster

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk/loop"
)

// bind binds a loop device and frees it at the end of the test.
func bind(t *testing.T, dir, path, label string) loopDevice {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("loop devices need root: run the tests as root")
	}
	bound, err := loop.NewOpener(dir).Bind(path, label, false)
	if err != nil {
		t.Fatal(err)
	}
	d := loopDevice{name: bound.Name()}
	t.Cleanup(func() {
		if err := d.detach(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestLoopDevicesThatADeadKubeletLeftAreTheirNodesOnly(t *testing.T) {
	p := Paths{Dir: t.TempDir()}
	volume := func(name string) string {
		path := filepath.Join(p.cloudState(), "disks", "volumes", name)
		if err := writeFile(path, make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	one := bind(t, p.Dir, volume("one"), "vdb n1 one")
	two := bind(t, p.Dir, volume("two"), "vdb n2 two")
	onOne := bind(t, p.Dir, "/dev/"+one.name, "the kubelet's")
	onTwo := bind(t, p.Dir, "/dev/"+two.name, "the kubelet's")
	elsewhere := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(elsewhere, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	foreign := bind(t, p.Dir, elsewhere, "vdb n1 foreign")
	onForeign := bind(t, p.Dir, "/dev/"+foreign.name, "somebody's")

	if err := p.detachStacked("n1"); err != nil {
		t.Fatal(err)
	}
	wantBound(t, map[loopDevice]bool{one: true, two: true, onOne: false, onTwo: true, foreign: true, onForeign: true})
	if err := p.detachStacked(""); err != nil {
		t.Fatal(err)
	}
	wantBound(t, map[loopDevice]bool{one: true, two: true, onTwo: false, foreign: true, onForeign: true})
}

func wantBound(t *testing.T, want map[loopDevice]bool) {
	t.Helper()
	all, err := listLoops()
	if err != nil {
		t.Fatal(err)
	}
	bound := map[string]bool{}
	for _, d := range all {
		bound[d.name] = true
	}
	for d, yes := range want {
		if bound[d.name] != yes {
			t.Errorf("%s is bound: %v, want %v", d.name, bound[d.name], yes)
		}
	}
}
