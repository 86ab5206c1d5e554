package cloudtest

import (
	"errors"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// Fault makes requests fail.
type Fault struct {
	// Op is the operation, as in "volume.create"; "" is all of them.
	Op string
	// Times is how often it happens; 0: until the faults are cleared.
	Times int
	// Delay is how long the answer takes longer than usual.
	Delay time.Duration
	// Late has the cloud act that long after it has answered with Err.
	Late time.Duration
	// After tells that the cloud acts nevertheless.
	After bool
	// Err is what the cloud answers: one of the kinds of package cloud. Nil:
	// its usual answer.
	Err error
	// Message is what the cloud says.
	Message string
	// Outcome is the status in which what was asked for ends, instead of
	// succeeding; "stuck" leaves it where it is on its way, and "lost" does so with
	// a volume that no host has heard of.
	Outcome string
	// Cause is the user message that explains Outcome.
	Cause string
}

// error is the answer of a failing request. Without the cloud having acted for
// certain, or not, an error of availability leaves open whether it did.
func (f *Fault) error(op, resource string) error {
	return &cloud.Error{
		Kind: f.Err, Operation: op, Resource: resource, Message: f.Message,
		Uncertain: errors.Is(f.Err, cloud.ErrUnavailable),
	}
}

// SetFault adds a fault.
func (c *Cloud) SetFault(f Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, &f)
}

// ClearFaults ends all faults. What was stuck goes on.
func (c *Cloud) ClearFaults() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = nil
}

// fault returns the fault of a request; a fault of the outcome only is none.
func (c *Cloud) fault(op string) *Fault {
	for _, f := range c.faults {
		if (f.Op == "" || f.Op == op) && f.Outcome == "" && f.use() {
			return f
		}
	}
	return nil
}

// outcome returns the fault of what a request starts.
func (c *Cloud) outcome(op string) *Fault {
	for _, f := range c.faults {
		if f.Op == op && f.Outcome != "" && f.use() {
			return f
		}
	}
	return nil
}

func (f *Fault) use() bool {
	if f.Times < 0 {
		return false
	}
	if f.Times > 0 {
		if f.Times--; f.Times == 0 {
			f.Times = -1
		}
	}
	return true
}

func unavailable(op, resource string, err error) error {
	return &cloud.Error{Kind: cloud.ErrUnavailable, Operation: op, Resource: resource, Uncertain: true, Err: err}
}

func refuse(kind error, op, resource, message string) error {
	return &cloud.Error{Kind: kind, Operation: op, Resource: resource, Message: message}
}
