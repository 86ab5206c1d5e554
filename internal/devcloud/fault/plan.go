package fault

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
)

// Plan is a list of faults. The first that hits a request decides; it may be
// used by many goroutines at once.
type Plan struct {
	mu      sync.Mutex
	faults  []Fault
	next    int
	changed chan struct{}
	save    func([]Fault)
}

// NewPlan returns a plan that starts with faults. save, if not nil, is called
// with every new state of the plan that must outlive a restart.
func NewPlan(faults []Fault, save func([]Fault)) *Plan {
	p := &Plan{changed: make(chan struct{}), save: save}
	p.faults = p.named(faults)
	return p
}

// Match returns the fault that hits a request, counted as one hit, or nil.
// resources returns the ids and names of what the request is about; it is
// called only when a fault asks for it.
func (p *Plan) Match(operation string, resources func() []string) *Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.faults {
		f := &p.faults[i]
		if f.Times > 0 && f.Hits >= f.Times {
			continue
		}
		if !f.selects(operation, resources) {
			continue
		}
		f.Seen++
		if f.Seen <= f.Skip {
			continue
		}
		if f.Probability > 0 && rand.Float64() >= f.Probability { // #nosec G404 -- not a secret
			continue
		}
		f.Hits++
		hit := *f
		return &hit
	}
	return nil
}

// List returns the plan with its counters.
func (p *Plan) List() []Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.faults)
}

// Set replaces the plan. Things that were stuck for a fault that is no longer
// in it go on. A fault that keeps its id keeps its hold, too.
func (p *Plan) Set(faults []Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = p.named(faults)
	close(p.changed)
	p.changed = make(chan struct{})
	if p.save != nil {
		p.save(slices.Clone(p.faults))
	}
}

// Hold waits until the fault with that id is no longer in the plan, or ctx ends.
func (p *Plan) Hold(ctx context.Context, id string) error {
	for {
		p.mu.Lock()
		held := slices.ContainsFunc(p.faults, func(f Fault) bool { return f.ID == id })
		changed := p.changed
		p.mu.Unlock()
		if !held {
			return ctx.Err()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// named returns a copy in which every fault has an id of its own.
func (p *Plan) named(faults []Fault) []Fault {
	faults = slices.Clone(faults)
	taken := map[string]bool{}
	for _, f := range faults {
		taken[f.ID] = true
	}
	for i := range faults {
		if faults[i].ID != "" {
			continue
		}
		for {
			p.next++
			id := "fault-" + strconv.Itoa(p.next)
			if !taken[id] {
				faults[i].ID, taken[id] = id, true
				break
			}
		}
	}
	return faults
}
