package demo

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// homePattern names the demo's directories.
const homePattern = "cinder-csi-demo-*"

// home is the directory that everything of one demo lies in. While the demo
// lives it holds a lock on a file there, so that a later one can tell what a
// dead one has left.
type home struct {
	dir  string
	lock *os.File
}

// errNoDevices: device nodes are dead on the filesystem.
var errNoDevices = errors.New("it is mounted with nodev, device nodes don't work there")

// maxSocketPath is how long the path of a unix socket can be, in bytes.
const maxSocketPath = 107

// bases are the directories to try when none is asked for: many systems mount
// /tmp with nodev.
func bases(asked string) []string {
	if asked != "" {
		return []string{asked}
	}
	return []string{os.TempDir(), "/var/tmp", "/var/lib"}
}

// newHome makes the directory below the first base on which device nodes
// work.
func newHome(bases ...string) (*home, error) {
	var refused error
	for _, base := range bases {
		h, err := newHomeIn(base)
		if err == nil {
			return h, nil
		}
		refused = errors.Join(refused, err)
		if !errors.Is(err, errNoDevices) {
			break
		}
	}
	return nil, fmt.Errorf("%w; choose another place with TMPDIR", refused)
}

func newHomeIn(base string) (*home, error) {
	dir, err := os.MkdirTemp(base, homePattern)
	if err != nil {
		return nil, fmt.Errorf("make a directory for the demo: %w", err)
	}
	// The kernel names mounts and backing files by their real paths.
	resolved, err := filepath.EvalSymlinks(dir)
	if err == nil {
		resolved, err = filepath.Abs(resolved)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a directory for the demo: %w", err), os.Remove(dir))
	}
	h := &home{dir: resolved}
	if err := h.settle(); err != nil {
		h.unlock()
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return h, nil
}

// settle makes sure that the directory will do, and fills it.
func (h *home) settle() error {
	if err := h.check(); err != nil {
		return fmt.Errorf("%s can't be used: %w", filepath.Dir(h.dir), err)
	}
	if err := h.takeLock(); err != nil {
		return err
	}
	return h.furnish()
}

// check refuses a filesystem on which device nodes are dead, and a path that
// sockets can't have.
func (h *home) check() error {
	var st unix.Statfs_t
	if err := unix.Statfs(h.dir, &st); err != nil {
		return err
	}
	if st.Flags&unix.ST_NODEV != 0 {
		return errNoDevices
	}
	if n := len(h.socket(Controller)); n > maxSocketPath {
		return fmt.Errorf("its path is %d bytes too long for a socket", n-maxSocketPath)
	}
	return nil
}

// takeLock takes the lock before the file gets its name: whoever sees the file
// unlocked knows that its owner is dead.
func (h *home) takeLock() error {
	f, err := os.OpenFile(filepath.Join(h.dir, "lock.new"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock %s: %w", h.dir, err)
	}
	h.lock = f
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("lock %s: %w", h.dir, err)
	}
	if err := os.Rename(f.Name(), h.lockPath()); err != nil {
		return fmt.Errorf("lock %s: %w", h.dir, err)
	}
	return nil
}

func (h *home) furnish() error {
	for _, sub := range []string{"logs", "run", "tmp", Node1, Node2} {
		if err := os.Mkdir(filepath.Join(h.dir, sub), 0o750); err != nil {
			return fmt.Errorf("make a directory for the demo: %w", err)
		}
	}
	return nil
}

func (h *home) unlock() {
	if h.lock != nil {
		_ = h.lock.Close()
	}
}

// id returns what tells this demo's names from another's.
func (h *home) id() string {
	return strings.TrimPrefix(filepath.Base(h.dir), strings.TrimSuffix(homePattern, "*"))
}

func (h *home) lockPath() string           { return filepath.Join(h.dir, "lock") }
func (h *home) cloudState() string         { return filepath.Join(h.dir, "cloud") }
func (h *home) cloudConf() string          { return filepath.Join(h.dir, "cloud.conf") }
func (h *home) log(name string) string     { return filepath.Join(h.dir, "logs", name+".log") }
func (h *home) socket(name string) string  { return filepath.Join(h.dir, "run", name+".sock") }
func (h *home) kubelet(name string) string { return filepath.Join(h.dir, name) }

// remove takes the directory away, logs and all; with keepLogs the logs stay.
// It refuses while something is still mounted below.
func (h *home) remove(keepLogs bool) error {
	mounts, err := mountsBelow(h.dir)
	if err != nil {
		return err
	}
	if len(mounts) > 0 {
		return fmt.Errorf("%s stays: still mounted there: %v", h.dir, mounts)
	}
	defer h.unlock()
	if !keepLogs {
		return os.RemoveAll(h.dir)
	}
	entries, err := os.ReadDir(h.dir)
	if err != nil {
		return err
	}
	var failed error
	for _, e := range entries {
		if e.Name() != "logs" {
			failed = errors.Join(failed, os.RemoveAll(filepath.Join(h.dir, e.Name())))
		}
	}
	return failed
}
