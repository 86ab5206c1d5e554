// Package fault is the plan of what goes wrong in the development cloud: which
// request is answered late, wrongly or not at all, and which thing gets stuck
// or breaks after its request was accepted.
package fault

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"time"
)

// What a fault can make of an attachment after it was accepted.
const (
	// Vanish: the attachment is gone a moment later and the volume is
	// available again; a detachment is given up, and the volume in use again.
	Vanish = "vanish"
	// Ghost: Nova lists the attachment for good, Cinder says available.
	Ghost = "ghost"
)

// Fault changes what happens to the requests that it selects. The fields that
// are set all take effect, in the order in which they stand here.
type Fault struct {
	// ID names the fault in the plan; the plan chooses one when it is empty.
	ID string `json:"id,omitempty"`

	// Operation selects by the name of the operation, as in "volume.create";
	// a pattern of package path ("volume.*"), all OpenStack operations when
	// it is empty.
	Operation string `json:"operation,omitempty"`
	// Resource selects by the id or the name of what the request is about: a
	// volume, snapshot, backup, server or attachment. Empty selects all.
	Resource string `json:"resource,omitempty"`
	// Skip lets so many selected requests pass before the first is hit.
	Skip int `json:"skip,omitempty"`
	// Times ends the fault after so many hits; 0 goes on until it is cleared.
	Times int `json:"times,omitempty"`
	// Probability of hitting a selected request, between 0 and 1; 0 hits all.
	Probability float64 `json:"probability,omitempty"`

	// DropBefore closes the connection without acting.
	DropBefore bool `json:"drop_before,omitempty"`
	// Delay is waited for before acting. In JSON: a string, as in "1.5s".
	Delay time.Duration `json:"-"`
	// Before is the HTTP status that is answered instead of acting.
	Before int `json:"before,omitempty"`
	// After is the HTTP status that is answered after acting.
	After int `json:"after,omitempty"`
	// Body replaces the body that goes with Before or After. Without it the
	// body is what the service, or a proxy before it, would send.
	Body string `json:"body,omitempty"`
	// RetryAfter is sent as a header with Before and After, in whole seconds.
	// In JSON: a string.
	RetryAfter time.Duration `json:"-"`
	// Twice acts two times, as where a proxy sends a request again, and answers
	// what the second came to.
	Twice bool `json:"twice,omitempty"`
	// Drop acts and then closes the connection without an answer.
	Drop bool `json:"drop,omitempty"`
	// Truncate acts and then sends only half of the body.
	Truncate bool `json:"truncate,omitempty"`

	// Stuck keeps the thing in its transitional state until the fault is
	// cleared, and it goes on from there.
	Stuck bool `json:"stuck,omitempty"`
	// Lost loses the message between the services: what was asked for is accepted,
	// and stays in its transitional state for ever.
	Lost bool `json:"lost,omitempty"`
	// EndIn is the status in which the thing ends instead of the proper one,
	// as in "error" or "error_extending".
	EndIn string `json:"end_in,omitempty"`
	// Async is Vanish or Ghost, for attachments.
	Async string `json:"async,omitempty"`

	// Hits counts the requests that were hit. The plan writes it.
	Hits int `json:"hits,omitempty"`
	// Seen counts the requests that were selected. The plan writes it.
	Seen int `json:"seen,omitempty"`
}

type plain Fault

type wire struct {
	plain
	Delay      string `json:"delay,omitempty"`
	RetryAfter string `json:"retry_after,omitempty"`
}

// MarshalJSON writes the durations as strings.
func (f Fault) MarshalJSON() ([]byte, error) {
	w := wire{plain: plain(f)}
	if f.Delay != 0 {
		w.Delay = f.Delay.String()
	}
	if f.RetryAfter != 0 {
		w.RetryAfter = f.RetryAfter.String()
	}
	return json.Marshal(w)
}

// UnmarshalJSON reads the durations as strings.
func (f *Fault) UnmarshalJSON(data []byte) error {
	var w wire
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	for _, d := range []struct {
		name, text string
		into       *time.Duration
	}{{"delay", w.Delay, &w.plain.Delay}, {"retry_after", w.RetryAfter, &w.plain.RetryAfter}} {
		if d.text == "" {
			continue
		}
		parsed, err := time.ParseDuration(d.text)
		if err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		*d.into = parsed
	}
	*f = Fault(w.plain)
	return nil
}

// Check reports what makes a fault meaningless.
func (f Fault) Check() error {
	if _, err := path.Match(f.Operation, ""); err != nil {
		return fmt.Errorf("operation %q: %w", f.Operation, err)
	}
	if f.Probability < 0 || f.Probability > 1 {
		return fmt.Errorf("probability %v is not between 0 and 1", f.Probability)
	}
	if f.Skip < 0 || f.Times < 0 || f.Delay < 0 {
		return errors.New("skip, times and delay must not be negative")
	}
	for _, status := range []int{f.Before, f.After} {
		if status != 0 && (status < 200 || status > 599) {
			return fmt.Errorf("%d is not an HTTP status that can be answered", status)
		}
	}
	if f.Async != "" && f.Async != Vanish && f.Async != Ghost {
		return fmt.Errorf("async %q: use %q or %q", f.Async, Vanish, Ghost)
	}
	return nil
}

func (f Fault) selects(operation string, resources func() []string) bool {
	if f.Operation != "" {
		if ok, err := path.Match(f.Operation, operation); err != nil || !ok {
			return false
		}
	}
	if f.Resource == "" {
		return true
	}
	for _, r := range resources() {
		if r == f.Resource {
			return true
		}
	}
	return false
}
