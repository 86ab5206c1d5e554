package controller

import (
	"maps"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func FuzzTemplatesOfMetadata(f *testing.F) {
	for _, seed := range []string{"", "plain", "${pvc.name}", "${pvc.name}-${pv.name}", "$${pvc.name}", "${", "}${x}", "${pvc.name"} {
		f.Add(seed, "claim")
	}
	f.Fuzz(func(t *testing.T, template, claim string) {
		got, err := claimObject().expand(template, map[string]string{
			"csi.storage.k8s.io/pvc/name": claim, "csi.storage.k8s.io/pvc/namespace": claim, "csi.storage.k8s.io/pv/name": claim,
		})
		if err != nil {
			return
		}
		want := template
		for _, name := range []string{"${pvc.name}", "${pvc.namespace}", "${pv.name}"} {
			want = strings.ReplaceAll(want, name, "\x00")
		}
		if want = strings.ReplaceAll(want, "\x00", claim); got != want && !strings.Contains(template, "\x00") {
			t.Fatalf("%q became %q, want %q", template, got, want)
		}
	})
}

// FuzzClassesAreReadInOneWay holds that a class is refused with InvalidArgument, or read
// into parameters that are read again as the same.
func FuzzClassesAreReadInOneWay(f *testing.F) {
	for _, seed := range [][2]string{{"TYPE", " ssd "}, {"encrypted", "False"}, {"tpye", ""}, {"allowVolumeExpansion", "T"}, {"csi.storage.k8s.io/FSTYPE", "\x00"}, {"ä", "1"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, key, value string) {
		for _, c := range []class{storageClass(), snapshotClass(), attributesClass()} {
			params, _, err := c.read(map[string]string{key: value}, false)
			if err != nil {
				if status.Code(err) != codes.InvalidArgument || len(params) != 0 {
					t.Fatalf("%s: %v, %v", c.kind, params, err)
				}
				continue
			}
			if again, _, err := c.read(params, false); err != nil || !maps.Equal(again, params) {
				t.Fatalf("%s: %q=%q was read as %v, and that as %v, %v", c.kind, key, value, params, again, err)
			}
		}
	})
}
