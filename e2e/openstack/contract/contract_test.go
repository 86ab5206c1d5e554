package contract

import (
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"os"
	"regexp"
	"slices"
	"testing"
	"time"
)

var (
	update = flag.Bool("update", false, "write down what the real cloud answers")
	rows   = flag.String("rows", "", "run only the rows whose name has this pattern")
)

// row is one line of the table.
type row struct {
	name string
	run  func(p *probe)
}

// recording is what a real cloud answered, and which it was.
type recording struct {
	Versions map[string]string `json:"versions"`
	// Whole tells that all rows were recorded in one run.
	Whole bool                `json:"whole"`
	Rows  map[string][]string `json:"rows"`
}

const recorded = "testdata/zed.json"

// table is every row.
func table() []row {
	return slices.Concat(identityRows(), versionRows(), volumeRows(), createRefusals(), volumeRefusals(), copyRows(), listRows(), serverRows(), attachRefusals(), operatorRows(),
		stateRows(), retypeRows(), zoneRows(), recordRows(),
		typeZoneRows(), nameRows(), metadataRows(), troubleRows())
}

func TestBothCloudsAnswerTheSame(t *testing.T) {
	saved := load(t)
	zed, dev := realCloud(t), development(t)
	var fromReal, fromDev map[string][]string
	t.Run("ask", func(t *testing.T) {
		if zed != nil {
			t.Run("real", func(t *testing.T) {
				t.Parallel()
				fromReal = walk(t, zed)
			})
		}
		t.Run("devcloud", func(t *testing.T) {
			t.Parallel()
			fromDev = walk(t, dev)
		})
	})
	want := saved.Rows
	if zed != nil {
		want = fromReal
		if *update {
			record(t, saved, zed, fromReal)
		} else {
			compare(t, "real cloud", "recording", fromReal, saved.Rows)
		}
	}
	identical, different := compare(t, "devcloud", "real cloud", fromDev, want)
	t.Logf("rows %d, identical %d, different %d (against %s)", identical+different, identical, different, against(zed, saved))
}

// record writes down what the real cloud has answered: all of it in place of
// what was there, or the rows that were chosen among the others.
func record(t *testing.T, saved recording, zed *cloud, answered map[string][]string) {
	t.Helper()
	whole := *rows == ""
	for _, r := range table() {
		if chosen(r.name) && answered[r.name] == nil {
			t.Errorf("row %q has failed", r.name)
			whole = false
		}
	}
	if whole || saved.Rows == nil {
		saved.Rows = map[string][]string{}
	}
	maps.Copy(saved.Rows, answered)
	saved.Versions, saved.Whole = zed.versions, whole
	save(t, saved)
}

func TestRecordingIsOfOneRun(t *testing.T) {
	saved := load(t)
	if !saved.Whole {
		t.Errorf("%s is put together from several runs: go test ./openstack/contract -args -update", recorded)
	}
	for _, r := range table() {
		if saved.Rows[r.name] == nil {
			t.Errorf("%s lacks the row %q", recorded, r.name)
		}
	}
}

func against(zed *cloud, saved recording) string {
	versions, source := saved.Versions, "its recording"
	if zed != nil {
		versions, source = zed.versions, "a running one"
	}
	return "cinder " + versions["cinder-api"] + ", nova " + versions["nova-api"] + ", keystone " + versions["keystone"] + ", " + source
}

// walk runs the table on one cloud and returns what each row wrote down; a row
// that failed has written down nothing.
func walk(t *testing.T, c *cloud) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	newProbe(t, c).clear()
	for _, r := range table() {
		if !chosen(r.name) {
			continue
		}
		t.Run(r.name, func(t *testing.T) {
			p, start := newProbe(t, c), time.Now()
			defer func() {
				t.Logf("%s: %.1f s", c.name, time.Since(start).Seconds())
				if !t.Failed() {
					all[r.name] = p.lines
				}
				p.clear()
			}()
			r.run(p)
		})
	}
	return all
}

// chosen reports whether a row is to be run.
func chosen(name string) bool {
	return regexp.MustCompile(*rows).MatchString(name)
}

// newProbe knows the names of what a cloud has from the start.
func newProbe(t *testing.T, c *cloud) *probe {
	p := &probe{T: t, cloud: c, who: c.member, names: map[string]string{}}
	p.call(c.root("block-storage"), "cinder")
	p.call(c.root("compute"), "nova")
	p.call(c.identity, "keystone")
	p.call(c.member.ProjectID, "project")
	p.call(c.other.ProjectID, "other project")
	p.call(c.admin.ProjectID, "admin project")
	p.call(c.member.UserID, "user")
	for name, id := range c.servers {
		p.call(id, name)
	}
	return p
}

// compare tells every row that differs, and counts.
func compare(t *testing.T, a, b string, got, want map[string][]string) (identical, different int) {
	t.Helper()
	for _, r := range table() {
		if !chosen(r.name) {
			continue
		}
		if slices.Equal(got[r.name], want[r.name]) {
			identical++
			continue
		}
		different++
		if want[r.name] == nil || got[r.name] == nil {
			t.Errorf("%s: %s has %d lines of it, %s %d", r.name, a, len(got[r.name]), b, len(want[r.name]))
			continue
		}
		for i := range max(len(got[r.name]), len(want[r.name])) {
			if x, y := at(got[r.name], i), at(want[r.name], i); x != y {
				t.Errorf("%s, line %d\n  %-10s %s\n  %-10s %s", r.name, i, a, x, b, y)
			}
		}
	}
	for name := range want {
		if !slices.ContainsFunc(table(), func(r row) bool { return r.name == name }) {
			t.Errorf("%s has the row %q and the table hasn't", b, name)
		}
	}
	return identical, different
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(nothing)"
}

func load(t *testing.T) recording {
	t.Helper()
	text, err := os.ReadFile(recorded)
	if errors.Is(err, os.ErrNotExist) && *update {
		return recording{Rows: map[string][]string{}}
	}
	if err != nil {
		t.Fatal(err)
	}
	var r recording
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func save(t *testing.T, r recording) {
	t.Helper()
	text, err := json.MarshalIndent(r, "", " ")
	if err == nil {
		err = os.WriteFile(recorded, append(text, '\n'), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestRowsHaveNamesOfTheirOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range table() {
		if seen[r.name] {
			t.Errorf("two rows are called %q", r.name)
		}
		seen[r.name] = true
	}
}
