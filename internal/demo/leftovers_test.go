package demo

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCompare(t *testing.T) {
	const dir = "/tmp/demo-1"
	before := inventory{
		loops:  map[string]string{"/dev/loop0": "/other/file"},
		mounts: map[string]string{"/ (mount 1)": "/dev/vda", "/mnt (mount 2)": "/dev/loop0"},
	}
	same := inventory{loops: before.loops, mounts: before.mounts}
	tests := []struct {
		name  string
		after inventory
		want  difference
	}{
		{"nothing changed", same, difference{}},
		{"a loop device below the directory is our own",
			inventory{loops: map[string]string{"/dev/loop0": "/other/file", "/dev/loop1": dir + "/cloud/volumes/volume-1"}, mounts: before.mounts},
			difference{own: []string{"loop device /dev/loop1 on " + dir + "/cloud/volumes/volume-1"}}},
		{"so is one whose file is deleted",
			inventory{loops: map[string]string{"/dev/loop0": "/other/file", "/dev/loop1": dir + "/v (deleted)"}, mounts: before.mounts},
			difference{own: []string{"loop device /dev/loop1 on " + dir + "/v (deleted)"}}},
		{"a directory with the same beginning is somebody else's",
			inventory{loops: map[string]string{"/dev/loop0": "/other/file", "/dev/loop1": dir + "2/v"}, mounts: before.mounts},
			difference{others: []string{"new loop device /dev/loop1 on " + dir + "2/v"}}},
		{"a mount below the directory is our own",
			inventory{loops: before.loops, mounts: map[string]string{"/ (mount 1)": "/dev/vda", "/mnt (mount 2)": "/dev/loop0", dir + "/node1/x (mount 3)": "/dev/loop9"}},
			difference{own: []string{"mount of /dev/loop9 at " + dir + "/node1/x (mount 3)"}}},
		{"a mount elsewhere of our own loop device is our own",
			inventory{
				loops:  map[string]string{"/dev/loop0": "/other/file", "/dev/loop1": dir + "/v"},
				mounts: map[string]string{"/ (mount 1)": "/dev/vda", "/mnt (mount 2)": "/dev/loop0", "/mnt2 (mount 3)": "/dev/loop1"},
			},
			difference{own: []string{"loop device /dev/loop1 on " + dir + "/v", "mount of /dev/loop1 at /mnt2 (mount 3)"}}},
		{"what is gone is told",
			inventory{loops: map[string]string{}, mounts: map[string]string{"/ (mount 1)": "/dev/vda"}},
			difference{others: []string{"loop device /dev/loop0 on /other/file is gone", "mount of /dev/loop0 at /mnt (mount 2) is gone"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, compare(before, tt.after, dir), cmp.AllowUnexported(difference{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestTheInventoryReadsLoopDevicesFromSysfs(t *testing.T) {
	sys := t.TempDir()
	for name, backing := range map[string]string{"loop3": "/x/file\n", "loop4": ""} {
		dir := filepath.Join(sys, name, "loop")
		if backing == "" {
			dir = filepath.Join(sys, name)
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if backing == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "backing_file"), []byte(backing), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	inv, err := takeInventory(sys)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"/dev/loop3": "/x/file"}, inv.loops); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if len(inv.mounts) == 0 {
		t.Error("no mounts on this machine?")
	}
}
