package controller

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
	"github.com/cinder-csi/cinder-csi/internal/zone"
)

func TestSizes(t *testing.T) {
	cases := map[string]struct {
		required, limit int64
		size, max       int64
		code            codes.Code
	}{
		"nothing asked for is 1 GiB":          {0, 0, 1, 0, codes.OK},
		"a byte is 1 GiB":                     {1, 0, 1, 0, codes.OK},
		"exactly 1 GiB":                       {gib, 0, 1, 0, codes.OK},
		"a byte more is 2 GiB":                {gib + 1, 0, 2, 0, codes.OK},
		"the limit is rounded down":           {gib, 3*gib - 1, 1, 2, codes.OK},
		"3 TiB do not overflow 32 bits":       {3 << 40, 0, 3072, 0, codes.OK},
		"the largest number does not either":  {math.MaxInt64, 0, 1 << 33, 0, codes.OK},
		"a limit below 1 GiB":                 {0, gib - 1, 0, 0, codes.OutOfRange},
		"no whole GiB between the two":        {gib + 1, 2*gib - 1, 0, 0, codes.OutOfRange},
		"a limit below what is required":      {2 * gib, gib, 0, 0, codes.OutOfRange},
		"less than nothing":                   {-1, 0, 0, 0, codes.InvalidArgument},
		"a limit of less than nothing at all": {0, -1, 0, 0, codes.InvalidArgument},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			size, limit, err := sizes(&csi.CapacityRange{RequiredBytes: c.required, LimitBytes: c.limit})
			if size != c.size || limit != c.max || status.Code(err) != c.code {
				t.Fatalf("got %d, %d, %v", size, limit, err)
			}
		})
	}
	if size, _, err := sizes(nil); size != 1 || err != nil {
		t.Fatalf("without a range: %d, %v", size, err)
	}
}

func FuzzSizesAreNeverBelowWhatIsRequired(f *testing.F) {
	f.Add(int64(1), int64(0))
	f.Add(int64(math.MaxInt64), int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, required, limitBytes int64) {
		size, limit, err := sizes(&csi.CapacityRange{RequiredBytes: required, LimitBytes: limitBytes})
		if err != nil {
			return
		}
		if size < 1 || required > 0 && (size-1)*gib >= required {
			t.Fatalf("%d bytes became %d GiB", required, size)
		}
		if limitBytes > 0 && size > limit {
			t.Fatalf("%d GiB are above the limit of %d bytes", size, limitBytes)
		}
	})
}

func TestErrorsBecomeCodes(t *testing.T) {
	uncertain := &cloud.Error{Kind: cloud.ErrUnavailable, Uncertain: true}
	cases := map[string]struct {
		err  error
		want codes.Code
	}{
		"busy":                            {volumes.ErrBusy, codes.Aborted},
		"unfinished":                      {volumes.ErrUnfinished, codes.Aborted},
		"unfinished for lack of a cloud":  {fmt.Errorf("%w: %w", volumes.ErrUnfinished, uncertain), codes.Unavailable},
		"unfinished though not found":     {fmt.Errorf("%w: %w", volumes.ErrUnfinished, cloud.ErrNotFound), codes.Aborted},
		"unfinished though forbidden":     {fmt.Errorf("%w: %w", volumes.ErrUnfinished, cloud.ErrForbidden), codes.Aborted},
		"no answer":                       {uncertain, codes.Unavailable},
		"no answer before the deadline":   {&cloud.Error{Kind: cloud.ErrUnavailable, Uncertain: true, Err: context.DeadlineExceeded}, codes.DeadlineExceeded},
		"cancelled":                       {context.Canceled, codes.Canceled},
		"not found":                       {&cloud.Error{Kind: cloud.ErrNotFound}, codes.NotFound},
		"refused":                         {&cloud.Error{Kind: cloud.ErrInvalid}, codes.InvalidArgument},
		"refused for the state":           {fmt.Errorf("%w: %w", volumes.ErrState, cloud.ErrInvalid), codes.FailedPrecondition},
		"conflict":                        {cloud.ErrConflict, codes.Aborted},
		"quota":                           {cloud.ErrQuota, codes.ResourceExhausted},
		"attach limit":                    {cloud.ErrAttachLimit, codes.ResourceExhausted},
		"no capacity":                     {volumes.ErrNoCapacity, codes.ResourceExhausted},
		"exists":                          {volumes.ErrExists, codes.AlreadyExists},
		"elsewhere":                       {volumes.ErrAttachedElsewhere, codes.FailedPrecondition},
		"too large":                       {volumes.ErrTooLarge, codes.OutOfRange},
		"the driver's credentials":        {cloud.ErrUnauthorized, codes.Unavailable},
		"forbidden":                       {cloud.ErrForbidden, codes.PermissionDenied},
		"what nobody has thought of":      {errors.New("odd"), codes.Internal},
		"a status that is made already":   {status.Error(codes.OutOfRange, "x"), codes.OutOfRange},
		"uncertain, whatever it was else": {&cloud.Error{Kind: errors.New("odd"), Uncertain: true}, codes.Unavailable},
	}
	for name, c := range cases {
		if got := status.Code(statusOf(c.err)); got != c.want {
			t.Errorf("%s: %v became %v, want %v", name, c.err, got, c.want)
		}
	}
	if statusOf(nil) != nil {
		t.Error("no error became one")
	}
}

func TestErrorsOfGrowthMakeTheResizerStopWhereAskingAgainIsNoUse(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want codes.Code
	}{
		"quota":                      {&cloud.Error{Kind: cloud.ErrQuota}, codes.OutOfRange},
		"too old for attached ones":  {&cloud.Error{Kind: cloud.ErrUnsupported}, codes.InvalidArgument},
		"no such volume":             {&cloud.Error{Kind: cloud.ErrNotFound}, codes.NotFound},
		"under way, though no quota": {fmt.Errorf("%w: %w", volumes.ErrUnfinished, cloud.ErrQuota), codes.Aborted},
		"no answer":                  {&cloud.Error{Kind: cloud.ErrUnavailable, Uncertain: true}, codes.Unavailable},
		"broken":                     {volumes.ErrState, codes.FailedPrecondition},
	} {
		if got := status.Code(statusOfExpansion(c.err)); got != c.want {
			t.Errorf("%s: %v became %v, want %v", name, c.err, got, c.want)
		}
	}
}

func TestTheZoneThatIsAskedFor(t *testing.T) {
	in := func(zones ...string) (topologies []*csi.Topology) {
		for _, z := range zones {
			topologies = append(topologies, &csi.Topology{Segments: map[string]string{zone.Key: z, "other": "x"}})
		}
		return topologies
	}
	known := func(own, wellKnown string) *csi.TopologyRequirement {
		return &csi.TopologyRequirement{Requisite: []*csi.Topology{{Segments: map[string]string{zone.Key: own, zone.WellKnownKey: wellKnown}}}}
	}
	both := &csi.TopologyRequirement{Preferred: in("", "b", "a"), Requisite: in("a", "b")}
	cases := map[string]struct {
		cfg          Config
		availability string
		req          *csi.TopologyRequirement
		want         placement
	}{
		"the parameter wins":                 {Config{WithTopology: true}, "c", both, placement{zone: "c"}},
		"then the first preferred":           {Config{WithTopology: true}, "", both, placement{zone: "b", accept: []string{"b", "a"}}},
		"then the first requisite":           {Config{WithTopology: true}, "", &csi.TopologyRequirement{Requisite: in("a", "b")}, placement{zone: "a", accept: []string{"a", "b"}}},
		"preferred alone":                    {Config{WithTopology: true}, "", &csi.TopologyRequirement{Preferred: in("b", "a")}, placement{zone: "b", accept: []string{"b", "a"}}},
		"nothing asked for":                  {Config{WithTopology: true}, "", nil, placement{}},
		"no topology at all":                 {Config{}, "", both, placement{}},
		"no topology, but the parameter":     {Config{}, "c", both, placement{zone: "c"}},
		"nodes tell both keys":               {Config{WithTopology: true}, "", known("a", "other"), placement{zone: "a", accept: []string{"a"}}},
		"a class allows the well-known key":  {Config{WithTopology: true}, "", known("", "a"), placement{zone: "a", accept: []string{"a"}}},
		"a wish where zones differ in names": {Config{WithTopology: true, IgnoreVolumeAZ: true}, "", &csi.TopologyRequirement{Preferred: in("b")}, placement{zone: "b", accept: []string{"b"}, anyZone: true}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := New(c.cfg).placementFor(c.availability, c.req)
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(placement{})); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

func TestWhereAVolumeCanBeUsed(t *testing.T) {
	req := &csi.TopologyRequirement{Preferred: []*csi.Topology{{Segments: map[string]string{zone.Key: "compute"}}}}
	label := []*csi.Topology{{Segments: map[string]string{zone.Key: "room-1-left"}}}
	twice := func(name string) []*csi.Topology {
		return []*csi.Topology{{Segments: map[string]string{zone.Key: name}}, {Segments: map[string]string{zone.WellKnownKey: name}}}
	}
	cases := map[string]struct {
		cfg  Config
		want []*csi.Topology
	}{
		"in its zone, by the label of nodes":     {Config{WithTopology: true}, label},
		"where it was asked for":                 {Config{WithTopology: true, IgnoreVolumeAZ: true}, req.GetPreferred()},
		"anywhere, when there are no topologies": {Config{WellKnownZone: true}, nil},
		"from nodes that have either key":        {Config{WithTopology: true, WellKnownZone: true}, twice("room-1-left")},
		"where it was asked for, by either key":  {Config{WithTopology: true, WellKnownZone: true, IgnoreVolumeAZ: true}, twice("compute")},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := New(c.cfg).accessibleFrom("room 1: left", req)
			if diff := cmp.Diff(c.want, got, protocmp.Transform()); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

func TestOtherTopologyStaysBesideEitherKeyOfTheZone(t *testing.T) {
	s := New(Config{WithTopology: true, WellKnownZone: true, IgnoreVolumeAZ: true})
	got := s.accessibleFrom("nova", &csi.TopologyRequirement{Preferred: []*csi.Topology{
		{Segments: map[string]string{zone.Key: "a", zone.WellKnownKey: "a", "region": "R1"}},
		{Segments: map[string]string{"region": "R2"}},
	}})
	want := []*csi.Topology{
		{Segments: map[string]string{zone.Key: "a", "region": "R1"}},
		{Segments: map[string]string{zone.WellKnownKey: "a", "region": "R1"}},
		{Segments: map[string]string{"region": "R2"}},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Fatal(diff)
	}
}

func FuzzTokensNeverDoHarm(f *testing.F) {
	for _, token := range []string{
		"", ":", "marker", "marker:second", ":second", "a:b:c", "\x00", "0d5a1f2e-1111-4222-8333-00000000000a@17:second", "0d5a1f2e-1111-4222-8333-00000000000a",
	} {
		f.Add(token)
	}
	f.Add("backup/0d5a1f2e-1111-4222-8333-00000000000a@17")
	f.Fuzz(func(t *testing.T, token string) {
		from, err := parseToken(token)
		switch {
		case err != nil && status.Code(err) != codes.Aborted:
			t.Fatalf("%q: %v", token, err)
		case err == nil && from.token() != token:
			t.Fatalf("%q became %q", token, from.token())
		}
	})
}

// os-brick attaches volumes to hosts that are no servers, as Glance does.
func TestOnlyServersAreNodes(t *testing.T) {
	v := &cloud.Volume{Attachments: []cloud.Attachment{{ID: "a"}, {ID: "b", ServerID: "s"}}}
	if got := publishedNodes(v); len(got) != 1 || got[0] != "s" {
		t.Errorf("got %q", got)
	}
}
