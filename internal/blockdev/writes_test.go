package blockdev

import "testing"

func TestADiskThatWasWrittenToIsNotUntouched(t *testing.T) {
	for _, tt := range []struct {
		name, stat string
		want       bool
		fails      bool
	}{
		{"only read", "  31 0 2040 12 0 0 0 0 0 8 12 0 0 0 0 0 0", true, false},
		{"only flushed", "31 0 2040 12 0 0 0 0 0 8 12 0 0 0 0 5 1", true, false},
		{"written to", "31 0 2040 12 1 0 8 0 0 8 12 0 0 0 0 0 0", false, false},
		{"discarded", "31 0 2040 12 0 0 0 0 0 8 12 1 0 8 0 0 0", false, false},
		{"written to, by an old kernel", "31 0 2040 12 10 0 80 0 0 8 12", false, false},
		{"only read, by an old kernel", "31 0 2040 12 0 0 0 0 0 8 12", true, false},
		{"nothing that can be understood", "31 0", false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := newTree(t)
			tr.disk("vdb", "252:16", map[string]string{"serial": volumeA[:20], "stat": tt.stat + "\n"})
			d, err := tr.system().Find(t.Context(), volumeA)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := d.Untouched(); got != tt.want || (err != nil) != tt.fails {
				t.Errorf("%t, %v; want %t", got, err, tt.want)
			}
		})
	}
	tr := newTree(t)
	tr.disk("vdb", "252:16", map[string]string{"serial": volumeA[:20]})
	d, err := tr.system().Find(t.Context(), volumeA)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := d.Untouched(); got || err == nil {
		t.Errorf("of which nothing is counted: %t, %v", got, err)
	}
}
