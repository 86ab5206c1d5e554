package node_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
)

// TestAVolumeThatWasGivenAwayBeforeNeedsTheThoroughProof: data in the middle of a
// disk whose head was lost. The quick proof reads but a part of it. A first publication
// from before the node was started is one of which nobody knows what came after it.
func TestAVolumeThatWasGivenAwayBeforeNeedsTheThoroughProof(t *testing.T) {
	var up unix.Timespec
	must(t, unix.ClockGettime(unix.CLOCK_BOOTTIME, &up))
	booted := time.Now().Add(-time.Duration(up.Nano()))
	for first, quick := range map[string]bool{
		"": false, "true": false, "1": false, "yesterday": false, "0001-01-01T00:00:00Z": false,
		booted.Add(-time.Minute).Format(time.RFC3339Nano): false,
		booted.Add(time.Minute).Format(time.RFC3339):      true,
		now(): true,
	} {
		t.Run(fmt.Sprintf("first publication %q", first), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			v := r.attach(small, filesystemOf("ext4"))
			r.write(v, 33*mib+12345, []byte("precious"))
			before := r.content(v)
			v.first = first
			err := r.stage(v)
			if quick {
				must(t, err)
				return
			}
			wantCode(t, err, codes.FailedPrecondition, "holds", "by hand", v.id)
			if r.content(v) != before {
				t.Error("the content has changed")
			}
			run(t, "mkfs.ext4", "-q", "-F", r.device(v)) // as the error says
			must(t, r.stage(v))
		})
	}
}
