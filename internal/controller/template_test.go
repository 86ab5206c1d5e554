package controller

import (
	"strings"
	"testing"
)

func FuzzTemplatesOfMetadata(f *testing.F) {
	for _, seed := range []string{"", "plain", "${pvc.name}", "${pvc.name}-${pv.name}", "$${pvc.name}", "${", "}${x}", "${pvc.name"} {
		f.Add(seed, "claim")
	}
	f.Fuzz(func(t *testing.T, template, claim string) {
		got, err := claimOwner().expand(template, map[string]string{
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
