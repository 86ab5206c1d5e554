package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// enterRoot gives the calling process, which has a mount namespace of its own,
// a root of its own: an overlay of the machine's, whose changes are in memory
// and go with the node, with the node's own /dev, /proc, /run and /tmp, and its
// state, which survives the node, from the state directory.
func (p Paths) enterRoot(s spec) error {
	// Nothing that is mounted from here on reaches the machine.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	machine, err := machineMounts()
	if err != nil {
		return err
	}
	root, err := p.overlayRoot(s.name)
	if err != nil {
		return err
	}
	for _, m := range p.nodeMounts(s.name, machine) {
		if err := m.at(root); err != nil {
			return err
		}
	}
	if err := makeDevices(filepath.Join(root, "dev")); err != nil {
		return err
	}
	return switchRoot(root)
}

// overlayRoot mounts an overlay of the machine's root.
func (p Paths) overlayRoot(node string) (string, error) {
	base := p.node(node, "root")
	if err := os.MkdirAll(base, 0o755); err != nil { // #nosec G301 -- the root of every user in the node
		return "", err
	}
	if err := unix.Mount("tmpfs", base, "tmpfs", 0, "mode=755"); err != nil {
		return "", fmt.Errorf("mount tmpfs on %s: %w", base, err)
	}
	upper, work, root := filepath.Join(base, "upper"), filepath.Join(base, "work"), filepath.Join(base, "root")
	for _, dir := range []string{upper, work, root} {
		if err := os.Mkdir(dir, 0o755); err != nil { // #nosec G301 -- the root of every user in the node
			return "", err
		}
	}
	options := "lowerdir=/,upperdir=" + upper + ",workdir=" + work
	if err := unix.Mount("overlay", root, "overlay", 0, options); err != nil {
		return "", fmt.Errorf("mount an overlay of / on %s: %w", root, err)
	}
	return root, nil
}

// nodeMount is something mounted in a node's root.
type nodeMount struct {
	source, target string
	kind           string // filesystem; "" binds source
	flags          uintptr
	options        string
}

func (m nodeMount) at(root string) error {
	target := filepath.Join(root, m.target)
	if err := os.MkdirAll(target, 0o755); err != nil { // #nosec G301 -- as on any machine
		return err
	}
	flags := m.flags
	if m.kind == "" {
		flags |= unix.MS_BIND
		if err := os.MkdirAll(m.source, 0o755); err != nil { // #nosec G301 -- as on any machine
			return err
		}
	}
	if err := unix.Mount(m.source, target, m.kind, flags, m.options); err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.source, target, err)
	}
	return nil
}

// nodeMounts are a node's mounts, in order.
func (p Paths) nodeMounts(node string, machine []string) []nodeMount {
	var mounts []nodeMount
	for _, dir := range machine {
		mounts = append(mounts, nodeMount{source: dir, target: dir})
	}
	return append(mounts,
		nodeMount{source: "proc", target: "/proc", kind: "proc"},
		nodeMount{source: "/sys", target: "/sys", flags: unix.MS_REC},
		nodeMount{source: p.devices(node), target: "/dev"},
		nodeMount{source: "devpts", target: "/dev/pts", kind: "devpts", options: "newinstance,ptmxmode=0666,mode=0620,gid=5"},
		nodeMount{source: "tmpfs", target: "/dev/shm", kind: "tmpfs", options: "mode=1777"},
		nodeMount{source: "mqueue", target: "/dev/mqueue", kind: "mqueue"},
		nodeMount{source: "tmpfs", target: "/run", kind: "tmpfs", options: "mode=755"},
		nodeMount{source: "tmpfs", target: "/tmp", kind: "tmpfs", options: "mode=1777"},
		nodeMount{source: p.Dir, target: p.Dir},
		nodeMount{source: p.node(node, "kubelet"), target: "/var/lib/kubelet"},
		nodeMount{source: p.node(node, "containerd"), target: "/var/lib/containerd"},
		nodeMount{source: p.node(node, "pods"), target: "/var/log/pods"},
	)
}

// machineMounts returns which of the directories that programs need are
// filesystems of their own on this machine, parents first: an overlay shows the
// root's only.
func machineMounts() ([]string, error) {
	var found []string
	for _, dir := range []string{"/usr", "/usr/local", "/etc", "/opt", "/var", "/var/lib"} {
		mounted, err := mountinfo.Mounted(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if mounted {
			found = append(found, dir)
		}
	}
	return found, nil
}

// switchRoot makes root the root and forgets the old one.
func switchRoot(root string) error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot into %s: %w", root, err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of the machine's root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	// The kubelet passes what it mounts on to containers, and takes theirs.
	return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")
}

// write writes the node's own files over those of the machine.
func (f nodeFile) write() error {
	if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return writeFile(f.path, f.content, 0o644)
}
