package cinder

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPythonDictionariesAreRead(t *testing.T) {
	for in, want := range map[string]map[string]string{
		`{}`:                           {},
		`{'a': 'b'}`:                   {"a": "b"},
		`{ "a" : 'b', u'c': u"d", }`:   {"a": "b", "c": "d"},
		`{'it\'s': "\"q\""}`:           {"it's": `"q"`},
		`{'a.b/c': 'x,y:z}'}`:          {"a.b/c": "x,y:z}"},
		`{"cinder.csi/cluster": 'k8'}`: {"cinder.csi/cluster": "k8"},
	} {
		got, err := pythonDict(in)
		if err != nil || cmp.Diff(want, got) != "" {
			t.Errorf("%s: %v %v", in, got, err)
		}
	}
	for _, in := range []string{``, `{`, `{'a'}`, `{'a': 1}`, `{'a': 'b'`, `{'a': 'b'} x`, `['a']`, `{'a': 'b}`} {
		if got, err := pythonDict(in); err == nil {
			t.Errorf("%s: %v", in, got)
		}
	}
}

func FuzzPythonDict(f *testing.F) {
	f.Add(`{'a': "b", u'c': 'd'}`)
	f.Fuzz(func(t *testing.T, s string) {
		if m, err := pythonDict(s); err == nil && m == nil {
			t.Error("no dictionary and no error")
		}
	})
}
