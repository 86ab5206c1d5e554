package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// kubeletGroup is the control group below which a node's kubelet makes those of
// its pods.
func (p Paths) kubeletGroup(node string) string { return filepath.Join("/", p.groupRoot(), node) }

// prepareNode makes the groups that the kubelet expects to find. It makes no
// others by itself, since a real one is told the root of the hierarchy.
func (g groups) prepareNode(node string) error {
	if err := os.MkdirAll(g.dir(node), 0o755); err != nil { // #nosec G301 -- a control group
		return err
	}
	for _, dir := range []string{g.unified, g.dir(), g.dir(node)} {
		if err := enableControllers(dir); err != nil {
			return err
		}
	}
	for _, hierarchy := range g.legacy {
		dir := hierarchy
		for _, part := range []string{g.root, node} {
			dir = filepath.Join(dir, part)
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) { // #nosec G301 -- a control group
				return err
			}
			if err := inheritCPUs(hierarchy, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// enableControllers passes those controllers that the kubelet accounts with on to
// the groups below. A hierarchy beside version 1 has few of them or none.
func enableControllers(dir string) error {
	controllers, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(string(controllers)) {
		if !slices.Contains([]string{"cpu", "cpuset", "memory", "pids", "hugetlb", "io"}, name) {
			continue
		}
		err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+name), 0)
		if errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("control group %s: enable %s: %w: it has processes of its own, as the topmost group of a container does. "+
				"Move them into one below: cd %s && mkdir -p self && for pid in $(cat cgroup.procs); do echo $pid >self/cgroup.procs; done",
				dir, name, err, dir)
		}
		if err != nil {
			return fmt.Errorf("control group %s: enable %s: %w", dir, name, err)
		}
	}
	return nil
}

// inheritCPUs gives a new cpuset what its parent has: version 1 begins with
// none, and nothing can run there then.
func inheritCPUs(hierarchy, dir string) error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(hierarchy, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), value, 0)
		}
		if err != nil {
			return fmt.Errorf("control group %s: %w", dir, err)
		}
	}
	return nil
}
