package blockdev

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

const (
	volumeA = "6a4b9c0e-3f1d-4e57-9a60-1f2e3d4c5b6a"
	volumeB = "6a4b9c0e-3f1d-4e57-9b71-000000000002" // the same first 20 characters
	volumeC = "0c9d8e7f-1111-4222-8333-444455556666"
	gib     = 1 << 30
)

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests make device nodes and loop devices: run them as root")
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// tree is a made-up machine: its /dev, /sys and /proc.
type tree struct {
	t    testing.TB
	root string
}

// newTree returns a machine with a system disk, vda, and a CD-ROM.
func newTree(t testing.TB) *tree {
	tr := &tree{t: t, root: t.TempDir()}
	for _, dir := range []string{"dev/disk/by-id", "sys/block", "sys/dev/block", "proc/self"} {
		tr.dir(dir)
	}
	tr.mounts("22 1 252:1 / / rw,relatime - ext4 /dev/vda1 rw")
	tr.file("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n")
	tr.disk("vda", "252:0", map[string]string{"vda1/partition": "1", "vda1/dev": "252:1"})
	tr.disk("sr0", "11:0", nil)
	return tr
}

func (tr *tree) path(name string) string { return filepath.Join(tr.root, name) }

func (tr *tree) dir(name string) {
	tr.t.Helper()
	if err := os.MkdirAll(tr.path(name), 0o750); err != nil {
		tr.t.Fatal(err)
	}
}

func (tr *tree) file(name, content string) {
	tr.t.Helper()
	tr.dir(filepath.Dir(name))
	if err := os.WriteFile(tr.path(name), []byte(content), 0o600); err != nil {
		tr.t.Fatal(err)
	}
}

func (tr *tree) link(target, name string) {
	tr.t.Helper()
	tr.dir(filepath.Dir(name))
	if err := os.Symlink(target, tr.path(name)); err != nil {
		tr.t.Fatal(err)
	}
}

func (tr *tree) remove(name string) {
	tr.t.Helper()
	if err := os.RemoveAll(tr.path(name)); err != nil {
		tr.t.Fatal(err)
	}
}

// mounts sets mountinfo.
func (tr *tree) mounts(lines ...string) {
	tr.t.Helper()
	tr.file("proc/self/mountinfo", strings.Join(lines, "\n")+"\n")
}

// node makes a block device node. Nothing opens it.
func (tr *tree) node(name, number string) {
	tr.t.Helper()
	n, err := parseNumber(number)
	if err != nil {
		tr.t.Fatal(err)
	}
	tr.remove("dev/" + name)
	if err := unix.Mknod(tr.path("dev/"+name), unix.S_IFBLK|0o600, int(n)); err != nil {
		tr.t.Fatal(err)
	}
}

// disk makes a disk of 1 GiB with its node and the attributes given.
func (tr *tree) disk(name, number string, attributes map[string]string) {
	tr.t.Helper()
	base := "sys/block/" + name + "/"
	tr.file(base+"dev", number+"\n")
	tr.file(base+"size", strconv.Itoa(gib/sectorSize)+"\n")
	tr.file(base+"diskseq", "7\n")
	tr.dir(base + "holders")
	for attribute, value := range attributes {
		tr.file(base+attribute, value)
	}
	tr.link("../../block/"+name, "sys/dev/block/"+number)
	tr.node(name, number)
}

// hang makes a file that can't be opened for writing until the test ends.
func (tr *tree) hang(name string) {
	tr.t.Helper()
	tr.dir(filepath.Dir(name))
	if err := unix.Mkfifo(tr.path(name), 0o600); err != nil {
		tr.t.Fatal(err)
	}
	tr.t.Cleanup(func() { // whoever hangs goes on; goleak waits for them
		if fd, err := unix.Open(tr.path(name), unix.O_RDONLY|unix.O_NONBLOCK, 0); err == nil {
			tr.t.Cleanup(func() { _ = unix.Close(fd) })
			time.Sleep(50 * time.Millisecond)
		}
	})
}

func (tr *tree) system() *System {
	return &System{DevDir: tr.path("dev"), SysDir: tr.path("sys"), ProcDir: tr.path("proc")}
}

// page builds a SCSI vital product data page.
func page(code byte, payload string) string {
	return string([]byte{0, code, byte(len(payload) >> 8), byte(len(payload))}) + payload
}

// part builds a designation descriptor of page 0x83.
func part(set, kind byte, value string) string {
	return string([]byte{set, kind, 0, byte(len(value))}) + value
}
