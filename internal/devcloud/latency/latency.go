// Package latency says how long each operation of the development cloud takes.
package latency

import (
	"context"
	"math"
	"math/rand/v2"
	"time"
)

// Distribution is a skewed distribution of durations, as services show it:
// nothing below Min, half below Median, one in a hundred above P99. The zero
// value takes no time at all.
type Distribution struct {
	Min    time.Duration `json:"min"`
	Median time.Duration `json:"median"`
	P99    time.Duration `json:"p99"`
}

// z99 is the 99th percentile of the standard normal distribution.
const z99 = 2.3263

// Sample draws one duration: Min plus a log-normal part. It is never negative
// and never above five times P99.
func (d Distribution) Sample() time.Duration {
	if d.Median <= 0 && d.Min <= 0 {
		return 0
	}
	spread := float64(d.Median - d.Min)
	if spread <= 0 {
		return max(d.Min, d.Median)
	}
	sigma := 0.0
	if d.P99 > d.Median {
		sigma = math.Log(float64(d.P99-d.Min)/spread) / z99
	}
	sample := d.Min + time.Duration(spread*math.Exp(sigma*rand.NormFloat64())) // #nosec G404 -- not a secret
	if limit := 5 * max(d.P99, d.Median); sample > limit {
		return limit
	}
	return sample
}

// Model holds a distribution per API operation (as in "volume.create": how
// long the request takes) and per step of a state machine (as in
// "volume.creating": how long the volume stays in that state). What is not
// listed takes the default. The zero value is as fast as possible.
type Model struct {
	Calls       map[string]Distribution `json:"calls,omitempty"`
	DefaultCall Distribution            `json:"default_call"`
	Steps       map[string]Distribution `json:"steps,omitempty"`
	DefaultStep Distribution            `json:"default_step"`
}

// Call draws how long a request for operation takes.
func (m Model) Call(operation string) time.Duration {
	if d, ok := m.Calls[operation]; ok {
		return d.Sample()
	}
	return m.DefaultCall.Sample()
}

// Step draws how long a state machine stays in a step.
func (m Model) Step(step string) time.Duration {
	if d, ok := m.Steps[step]; ok {
		return d.Sample()
	}
	return m.DefaultStep.Sample()
}

// Sleep waits for d, or until ctx ends and then returns its error.
func Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
