package demo

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// inventory is what a machine has of the two things that the demo makes
// and must take away again.
type inventory struct {
	// loops maps a loop device, as in "/dev/loop3", to its backing file.
	loops map[string]string
	// mounts maps a mount point to its source. Stacked mounts of one mount
	// point are told apart by the kernel's mount id.
	mounts map[string]string
}

// takeInventory reads the loop devices from sysDir, usually /sys/block, and
// the mounts from the kernel.
func takeInventory(sysDir string) (inventory, error) {
	inv := inventory{loops: map[string]string{}, mounts: map[string]string{}}
	files, err := filepath.Glob(filepath.Join(sysDir, "loop*", "loop", "backing_file"))
	if err != nil {
		return inv, fmt.Errorf("list loop devices: %w", err)
	}
	for _, f := range files {
		backing, err := os.ReadFile(f)
		if err != nil {
			continue // detached since it was listed
		}
		name := filepath.Base(filepath.Dir(filepath.Dir(f)))
		inv.loops["/dev/"+name] = strings.TrimSpace(string(backing))
	}
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return inv, fmt.Errorf("list mounts: %w", err)
	}
	for _, m := range mounts {
		inv.mounts[fmt.Sprintf("%s (mount %d)", m.Mountpoint, m.ID)] = m.Source
	}
	return inv, nil
}

// difference is what an inventory has that an earlier one had not, as
// sentences, apart by whose it is.
type difference struct {
	// own lies below the demo's directory, or on a loop device that does.
	own []string
	// others is what other programs of the machine have changed meanwhile.
	others []string
}

// compare tells what changed between two inventories. What is below dir
// belongs to the demo.
func compare(before, after inventory, dir string) difference {
	var d difference
	ownLoops := map[string]bool{}
	for dev, backing := range after.loops {
		mine := within(dir, strings.TrimSuffix(backing, " (deleted)"))
		ownLoops[dev] = mine
		switch {
		case mine:
			d.own = append(d.own, fmt.Sprintf("loop device %s on %s", dev, backing))
		case before.loops[dev] != backing:
			d.others = append(d.others, fmt.Sprintf("new loop device %s on %s", dev, backing))
		}
	}
	for dev, backing := range before.loops {
		if _, there := after.loops[dev]; !there {
			d.others = append(d.others, fmt.Sprintf("loop device %s on %s is gone", dev, backing))
		}
	}
	for target, source := range after.mounts {
		_, there := before.mounts[target]
		switch {
		case within(dir, target) || ownLoops[source]:
			d.own = append(d.own, fmt.Sprintf("mount of %s at %s", source, target))
		case !there:
			d.others = append(d.others, fmt.Sprintf("new mount of %s at %s", source, target))
		}
	}
	for target, source := range before.mounts {
		if _, there := after.mounts[target]; !there {
			d.others = append(d.others, fmt.Sprintf("mount of %s at %s is gone", source, target))
		}
	}
	sort.Strings(d.own)
	sort.Strings(d.others)
	return d
}

// within reports whether path is dir or lies below it.
func within(dir, path string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// mountsBelow returns the mount points at or below dir, the youngest first:
// the order in which they can be unmounted.
func mountsBelow(dir string) ([]string, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return nil, fmt.Errorf("list mounts below %s: %w", dir, err)
	}
	targets := make([]string, 0, len(mounts))
	for i := len(mounts) - 1; i >= 0; i-- {
		targets = append(targets, mounts[i].Mountpoint)
	}
	return targets, nil
}
