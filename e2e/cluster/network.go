package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// link is what `ip -json link show` says about an interface.
type link struct {
	Name  string `json:"ifname"`
	Alias string `json:"ifalias"`
}

// findLink returns an interface of the machine, false if there is none.
func findLink(ctx context.Context, name string) (link, bool, error) {
	out, err := output(command(ctx, "ip", "-json", "link", "show", "dev", name))
	var exit *exec.ExitError
	if errors.As(err, &exit) && strings.Contains(err.Error(), "does not exist") {
		return link{}, false, nil
	}
	if err != nil {
		return link{}, false, err
	}
	var links []link
	if err := json.Unmarshal(out, &links); err != nil || len(links) != 1 {
		return link{}, false, fmt.Errorf("ip link show %s: %d links in %q: %w", name, len(links), out, err)
	}
	return links[0], true, nil
}

// owns returns an error when the bridge, and thereby the cluster on this machine,
// belongs to another state directory. One without a name was being made by a
// command that died.
func (p Paths) owns(ctx context.Context) error {
	bridge, found, err := findLink(ctx, bridgeName)
	if err != nil || !found {
		return err
	}
	if bridge.Alias != p.Dir && bridge.Alias != "" {
		return fmt.Errorf("the bridge %s belongs to the cluster in %q, and there can be one on a machine: take it down with %s=%s cluster down",
			bridgeName, bridge.Alias, DirVariable, bridge.Alias)
	}
	return nil
}

// makeBridge makes the bridge, if it isn't there. It has no uplink, and the
// machine forwards nothing for it.
func (p Paths) makeBridge(ctx context.Context) error {
	if err := p.owns(ctx); err != nil {
		return err
	}
	_, found, err := findLink(ctx, bridgeName)
	if err != nil {
		return err
	}
	if !found {
		if err := ip(ctx, "link", "add", bridgeName, "type", "bridge"); err != nil {
			return err
		}
	}
	if err := ip(ctx, "link", "set", bridgeName, "alias", p.Dir); err != nil {
		return err
	}
	address := hostIP + "/" + strconv.Itoa(prefixBits)
	if err := ip(ctx, "address", "replace", address, "dev", bridgeName); err != nil {
		return err
	}
	return ip(ctx, "link", "set", bridgeName, "up")
}

// removeLinks removes the cables of the nodes and the bridge with its routes. A
// cable goes with its node's namespace, but that can take minutes: a connection
// of a killed process, whose last bytes nobody acknowledges any more, keeps it.
func removeLinks(ctx context.Context) error {
	var errs []error
	for _, name := range linkNames() {
		errs = append(errs, removeLink(ctx, name))
	}
	return errors.Join(errs...)
}

// removeLink removes an interface, which may be going by itself.
func removeLink(ctx context.Context, name string) error {
	_, found, err := findLink(ctx, name)
	if err != nil || !found {
		return err
	}
	err = ip(ctx, "link", "delete", name)
	if _, found, look := findLink(ctx, name); look == nil && !found {
		return nil
	}
	return err
}

// plug connects the network namespace of a node's init to the bridge.
func plug(ctx context.Context, s spec, pid int) error {
	if err := removeLink(ctx, s.veth()); err != nil { // of a node that has just died
		return err
	}
	for _, args := range [][]string{
		{"link", "add", s.veth(), "type", "veth", "peer", "name", "eth0", "netns", strconv.Itoa(pid)},
		{"link", "set", s.veth(), "master", bridgeName, "up"},
		{"route", "replace", s.podCIDR(), "via", s.address(), "dev", bridgeName},
	} {
		if err := ip(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}
