package demo

import (
	"fmt"
	"slices"
	"strings"
)

// The components that can be killed.
const (
	Devcloud   = "devcloud"
	Controller = "controller"
	Node1      = "node1"
	Node2      = "node2"
)

// Kill asks for a component to be killed, with SIGKILL, in the middle of a
// step.
type Kill struct {
	// Component is one of Devcloud, Controller, Node1 and Node2.
	Component string
	// Step is the name of a step, as in the table.
	Step string
	// Volume is the volume whose step is meant, as in "xfs"; empty for the
	// first volume that comes to the step.
	Volume string
}

// String returns the form that ParseKill reads.
func (k Kill) String() string {
	if k.Volume == "" {
		return k.Component + "@" + k.Step
	}
	return k.Component + "@" + k.Volume + "/" + k.Step
}

// ParseKill reads COMPONENT@STEP or COMPONENT@VOLUME/STEP.
func ParseKill(s string) (Kill, error) {
	component, step, found := strings.Cut(s, "@")
	k := Kill{Component: component, Step: step}
	if volume, rest, named := strings.Cut(step, "/"); named {
		k.Volume, k.Step = volume, rest
	}
	components := []string{Devcloud, Controller, Node1, Node2}
	switch {
	case !found:
		return k, fmt.Errorf("%q is not COMPONENT@STEP, as in controller@attach", s)
	case !slices.Contains(components, k.Component):
		return k, fmt.Errorf("%q: no component %q; there are %s", s, k.Component, strings.Join(components, ", "))
	case !slices.Contains(StepNames(), k.Step):
		return k, fmt.Errorf("%q: no step %q; there are %s", s, k.Step, strings.Join(StepNames(), ", "))
	case k.Volume != "" && !slices.Contains(Volumes(), k.Volume):
		return k, fmt.Errorf("%q: no volume %q; there are %s", s, k.Volume, strings.Join(Volumes(), ", "))
	}
	return k, nil
}

// Chaos returns the fixed schedule that kills every component at least once,
// each in the middle of a step that it works in. With a single volume all of
// it falls to that one.
func Chaos(volumes []string) []Kill {
	schedule := []Kill{
		{Component: Controller, Step: "create"},
		{Component: Devcloud, Step: "attach"},
		{Component: Node1, Step: "stage"},
		{Component: Controller, Step: "grow"},
		{Component: Devcloud, Step: "restore"},
		{Component: Node2, Step: "move"},
		{Component: Controller, Step: "detach"},
		{Component: Devcloud, Step: "delete"},
	}
	for i := range schedule {
		schedule[i].Volume = volumes[i%len(volumes)]
	}
	return schedule
}

// takeKills splits off the kills that are meant for a step of a volume; the
// rest is still to come.
func takeKills(all []Kill, volume, step string) (now, rest []Kill) {
	for _, k := range all {
		if k.Step == step && (k.Volume == "" || k.Volume == volume) {
			now = append(now, k)
		} else {
			rest = append(rest, k)
		}
	}
	return now, rest
}
