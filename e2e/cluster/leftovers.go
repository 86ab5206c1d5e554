package cluster

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// Leftovers names everything on the machine that belongs to a running cluster;
// after Down it is empty.
func (p Paths) Leftovers(ctx context.Context) ([]string, error) {
	var left []string
	g, err := p.groups()
	if err != nil {
		return nil, err
	}
	for _, hierarchy := range append([]string{g.unified}, g.legacy...) {
		if dir := filepath.Join(hierarchy, g.root); exists(dir) {
			left = append(left, "control group "+dir)
		}
	}
	for _, name := range linkNames() {
		if _, found, err := findLink(ctx, name); err != nil {
			return nil, err
		} else if found {
			left = append(left, "network interface "+name)
		}
	}
	loops, err := listLoops()
	if err != nil {
		return nil, err
	}
	for _, d := range loops {
		if strings.HasPrefix(d.backing, p.run()+"/") {
			left = append(left, fmt.Sprintf("loop device /dev/%s on %s", d.name, d.backing))
		}
	}
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(p.run()))
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		left = append(left, "mount "+m.Mountpoint)
	}
	if exists(p.run()) {
		left = append(left, "directory "+p.run())
	}
	return left, nil
}

// linkNames are the network interfaces that a cluster makes on the machine.
func linkNames() []string {
	names := []string{bridgeName}
	for _, s := range specs() {
		names = append(names, s.veth())
	}
	return names
}
