package watch

import (
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// lagPrice is the expected lag, in seconds, that one question is worth:
	// it is asked as soon as somebody is expected to have been waiting for
	// that long for an answer that was already there.
	lagPrice = 0.05
	// gapMin and gapMax bound the time between two questions about one thing:
	// the first is a few times what a cloud needs to answer, the second is how
	// late an answer may be noticed at worst.
	gapMin = 100 * time.Millisecond
	gapMax = time.Second
	// weight is the share of the newest duration in what has been learned.
	weight = 0.2
)

// Estimates holds how long each kind of operation takes. The zero value knows
// nothing yet and is ready to use. It is bounded by the number of kinds.
type Estimates struct {
	mu    sync.Mutex
	kinds map[string]estimate
}

// estimate is a moving average of the durations of one kind of operation, in
// seconds, and of how far they are from it.
type estimate struct {
	mean, spread float64
}

// Mean returns the learned duration of kind, 0 when it was never seen.
func (e *Estimates) Mean(kind string) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return seconds(e.kinds[kind].mean)
}

// of returns what is known about kind, or what is assumed of an operation that
// was never seen.
func (e *Estimates) of(kind string) estimate {
	e.mu.Lock()
	defer e.mu.Unlock()
	if known, ok := e.kinds[kind]; ok {
		return known
	}
	return estimate{mean: 0.4, spread: 0.2}
}

// next returns how long after its start an operation of this kind is best asked
// about, when it was last found not to be done yet after elapsed (0: never).
func (e *Estimates) next(kind string, elapsed time.Duration) time.Duration {
	known := e.of(kind)
	at := seconds(known.best(elapsed.Seconds()))
	// Before the operation can be over, half of its usual time may pass
	// without a question: it might end early for another reason.
	most := gapMax
	if early := seconds(known.mean - 2*known.spread); elapsed < early {
		most = max(most, seconds(known.mean/2))
	}
	if elapsed == 0 {
		return min(at, most)
	}
	gap := min(max(at-elapsed, gapMin), most)
	return elapsed + time.Duration(float64(gap)*(0.9+0.2*rand.Float64())) //nolint:gosec // jitter is no secret
}

// learn takes in one duration, of which is known that it was more than before
// and at most after.
func (e *Estimates) learn(kind string, before, after time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.kinds == nil {
		e.kinds = make(map[string]estimate)
	}
	known, ok := e.kinds[kind]
	if !ok {
		half := (before + after).Seconds() / 2
		e.kinds[kind] = estimate{mean: half, spread: half / 2}.bounded()
		return
	}
	e.kinds[kind] = known.with(before.Seconds(), after.Seconds())
}

// best returns the moment at which the expected lag reaches lagPrice. Durations
// are taken to be spread evenly over twice the usual deviation to either side
// of the mean; what takes longer than that is expected to take about a quarter
// longer than it has taken already.
func (s estimate) best(elapsed float64) float64 {
	from, to := max(s.mean-2*s.spread, elapsed, 0), s.mean+2*s.spread
	if from >= to {
		return elapsed + math.Sqrt(2*lagPrice*max(s.spread, elapsed/4))
	}
	width := to - from
	if wait := math.Sqrt(2 * lagPrice * width); wait <= width {
		return from + wait
	}
	return to + lagPrice - width/2
}

// with returns the estimate after one more duration between before and after.
// Of that range the part is believed that the estimate thinks likely. One that
// was over when it was first asked about may have been over for long: it counts
// as a little shorter, so that the estimate follows when operations get faster.
func (s estimate) with(before, after float64) estimate {
	from, to := max(before, s.mean-2*s.spread), min(after, s.mean+2*s.spread)
	if from > to {
		from, to = before, after
	}
	x := (from + to) / 2
	if before == 0 {
		x *= 0.9
	}
	// One straggler must not make everybody after it wait.
	x = min(x, 3*s.mean+0.5)
	s.spread += weight * (math.Abs(x-s.mean) - s.spread)
	s.mean += weight * (x - s.mean)
	return s.bounded()
}

// bounded keeps the spread above what timers and networks add.
func (s estimate) bounded() estimate {
	s.spread = max(s.spread, s.mean/50, 0.02)
	return s
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
