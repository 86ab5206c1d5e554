package upstream

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// said is a report in ginkgo's own words: one spec of each kind, and one that
// isn't about an external driver.
const said = `[{"SuiteSucceeded": false, "SpecialSuiteFailureReasons": [], "SpecReports": [
 {"ContainerHierarchyTexts": null, "LeafNodeType": "SynchronizedBeforeSuite", "LeafNodeText": "", "State": "passed"},
 {"ContainerHierarchyTexts": ["External Storage [Driver: cinder.csi.openstack.org]", "[Testpattern: A]"], "LeafNodeType": "It", "LeafNodeText": "works", "State": "passed", "RunTime": 1500000000},
 {"ContainerHierarchyTexts": ["External Storage [Driver: cinder.csi.openstack.org]", "[Testpattern: A]"], "LeafNodeType": "It", "LeafNodeText": "breaks", "State": "failed", "Failure": {"Message": "no disk"}},
 {"ContainerHierarchyTexts": ["External Storage [Driver: cinder.csi.openstack.org]", "[Testpattern: A]"], "LeafNodeType": "It", "LeafNodeText": "takes too long", "State": "timedout", "Failure": {"Message": "late"}},
 {"ContainerHierarchyTexts": ["External Storage [Driver: cinder.csi.openstack.org]", "[Testpattern: Dynamic PV (ntfs)]"], "LeafNodeType": "It", "LeafNodeText": "is for Windows", "State": "skipped", "Failure": {"Message": "Distro debian doesn't support ntfs -- skipping"}},
 {"ContainerHierarchyTexts": ["External Storage [Driver: cinder.csi.openstack.org]", "[Testpattern: A]"], "LeafNodeType": "It", "LeafNodeText": "wasn't asked for", "State": "skipped"},
 {"ContainerHierarchyTexts": ["Something else"], "LeafNodeType": "It", "LeafNodeText": "fails", "State": "failed"}
]}]`

func reportOf(t *testing.T, content string) report {
	t.Helper()
	path := filepath.Join(t.TempDir(), "report.json")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := readReport(path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func spec(name string) Spec { return Spec{Driver: mainDriver, Name: name} }

func TestReportTellsWhatBecameOfEverySpec(t *testing.T) {
	r := reportOf(t, said)
	want := map[string]State{
		"[Testpattern: A] works": Passed, "[Testpattern: A] breaks": Failed, "[Testpattern: A] takes too long": Failed,
		"[Testpattern: Dynamic PV (ntfs)] is for Windows": Skipped, "[Testpattern: A] wasn't asked for": Absent,
	}
	if len(r.specs) != len(want) || len(r.broken) != 0 {
		t.Errorf("got %d specs, broken %v", len(r.specs), r.broken)
	}
	for _, s := range r.specs {
		if s.State != want[s.Name] || s.Driver != mainDriver {
			t.Errorf("%s became %s, want %s", s, s.State, want[s.Name])
		}
	}
}

func TestReportWithoutSpecsIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report.json")
	for _, content := range []string{"", "[]", `[{"SpecReports": []}]`, "{"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readReport(path); err == nil {
			t.Errorf("no error for %q", content)
		}
	}
}

func TestFailureOutsideOfSpecsIsAProblem(t *testing.T) {
	r := reportOf(t, strings.Replace(said, `"LeafNodeText": "", "State": "passed"`,
		`"LeafNodeText": "", "State": "failed", "Failure": {"Message": "no nodes"}`, 1))
	s := judge(Profile{}, r, 0)
	if s.OK() || len(s.Problems) != 1 || !strings.Contains(s.Problems[0], "no nodes") {
		t.Errorf("got %v", s.Problems)
	}
}

func TestStagesAreMerged(t *testing.T) {
	all := func(states ...State) report {
		var r report
		for i, state := range states {
			r.specs = append(r.specs, Spec{Driver: mainDriver, Name: string(rune('a' + i)), State: state})
		}
		return r
	}
	r := all(Passed, Absent, Failed, Absent)
	r.merge(all(Absent, Passed, Absent, Absent))
	for i, want := range []State{Passed, Passed, Failed, Absent} {
		if r.specs[i].State != want {
			t.Errorf("%s: got %s, want %s", r.specs[i].Name, r.specs[i].State, want)
		}
	}
}

func TestJudgement(t *testing.T) {
	works, breaks := spec("[Testpattern: A] works"), spec("[Testpattern: A] breaks")
	windows, absent := spec("[Testpattern: Dynamic PV (ntfs)] is for Windows"), spec("[Testpattern: A] wasn't asked for")
	for _, test := range []struct {
		name    string
		profile Profile
		ok      bool
		says    []string
	}{
		{"all is well", Profile{Stages: []Stage{{Specs: []Spec{works, windows}}}, Floor: 1}, true,
			[]string{"ran 1, passed 1, failed 0, skipped 1", "nodes with Windows", "Dynamic PV (ntfs): 1"}},
		{"a spec failed", Profile{Stages: []Stage{{Specs: []Spec{works, breaks}}}}, false,
			[]string{"ran 2, passed 1, failed 1, skipped 0", "FAILED", "breaks", "no disk"}},
		{"too few were run", Profile{Stages: []Stage{{Specs: []Spec{works}}}, Floor: 2}, false, []string{"only 1 specs were run, at least 2"}},
		{"one wasn't run", Profile{Stages: []Stage{{Specs: []Spec{works, absent}}}}, false, []string{"not run, although it was chosen", "wasn't asked for"}},
		{"one is unknown to the report", Profile{Stages: []Stage{{Specs: []Spec{spec("is new")}}}}, false, []string{"not run", "is new"}},
		{"one that must not skip itself did", Profile{Stages: []Stage{{Specs: []Spec{windows}}}, All: true}, false, []string{"skipped itself, although"}},
		{"some were left out", Profile{Stages: []Stage{{Specs: []Spec{works}}}, Left: map[string][]Spec{"the moon is full": {breaks}}}, true,
			[]string{"skipped 1", "1  the moon is full"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := judge(test.profile, reportOf(t, said), time.Minute)
			path := filepath.Join(t.TempDir(), "summary.txt")
			if err := s.Save(path); err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if s.OK() != test.ok {
				t.Errorf("OK is %t, want %t", s.OK(), test.ok)
			}
			for _, words := range test.says {
				if !strings.Contains(string(text), words) {
					t.Errorf("the summary does not say %q:\n%s", words, text)
				}
			}
		})
	}
}

func TestUnknownReasonToSkipIsAProblem(t *testing.T) {
	r := reportOf(t, strings.Replace(said, "Distro debian doesn't support ntfs", "The weather is bad", 1))
	s := judge(Profile{Stages: []Stage{{Specs: []Spec{spec("[Testpattern: Dynamic PV (ntfs)] is for Windows")}}}}, r, 0)
	if s.OK() || !strings.Contains(strings.Join(s.Problems, ""), "nobody looked at yet") {
		t.Errorf("got %v", s.Problems)
	}
}

func TestProfiles(t *testing.T) {
	all := []Spec{
		spec("[Testpattern: Dynamic PV (default fs)] volumes should store data"),
		spec("[Testpattern: Dynamic PV (block volmode)] disruptive [Disruptive] [LinuxOnly] stops a kubelet"),
		spec("[Testpattern: Dynamic PV (default fs)] seLinuxMount [Feature:SELinux] mounts"),
		spec("[Testpattern: Dynamic PV (default fs)(allowExpansion)] volume-expand should resize volume when PVC is edited while pod is using it"),
		{Driver: xfsDriver, Name: "[Testpattern: Dynamic PV (default fs)(allowExpansion)] volume-expand should resize volume when PVC is edited while pod is using it"},
		{Driver: xfsDriver, Name: "[Testpattern: Dynamic PV (default fs)] volumes should store data"},
		{Driver: multiattachDriver, Name: "[Testpattern: Dynamic PV (block volmode)] multiVolume [Slow] should concurrently access the single volume from pods on different node"},
		{Driver: multiattachDriver, Name: "[Testpattern: Dynamic PV (ext4)] multiVolume [Slow] should concurrently access the single volume from pods on different node"},
		{Driver: "other", Name: "[Testpattern: Dynamic PV (default fs)] volumes should store data"},
	}
	for _, test := range []struct {
		name             string
		profile          Profile
		side, down, left int
	}{
		{"a machine that can everything", Full(all, Machine{GrowsExt4InUse: true, SELinux: true}, 4), 5, 1, 0},
		{"one that can't", Full(all, Machine{}, 4), 3, 1, 2},
		{"a focus", Focused(all, Machine{}, 4, regexp.MustCompile("store data|kubelet")), 1, 1, 0},
	} {
		left := 0
		for _, specs := range test.profile.Left {
			left += len(specs)
		}
		side, down := test.profile.Stages[0], test.profile.Stages[1]
		if len(side.Specs) != test.side || len(down.Specs) != test.down || left != test.left {
			t.Errorf("%s: %d at once, %d with kubelets stopped, %d left out; want %d, %d, %d",
				test.name, len(side.Specs), len(down.Specs), left, test.side, test.down, test.left)
		}
		if down.Procs != 1 || !down.SSH {
			t.Errorf("%s: specs that stop kubelets are run side by side, or can't log in", test.name)
		}
	}
	if _, err := listed("# a comment\n\n"+all[0].String()+"\n", all, Machine{}, 1); err != nil {
		t.Error(err)
	}
	if _, err := listed(mainDriver+": no such spec\n", all, Machine{}, 1); err == nil {
		t.Error("a list may name specs that don't exist")
	}
}

func TestPatternMatchesItsSpecAlone(t *testing.T) {
	s := spec("[Testpattern: Dynamic PV (default fs)] volumes  should store data")
	pattern := regexp.MustCompile(s.pattern())
	text := "[sig-storage] External Storage [Driver: cinder.csi.openstack.org] [Testpattern: Dynamic PV (default fs)] volumes should store data"
	if !pattern.MatchString(text) {
		t.Errorf("%s does not match %s", pattern, text)
	}
	for _, other := range []string{text + " twice", strings.Replace(text, "Driver: ", "Driver: xfs.", 1)} {
		if pattern.MatchString(other) {
			t.Errorf("%s matches %s too", pattern, other)
		}
	}
}

func TestLongMessagesAreCut(t *testing.T) {
	got := firstLines(strings.Repeat("x", 1000)+"\nb\nc\nd", 2)
	if lines := strings.Split(got, "\n"); len(lines) != 3 || len(lines[0]) > 310 || lines[2] != "…" {
		t.Errorf("got %q", got)
	}
}

func TestBoundingSet(t *testing.T) {
	set, err := boundingSet("Name:\tx\nCapEff:\t0\nCapBnd:\t000001fffeffffff\n")
	if err != nil || set&(1<<capSysResource) != 0 || set&1 == 0 {
		t.Errorf("got %x, %v", set, err)
	}
	for _, status := range []string{"", "CapBnd:\tmany\n"} {
		if _, err := boundingSet(status); err == nil {
			t.Errorf("no error for %q", status)
		}
	}
}

func TestProgressTellsFailuresAtOnce(t *testing.T) {
	var out, log strings.Builder
	p := newProgress(&out, &log, Stage{Name: "main", Procs: 2, Specs: []Spec{spec("a"), spec("b")}})
	text := "• [12.3 seconds]\n[sig-storage] External Storage [Driver: x] works\n-----\n• [FAILED] [1.5 seconds]\n[sig-storage] External Storage [Driver: x] breaks [It]\nrest"
	for _, piece := range []string{text[:20], text[20:90], text[90:]} {
		if _, err := p.Write([]byte(piece)); err != nil {
			t.Fatal(err)
		}
	}
	p.end()
	if log.String() != text {
		t.Errorf("the log has %q", log.String())
	}
	for _, words := range []string{"main: 2 specs, 2 at a time", "FAILED: x] breaks", "1 passed, 1 failed, of at most 2"} {
		if !strings.Contains(out.String(), words) {
			t.Errorf("it does not tell %q: %s", words, out.String())
		}
	}
}
