package volumes_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
	"github.com/cinder-csi/cinder-csi/internal/volumes/cloudtest"
)

// near returns what names neighbours, and counts how often it was asked.
func near(asked *int, same, different []string) func(context.Context) (volumes.Claim, error) {
	return func(context.Context) (volumes.Claim, error) {
		*asked++
		return volumes.Claim{SameHost: same, DifferentHost: different}, nil
	}
}

func TestCreateRemembersWhatAVolumeIsNearTo(t *testing.T) {
	in(t, func(w *world) {
		one := w.create(volumes.CreateRequest{Name: "one"}).ID
		two := w.create(volumes.CreateRequest{Name: "two"}).ID
		var ids []string
		for n := range 14 {
			ids = append(ids, w.create(volumes.CreateRequest{Name: fmt.Sprint("many-", n)}).ID)
		}
		asked := 0
		req := volumes.CreateRequest{Name: "pvc-1", Claim: near(&asked, []string{"one", one, two, "one"}, ids)}
		v := w.create(req)
		same, different := volumes.AffinityOf(v)
		if same != one+","+two || different != strings.Join(ids, ",") {
			t.Errorf("near to %s, far from %s", same, different)
		}
		for key, value := range v.Metadata {
			if len(key) > 255 || len(value) > 255 {
				t.Errorf("Cinder would not take %s: %s", key, value)
			}
		}
		if got := w.cloud.Asked(v.ID); strings.Join(got.SameHost, ",") != same || strings.Join(got.DifferentHost, ",") != different {
			t.Errorf("asked for %+v", got)
		}
		// Whatever the claim says by now, or whether it can be read at all.
		req.Claim = func(context.Context) (volumes.Claim, error) { return volumes.Claim{}, errors.New("gone") }
		if again := w.create(req); again.ID != v.ID || asked != 1 {
			t.Errorf("%s again as %s, asked %d times", v.ID, again.ID, asked)
		} else if s, d := volumes.AffinityOf(again); s != same || d != different {
			t.Errorf("the second time near to %s, far from %s", s, d)
		}
	})
}

func TestCreateMakesNothingWhereANeighbourIsUnclear(t *testing.T) {
	gone := errors.New("the claim can't be read")
	many := make([]string, 61)
	for name, c := range map[string]struct {
		affinity func(context.Context) (volumes.Claim, error)
		want     error
		says     string
	}{
		"a name that nobody has": {near(new(int), []string{"nobody"}, nil), cloud.ErrInvalid, "nobody"},
		"an id that nobody has":  {near(new(int), nil, []string{uuid.NewString()}), cloud.ErrInvalid, "anti-affinity"},
		"a name that two have":   {near(new(int), []string{"twin"}, nil), cloud.ErrInvalid, "write an id"},
		"too many":               {near(new(int), many, nil), cloud.ErrInvalid, "at most 60"},
		"a claim out of reach":   {func(context.Context) (volumes.Claim, error) { return volumes.Claim{}, gone }, gone, "pvc-1"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(w *world) {
				for range 2 {
					w.cloud.Add(cloud.Volume{Name: "twin", SizeGiB: 1, Status: cloud.VolumeAvailable})
				}
				_, err := w.service.Create(w.Context(), volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1, Claim: c.affinity})
				w.wantError(err, c.want, c.says, "pvc-1")
				w.wantVolumes(2)
			})
		})
	}
	t.Run("a cloud out of reach", func(t *testing.T) {
		in(t, func(w *world) {
			w.cloud.SetFault(cloudtest.Fault{Op: "volume.get", Times: 1, Err: unavailable})
			_, err := w.service.Create(w.Context(), volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1, Claim: near(new(int), []string{uuid.NewString()}, nil)})
			w.wantError(err, cloud.ErrUnavailable)
			w.wantVolumes(0)
		})
	})
	t.Run("a look-up that panics", func(t *testing.T) {
		in(t, func(w *world) {
			s := volumes.New(panics{w.cloud}, volumes.Options{Cluster: cluster})
			_, err := s.Create(w.Context(), volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1, Claim: near(new(int), []string{uuid.NewString()}, nil)})
			w.wantError(err, cloud.ErrUnavailable, "defect")
			w.wantVolumes(0)
		})
	})
}

// panics is a cloud of which one question panics.
type panics struct{ *cloudtest.Cloud }

func (panics) GetVolume(context.Context, string) (*cloud.Volume, error) { panic("a defect") }
