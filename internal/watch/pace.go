package watch

import "time"

// burstGap is the least time between two questions for many waiters.
const burstGap = 200 * time.Millisecond

// bucket limits how often many waiters are asked for: rate times a second in
// the long run, burst times in a row after a quiet time.
type bucket struct {
	rate          func() float64
	burst, tokens float64
	last          time.Time
	// slack puts the next question off by up to a tenth of the usual time.
	// Without it, those who start something together after one answer could
	// be asked about just before they are done, every time.
	slack float64
}

// level is what is left, with what has accrued since the last question.
func (b *bucket) level(now time.Time) float64 {
	if b.last.IsZero() {
		return b.burst
	}
	return min(b.burst, b.tokens+now.Sub(b.last).Seconds()*b.rate())
}

// ready returns the earliest moment at which a question may be asked.
func (b *bucket) ready(now time.Time) time.Time {
	if b.last.IsZero() {
		return now
	}
	at := b.last.Add(burstGap)
	if missing := 1 - b.level(now); missing > 0 {
		return later(at, now.Add(time.Duration((missing+b.slack)/b.rate()*float64(time.Second))))
	}
	return at
}

// take accounts for a question, also for one that was asked regardless; random
// is a number in [0, 1).
func (b *bucket) take(now time.Time, random float64) {
	b.tokens = max(b.level(now)-1, 0)
	b.last = now
	b.slack = random / 10
}

// failure is what is known about a source that does not answer.
type failure struct {
	since, retry time.Time
	pause        time.Duration
}

// again notes one more failure and when to try next: after a quarter of a
// second at first, later up to four seconds, a fifth more or less by random.
func (f *failure) again(now time.Time, random float64) {
	if f.since.IsZero() {
		f.since = now
	}
	f.pause = min(max(2*f.pause, 250*time.Millisecond), 4*time.Second)
	f.retry = now.Add(time.Duration(float64(f.pause) * (0.8 + 0.4*random)))
}
