package volumes_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

func TestZoneLabel(t *testing.T) {
	for zone, want := range map[string]string{
		"nova": "nova", "eu-de-1": "eu-de-1", "room 1: left": "room-1-left", "_a.b-": "a.b", "zürich": "z-rich", "": "", "::": "",
		strings.Repeat("a", 70): strings.Repeat("a", 63),
	} {
		if got := volumes.ZoneLabel(zone); got != want {
			t.Errorf("%q became %q, want %q", zone, got, want)
		}
	}
}

func FuzzZoneLabelsHaveOnlyWhatLabelsMayHave(f *testing.F) {
	f.Add("room 1: left")
	valid := regexp.MustCompile(`^([A-Za-z0-9][-A-Za-z0-9_.]{0,62})?$`)
	f.Fuzz(func(t *testing.T, zone string) {
		label := volumes.ZoneLabel(zone)
		if !valid.MatchString(label) {
			t.Fatalf("%q became %q", zone, label)
		}
	})
}
