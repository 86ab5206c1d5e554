package cluster

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// Status writes what runs and what doesn't, and reports whether all of it does.
func Status(ctx context.Context, out io.Writer) (healthy bool, err error) {
	c, err := Load()
	if err != nil {
		return false, err
	}
	p := c.paths()
	g, err := p.groups()
	if err != nil {
		return false, err
	}
	healthy = true
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name string, good bool, detail string) {
		state := "running"
		if !good {
			state, healthy = "DOWN", false
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\n", name, state, detail) // Flush tells what went wrong
	}
	for _, process := range []process{p.devcloud(), p.etcd(), p.apiserver(), p.controllerManager(), p.scheduler(), p.snapshotController()} {
		alive, err := g.alive(process)
		if err != nil {
			return false, err
		}
		row(process.group[1], alive, process.log)
	}
	for _, n := range c.Nodes {
		alive, err := g.alive(p.init(n))
		if err != nil {
			return false, err
		}
		row("node "+n.Name, alive, n.Zone+", server "+n.ServerID)
		if alive {
			detail, good := c.unitSummary(ctx, n.Name)
			row("  its programs", good, detail)
		}
	}
	return healthy, table.Flush()
}

// unitSummary tells which of a node's programs run, and how often they had to be
// started again.
func (c *Cluster) unitSummary(ctx context.Context, node string) (text string, good bool) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	units, err := c.paths().units(ctx, node)
	if err != nil {
		return err.Error(), false
	}
	good = true
	var parts []string
	for _, u := range units {
		part := u.Name
		if !u.Active {
			part, good = part+" DOWN", false
		}
		if u.Restarts > 0 {
			part += fmt.Sprintf(" (ended %d times)", u.Restarts)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", "), good
}
