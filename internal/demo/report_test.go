package demo

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestThePlainTableIsLinesOnly(t *testing.T) {
	defer goleak.VerifyNone(t)
	var out bytes.Buffer
	r := newReport(&out, style{Width: 80})
	r.Fact("cloud", "http://127.0.0.1:1")
	r.Volume("ext4")
	r.Begin("create")
	r.Detail("never shown")
	r.Note("controller killed; started again")
	r.End(row{step: "create", took: 412 * time.Millisecond, requests: 3, outcome: "1 GiB in az1"})
	r.Begin("attach")
	r.End(row{step: "attach", took: 2346 * time.Millisecond, requests: 14, outcome: "failed", failed: true})
	r.Total(62*time.Second, 17)
	want := `  cloud   http://127.0.0.1:1

  ext4                time  requests  outcome
  note controller killed; started again
  ok   create       412 ms         3  1 GiB in az1
  FAIL attach       2.35 s        14  failed
       total    1 min 02 s        17
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestTheLiveTableEndsAsThePlainOne(t *testing.T) {
	defer goleak.VerifyNone(t)
	var out bytes.Buffer
	r := newReport(&out, style{Live: true, Unicode: true, Width: 40})
	r.Volume("xfs")
	r.Begin("restore")
	r.Detail("a detail that is much too long for a terminal of 40 columns")
	r.Note("devcloud killed; started again")
	r.End(row{step: "restore", took: 1500 * time.Millisecond, requests: 7, outcome: "3 GiB"})
	want := []string{
		"",
		"  xfs              time  requests  outcome",
		"  ↻ devcloud killed; started again",
		"  ✓ restore      1.50 s         7  3 GiB",
		"",
	}
	if diff := cmp.Diff(want, screen(t, out.String(), 40)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// screen plays output as a terminal does, and fails when a line that is
// rewritten later was too wide.
func screen(t *testing.T, output string, width int) []string {
	t.Helper()
	lines := strings.Split(output, "\n")
	for i, line := range lines {
		parts := strings.Split(line, clearLine)
		for _, moving := range parts[:len(parts)-1] {
			if n := len([]rune(moving)); n >= width {
				t.Errorf("a moving line of %d runes wraps at %d columns: %q", n, width, moving)
			}
		}
		lines[i] = parts[len(parts)-1]
	}
	return lines
}

func TestColoursAreOnlyForTerminalsThatWantThem(t *testing.T) {
	if got := (style{}).red("x"); got != "x" {
		t.Errorf("plain: %q", got)
	}
	if got := (style{Color: true}).red("x"); got != "\x1b[31mx\x1b[0m" {
		t.Errorf("coloured: %q", got)
	}
	f, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	env := map[string]string{"TERM": "xterm-256color", "LANG": "C.UTF-8"}
	if got := styleOf(f, func(k string) string { return env[k] }); got != (style{Width: 80}) {
		t.Errorf("a file is taken for a terminal: %+v", got)
	}
}

func TestTheLocaleDecidesAboutUnicode(t *testing.T) {
	tests := []struct {
		name string
		env  map[string]string
		want bool
	}{
		{"no locale means ASCII", nil, false},
		{"LANG with UTF-8", map[string]string{"LANG": "de_DE.UTF-8"}, true},
		{"LC_ALL has precedence", map[string]string{"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, false},
		{"the other spelling", map[string]string{"LC_CTYPE": "C.utf8"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := speaksUTF8(func(k string) string { return tt.env[k] }); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestShortTime(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                         "0 ms",
		412 * time.Millisecond:    "412 ms",
		999600 * time.Microsecond: "1.00 s",
		3421 * time.Millisecond:   "3.42 s",
		125 * time.Second:         "2 min 05 s",
	} {
		if got := shortTime(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestSize(t *testing.T) {
	for bytes, want := range map[int64]string{
		3 * gib: "3 GiB", 2*gib - 100*mib: "1.90 GiB", 32 * mib: "32 MiB",
	} {
		if got := size(bytes); got != want {
			t.Errorf("%d: %q, want %q", bytes, got, want)
		}
	}
}
