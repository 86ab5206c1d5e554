package cluster

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// emptyTimeout is how long killed processes may take to be gone: those that hold
// filesystems write them back first.
const emptyTimeout = 60 * time.Second

// groups are the machine's control groups: the unified hierarchy, which knows
// and kills our processes, and those of version 1, where there are any, in which
// the kubelet accounts for pods.
type groups struct {
	root    string // ours in each of them
	unified string
	legacy  []string
}

// findGroups reads the hierarchies from a mountinfo file.
func findGroups(mountinfo string) (groups, error) {
	f, err := os.Open(mountinfo)
	if err != nil {
		return groups{}, err
	}
	defer func() { _ = f.Close() }()
	var g groups
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		where, what := strings.Fields(before), strings.Fields(after)
		if len(where) < 5 || len(what) < 1 {
			continue
		}
		switch {
		case what[0] == "cgroup2" && g.unified == "":
			g.unified = where[4]
		case what[0] == "cgroup" && !slices.Contains(g.legacy, where[4]):
			g.legacy = append(g.legacy, where[4])
		}
	}
	if g.unified == "" && lines.Err() == nil {
		return g, errors.New("cgroup2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup/unified")
	}
	return g, lines.Err()
}

// groups returns the control groups of the cluster in a state directory.
func (p Paths) groups() (groups, error) {
	g, err := findGroups("/proc/self/mountinfo")
	g.root = p.groupRoot()
	return g, err
}

// groupRoot is the control group that holds every process of the cluster; one in
// another place has another.
func (p Paths) groupRoot() string {
	const name = "cinder-e2e"
	if p.Dir == DefaultDir {
		return name
	}
	return fmt.Sprintf("%s-%.4x", name, sha256.Sum256([]byte(p.Dir)))
}

// dir is a group of the unified hierarchy, below ours.
func (g groups) dir(parts ...string) string {
	return filepath.Join(append([]string{g.unified, g.root}, parts...)...)
}

// pids returns the processes in a group itself; none if the group isn't there.
func (g groups) pids(parts ...string) ([]int, error) {
	data, err := os.ReadFile(filepath.Join(g.dir(parts...), "cgroup.procs"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var pids []int
	for field := range strings.FieldsSeq(string(data)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", g.dir(parts...), err)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// kill ends every process in a group and below it, and removes the group from
// all hierarchies. It is no error when there is none.
func (g groups) kill(ctx context.Context, parts ...string) error {
	dir := g.dir(parts...)
	if exists(dir) {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0); err != nil {
			return fmt.Errorf("kill the processes in %s: %w", dir, err)
		}
		ctx, cancel := context.WithTimeout(ctx, emptyTimeout)
		defer cancel()
		if err := poll(ctx, 10*time.Millisecond, func(context.Context) error { return g.empty(dir) }); err != nil {
			return err
		}
	}
	return g.remove(ctx, parts...)
}

// empty returns an error while a group has processes, dying ones included.
func (g groups) empty(dir string) error {
	events, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
	if err != nil {
		return err
	}
	if strings.Contains(string(events), "populated 1") {
		return fmt.Errorf("processes in %s were killed and are still there", dir)
	}
	return nil
}

// remove removes an empty group and those below it, in every hierarchy.
func (g groups) remove(ctx context.Context, parts ...string) error {
	ctx, cancel := context.WithTimeout(ctx, emptyTimeout)
	defer cancel()
	for _, hierarchy := range append([]string{g.unified}, g.legacy...) {
		top := filepath.Join(append([]string{hierarchy, g.root}, parts...)...)
		if err := poll(ctx, 20*time.Millisecond, func(context.Context) error { return removeGroup(top) }); err != nil {
			return err
		}
	}
	return nil
}

// removeGroup removes a tree of directories bottom up; the files in them are the
// kernel's.
func removeGroup(top string) error {
	var dirs []string
	err := filepath.WalkDir(top,
		func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
				return nil
			}
			if err == nil && entry.IsDir() {
				dirs = append(dirs, path)
			}
			return err
		})
	if err != nil {
		return err
	}
	for _, dir := range slices.Backward(dirs) {
		if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove control group %s: %w", dir, err)
		}
	}
	return nil
}
