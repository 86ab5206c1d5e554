package demo

import "testing"

func TestKernelReleasesAreCompared(t *testing.T) {
	for _, test := range []struct {
		release string
		want    bool
	}{
		{"6.7.0", true},
		{"6.7.12-amd64", true},
		{"6.12.48+deb13-amd64", true},
		{"10.0", true},
		{"6.6.99", false},
		{"6.1.0-13-amd64", false},
		{"5.15.0-91-generic", false},
		{"", false},
		{"linux", false},
	} {
		if got := atLeast(test.release, 6, 7); got != test.want {
			t.Errorf("%q is at least 6.7: %v, want %v", test.release, got, test.want)
		}
	}
}
