package latency_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/latency"
)

func TestSamplesFollowTheirDistribution(t *testing.T) {
	d := latency.Distribution{Min: 10 * time.Millisecond, Median: 50 * time.Millisecond, P99: 300 * time.Millisecond}
	const n = 20000
	samples := make([]time.Duration, n)
	for i := range samples {
		samples[i] = d.Sample()
	}
	slices.Sort(samples)
	if samples[0] < d.Min || samples[n-1] > 5*d.P99 {
		t.Errorf("between %v and %v", samples[0], samples[n-1])
	}
	if m := samples[n/2]; m < 45*time.Millisecond || m > 55*time.Millisecond {
		t.Errorf("median %v", m)
	}
	if p := samples[n*99/100]; p < 240*time.Millisecond || p > 380*time.Millisecond {
		t.Errorf("99th percentile %v", p)
	}
}

func TestDegenerateDistributions(t *testing.T) {
	for _, tc := range []struct {
		d    latency.Distribution
		want time.Duration
	}{
		{latency.Distribution{}, 0},
		{latency.Distribution{Min: time.Second}, time.Second},
		{latency.Distribution{Min: time.Second, Median: time.Second}, time.Second},
		{latency.Distribution{Median: time.Second}, time.Second},
	} {
		if got := tc.d.Sample(); got != tc.want {
			t.Errorf("%+v: %v", tc.d, got)
		}
	}
}

func TestPresetsAreOrdered(t *testing.T) {
	if got := latency.Instant().Step("volume.creating"); got != 0 {
		t.Errorf("instant: %v", got)
	}
	for name, m := range map[string]latency.Model{"fast": latency.Fast(), "realistic": latency.Realistic()} {
		for step, d := range m.Steps {
			if d.Min > d.Median || d.Median > d.P99 {
				t.Errorf("%s %s: %+v", name, step, d)
			}
		}
		for call, d := range m.Calls {
			if d.Min > d.Median || d.Median > d.P99 {
				t.Errorf("%s %s: %+v", name, call, d)
			}
		}
	}
	if _, err := latency.Named("nonsense"); err == nil {
		t.Error("a preset called nonsense")
	}
}

func TestSleepEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := latency.Sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := latency.Sleep(t.Context(), 0); err != nil {
		t.Error(err)
	}
}
