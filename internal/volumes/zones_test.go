package volumes_test

import (
	"context"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
	"github.com/cinder-csi/cinder-csi/internal/volumes/cloudtest"
)

// zoned is a cloud with three zones, a type for zone c alone, one for several servers
// and one whose extra specs can't be trusted to be told.
func zoned(t *testing.T, test func(w *world)) {
	in(t, func(w *world) {
		w.cloud.ZoneNames = []string{"a", "b", "c", "room 1: left"}
		w.cloud.Types = append(w.cloud.Types,
			cloud.VolumeType{ID: "33333333-3333-4333-8333-333333333333", Name: "only-C", ExtraSpecs: map[string]string{"RESKEY:availability_zones": "c"}})
		test(w)
	})
}

func (w *world) wantVolumes(n int) {
	w.Helper()
	if have := w.cloud.Volumes(); len(have) != n {
		w.Fatalf("%d volumes: %+v", len(have), have)
	}
	w.wantNoOrphans()
}

// wantNoOrphans checks that nothing was deleted so early that the back end has
// made it for nobody.
func (w *world) wantNoOrphans() {
	w.Helper()
	if n := w.cloud.Orphans(); n != 0 {
		w.Fatalf("%d volumes are left on the back end that Cinder knows nothing of", n)
	}
}

// A zone that can't take a volume is followed by the next that will do, whatever
// keeps it from it and whatever the cloud tells beforehand.
func TestAZoneThatCannotTakeAVolumeIsFollowedByTheNext(t *testing.T) {
	cases := map[string]struct {
		req volumes.CreateRequest
		// full are zones without room.
		full []string
		// zone is where the volume is made, want why it isn't.
		zone string
		want error
		says []string
		// tries is how many volumes are asked for.
		tries int
	}{
		"the first has room":                {req: volumes.CreateRequest{Zone: "b", AcceptZones: []string{"b", "a"}}, zone: "b", tries: 1},
		"the first has no room":             {req: volumes.CreateRequest{Zone: "b", AcceptZones: []string{"b", "a"}}, full: []string{"b"}, zone: "a", tries: 2},
		"two have no room":                  {req: volumes.CreateRequest{Zone: "b", AcceptZones: []string{"b", "c", "a"}}, full: []string{"b", "c"}, zone: "a", tries: 3},
		"none has room":                     {req: volumes.CreateRequest{Zone: "b", AcceptZones: []string{"b", "a"}}, full: []string{"a", "b"}, want: volumes.ErrNoCapacity, says: []string{"weighted backend"}, tries: 2},
		"the only one has no room":          {req: volumes.CreateRequest{Zone: "b"}, full: []string{"b"}, want: volumes.ErrNoCapacity, says: []string{"weighted backend"}, tries: 1},
		"the first doesn't exist":           {req: volumes.CreateRequest{Zone: "mars", AcceptZones: []string{"mars", "a"}}, zone: "a", tries: 1},
		"none of a topology's exists":       {req: volumes.CreateRequest{Zone: "mars", AcceptZones: []string{"mars", "venus"}}, want: volumes.ErrNoCapacity, says: []string{`"mars", "venus"`, `"room 1: left"`}},
		"a parameter's doesn't exist":       {req: volumes.CreateRequest{Zone: "mars"}, want: cloud.ErrInvalid, says: []string{`"mars"`}},
		"the type isn't in the first":       {req: volumes.CreateRequest{Type: "only-C", Zone: "b", AcceptZones: []string{"b", "a", "c"}}, zone: "c", tries: 1},
		"the type isn't in any":             {req: volumes.CreateRequest{Type: "only-C", Zone: "b", AcceptZones: []string{"b", "a"}}, want: volumes.ErrNoCapacity, says: []string{"only-C", `"c"`, `"b", "a"`}},
		"the type isn't in a parameter's":   {req: volumes.CreateRequest{Type: "only-C", Zone: "b"}, want: volumes.ErrNoCapacity},
		"the type's only one has no room":   {req: volumes.CreateRequest{Type: "only-C", Zone: "b", AcceptZones: []string{"b", "c"}}, full: []string{"c"}, want: volumes.ErrNoCapacity, tries: 1},
		"a label stands for one":            {req: volumes.CreateRequest{Zone: "room-1-left"}, zone: "room 1: left", tries: 1},
		"a label comes after a full one":    {req: volumes.CreateRequest{Zone: "a", AcceptZones: []string{"a", "room-1-left"}}, full: []string{"a"}, zone: "room 1: left", tries: 2},
		"a wish has no room":                {req: volumes.CreateRequest{Zone: "b", AnyZone: true}, full: []string{"b"}, zone: "a", tries: 2},
		"a wish doesn't exist":              {req: volumes.CreateRequest{Zone: "compute-1", AnyZone: true}, zone: "a", tries: 1},
		"a wish is none of the type":        {req: volumes.CreateRequest{Type: "only-C", Zone: "b", AnyZone: true, AcceptZones: []string{"b"}}, zone: "", tries: 1},
		"no zone is asked for and all full": {req: volumes.CreateRequest{}, full: []string{"a"}, want: volumes.ErrNoCapacity, tries: 1},
	}
	for name, c := range cases {
		for _, cloudIs := range []string{"plain", "hides specs", "hides messages", "falls back"} {
			t.Run(name+", a cloud that is "+cloudIs, func(t *testing.T) {
				zoned(t, func(w *world) {
					w.cloud.FullZones = c.full
					w.cloud.HideSpecs = cloudIs == "hides specs"
					w.cloud.HideMessages = cloudIs == "hides messages"
					w.cloud.ZoneFallback = cloudIs == "falls back"
					c.req.Name, c.req.SizeGiB = "pvc-1", 1
					for range 2 {
						v, err := w.service.Create(w.within(time.Minute), c.req)
						if c.want == nil {
							if err != nil || c.zone != "" && v.Zone != c.zone {
								t.Fatalf("got %+v, %v, want zone %s", v, err, c.zone)
							}
							w.wantVolumes(1)
							continue
						}
						want := c.want
						if w.cloud.HideMessages && len(c.full) > 0 {
							want = volumes.ErrUnfinished // there may be room
						}
						w.wantError(err, want)
						if !w.cloud.HideSpecs && !w.cloud.HideMessages {
							w.wantError(err, want, c.says...)
						}
						w.wantVolumes(0)
					}
					made := w.cloud.Requests()["volume.create"]
					if c.want != nil {
						made /= 2
					}
					if !w.cloud.HideSpecs && made != c.tries {
						t.Errorf("%d volumes were asked for, want %d", made, c.tries)
					}
				})
			})
		}
	}
}

// Where the cloud tells neither the zones of a type nor refuses one, a volume in the
// wrong zone is made and removed again, also when the call ends at any moment.
func TestAVolumeInTheWrongZoneNeverStays(t *testing.T) {
	for _, copied := range []bool{false, true} {
		for cut := time.Duration(0); cut < 700*time.Millisecond; cut += 35 * time.Millisecond {
			zoned(t, func(w *world) {
				w.cloud.HideSpecs, w.cloud.ZoneFallback = true, true
				req := volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1, Type: "only-C", Zone: "b", AcceptZones: []string{"b"}}
				left := 0
				if copied {
					req.SourceVolumeID, left = w.create(volumes.CreateRequest{Name: "source"}).ID, 1
				}
				if _, err := w.service.Create(w.within(cut), req); cut < 400*time.Millisecond {
					w.wantError(err, context.DeadlineExceeded)
				}
				time.Sleep(time.Minute)
				_, err := w.service.Create(w.within(time.Minute), req)
				w.wantError(err, volumes.ErrNoCapacity, `"b"`, `"a"`)
				w.wantVolumes(left)
				// The scheduler has chosen another zone meanwhile.
				req.Zone, req.AcceptZones = "a", []string{"a"}
				req.Type = ""
				if v := w.create(req); v.Zone != "a" {
					t.Fatalf("made in %s", v.Zone)
				}
			})
		}
	}
}

func TestAVolumeThatMayHaveBeenUsableIsNeverTakenBack(t *testing.T) {
	tag := map[string]string{volumes.ClusterKey: cluster}
	for name, v := range map[string]cloud.Volume{
		"finished in another zone":                           {Status: cloud.VolumeAvailable, Zone: "a"},
		"in use in another zone":                             {Status: cloud.VolumeInUse, Zone: "a"},
		"failed later in another zone":                       {Status: cloud.VolumeError, Zone: "a"},
		"being made in a zone that an earlier request named": {Status: cloud.VolumeCreating, Zone: "a"},
	} {
		t.Run(name, func(t *testing.T) {
			zoned(t, func(w *world) {
				v.Name, v.SizeGiB, v.Metadata = "pvc-1", 1, tag
				w.cloud.Add(v)
				_, err := w.service.Create(w.within(time.Minute), volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1, Zone: "b"})
				w.wantError(err, volumes.ErrExists, "zone")
				w.wantVolumes(1)
			})
		})
	}
}

// What a cloud may do with a zone that was there a moment ago.
func TestAZoneThatIsGoneSinceItWasListed(t *testing.T) {
	zoned(t, func(w *world) {
		w.cloud.SetFault(cloudtest.Fault{Op: "volume.create", Times: 1, Err: cloud.ErrZone, Message: "Availability zone 'b' is invalid."})
		if v := w.create(volumes.CreateRequest{Name: "pvc-1", Zone: "b", AcceptZones: []string{"b", "a"}}); v.Zone != "a" {
			t.Fatalf("made in %s", v.Zone)
		}
	})
}
