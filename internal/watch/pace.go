package watch

import (
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/time/rate"
)

// burstGap is the least time between two questions for many waiters.
const burstGap = 200 * time.Millisecond

// pace limits how often many waiters are asked for: perSecond times in the long run, as
// many times in a row as the limiter's burst after a quiet time.
type pace struct {
	perSecond func() float64
	limiter   *rate.Limiter
	last      time.Time
	// slack puts the next question off by up to a tenth of the usual time.
	// Without it, those who start something together after one answer could
	// be asked about just before they are done, every time.
	slack float64
}

// ready returns the earliest moment at which a question may be asked.
func (p *pace) ready(now time.Time) time.Time {
	if p.last.IsZero() {
		return now
	}
	p.limiter.SetLimitAt(now, rate.Limit(p.perSecond()))
	if missing := 1 - p.limiter.TokensAt(now); missing > 0 {
		now = now.Add(time.Duration((missing + p.slack) / p.perSecond() * float64(time.Second)))
	}
	return later(p.last.Add(burstGap), now)
}

// take accounts for a question, also for one that was asked regardless; random
// is a number in [0, 1).
func (p *pace) take(now time.Time, random float64) {
	p.limiter.SetLimitAt(now, rate.Limit(p.perSecond()))
	p.limiter.AllowN(now, 1)
	p.last = now
	p.slack = random / 10
}

// failure is what is known about a source that does not answer.
type failure struct {
	since, retry time.Time
	pauses       *backoff.ExponentialBackOff
}

// again notes one more failure and when to try next: after a quarter of a
// second at first, later up to four seconds, a fifth more or less by chance.
func (f *failure) again(now time.Time) {
	if f.since.IsZero() {
		f.since = now
		f.pauses = &backoff.ExponentialBackOff{InitialInterval: 250 * time.Millisecond, MaxInterval: 4 * time.Second, Multiplier: 2, RandomizationFactor: 0.2}
		f.pauses.Reset()
	}
	f.retry = now.Add(f.pauses.NextBackOff())
}
