package zone_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/zone"
)

func TestLabelsOfZones(t *testing.T) {
	for name, want := range map[string]string{
		"eu-de-1":                       "eu-de-1",
		"room 1: left":                  "room-1-left",
		"::":                            "",
		"nova":                          "nova",
		"az 1":                          "az-1",
		"az: (1)":                       "az-1",
		"_az.1-":                        "az.1",
		"Zürich":                        "Z-rich",
		"":                              "",
		"---":                           "",
		strings.Repeat("a", 70):         strings.Repeat("a", 63),
		strings.Repeat("a", 62) + "-bc": strings.Repeat("a", 62),
		strings.Repeat("ab-", 30):       strings.Repeat("ab-", 20) + "ab",
	} {
		if got := zone.Label(name); got != want {
			t.Errorf("%q became %q, want %q", name, got, want)
		}
	}
}

func FuzzLabel(f *testing.F) {
	label := regexp.MustCompile(`^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$`) // what Kubernetes accepts
	for _, seed := range []string{"nova", "az 1", "-", strings.Repeat("x-", 80), "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got := zone.Label(name)
		if len(got) > 63 || !label.MatchString(got) {
			t.Errorf("%q became %q", name, got)
		}
		if again := zone.Label(got); again != got {
			t.Errorf("%q became %q, and that %q", name, got, again)
		}
	})
}
