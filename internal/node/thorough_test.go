package node_test

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
)

// TestAVolumeThatWasGivenAwayBeforeNeedsTheThoroughProof: data in the middle of a
// disk whose head was lost. The quick proof reads but a part of it.
func TestAVolumeThatWasGivenAwayBeforeNeedsTheThoroughProof(t *testing.T) {
	for _, first := range []bool{false, true} {
		t.Run(fmt.Sprint("first publication ", first), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			v := r.attach(small, filesystemOf("ext4"))
			r.write(v, 33*mib+12345, []byte("precious"))
			before := r.content(v)
			v.first = first
			err := r.stage(v)
			if first {
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
