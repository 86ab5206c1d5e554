package tests

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	prometheus "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
)

// transcript is what happened in the drill, in Markdown.
type transcript struct {
	file string
	mu   sync.Mutex
	// parts and rows are of the incidents, by title; those that were not played are as they
	// were in the page before.
	parts, rows map[string]string
}

// part is what happens in one incident, with names in place of all that is another each time.
type part struct {
	title string
	text  bytes.Buffer
	// alerts are those that held.
	alerts []string
	// names are what varying texts are called, and counts how many names of a kind there are.
	names  map[string]string
	counts map[string]int
}

// newTranscript reads the page that there is.
func newTranscript(file, page string) *transcript {
	t := &transcript{file: file, parts: map[string]string{}, rows: map[string]string{}}
	head, rest, _ := strings.Cut(page, "\n## ")
	for line := range strings.Lines(head) {
		if title, _, ok := strings.Cut(strings.TrimPrefix(line, "| ["), "]"); ok && strings.HasPrefix(line, "| [") {
			t.rows[title] = strings.TrimRight(line, "\n")
		}
	}
	for part := range strings.SplitSeq(rest, "\n## ") {
		if title, _, ok := strings.Cut(part, "\n"); ok {
			t.parts[title] = "## " + strings.TrimRight(part, "\n") + "\n\n"
		}
	}
	return t
}

// newPart begins an incident.
func newPart(title string) *part {
	p := &part{title: title, names: map[string]string{}, counts: map[string]int{}}
	fmt.Fprintf(&p.text, "## %s\n\n", title)
	return p
}

// keep takes a part up, and writes the page.
func (t *transcript) keep(p *part) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.parts[p.title] = p.text.String()
	t.rows[p.title] = fmt.Sprintf("| [%s](#%s) | %s |", p.title, strings.ReplaceAll(strings.ToLower(p.title), " ", "-"), strings.Join(p.alerts, ", "))
	return os.WriteFile(t.file, t.page(), 0o644) // #nosec G306 -- a page of the documents
}

func (p *part) paragraph(text string) {
	fmt.Fprintf(&p.text, "%s\n\n", p.stable(text))
}

// alert writes what an alert says, and for how long it holds before it fires.
func (p *part) alert(a prometheus.Alert, pause time.Duration) {
	name := string(a.Labels[model.AlertNameLabel])
	link := fmt.Sprintf("[%s](alerts.md#%s)", name, strings.ToLower(name))
	if !slices.Contains(p.alerts, link) {
		p.alerts = append(p.alerts, link)
	}
	after := "at once"
	if pause > 0 {
		after = "after " + model.Duration(pause).String()
	}
	fmt.Fprintf(&p.text, "**Alert.** %s (%s, %s): %s\n\n", link, a.Labels["severity"], after, p.stable(string(a.Annotations["summary"])))
}

func (p *part) console(command, said string, status int) {
	var lines []string
	for line := range strings.Lines(p.stable(strings.Trim(said, "\n"))) {
		lines = append(lines, strings.TrimRight(line, " \n"))
	}
	fmt.Fprintf(&p.text, "```console\n$ %s\n%s\n```\n\nExit status %d.\n\n", p.stable(command), strings.Join(lines, "\n"), status)
}

// varying is what is another in each drill, and what it is called instead. Those with a
// number get one for each that there is.
var varying = []struct {
	looks    *regexp.Regexp
	name     string
	numbered bool
}{
	{regexp.MustCompile(`req-[0-9a-f]{8}-[0-9a-f-]{27}`), "req-REQUEST", false},
	{regexp.MustCompile(`pvc-[0-9a-f]{8}-[0-9a-f-]{27}`), "pvc-", true},
	{regexp.MustCompile(`\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`), "ID-", true},
	{regexp.MustCompile(`csi-[0-9a-f]{64}`), "csi-", true},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "HASH-", true},
	{regexp.MustCompile(`\b[0-9a-f]{32}\b`), "HEX-", true},
	{regexp.MustCompile(`cinder-csi-(controller-[0-9a-f]{6,10}|node)-[a-z0-9]{5}\b`), "cinder-csi-POD-", true},
	{regexp.MustCompile(`e2e-[a-z0-9]{5}-`), "class-", false},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?( UTC|Z|[+-]\d\d:\d\d)?`), "TIME", false},
	{regexp.MustCompile(`\bin \d+ days\b`), "in N days", false},
	{regexp.MustCompile(`\b(\d+(\.\d+)?[dhms] )+\d+(\.\d+)?[dhms]\b`), "DURATION", false},
	{regexp.MustCompile(`\b(\d+(\.\d+)?(h|ms|µs|m|s))+\b`), "DURATION", false},
	{regexp.MustCompile(`older than DURATION`), "older than 24h0m0s", false}, // what orphans are is no question of time
	{regexp.MustCompile(`\b\d+(\.\d+)?(%| GiB free)`), "N$2", false},
	{regexp.MustCompile(`/dev/loop\d+`), "/dev/loopN", false},
	{regexp.MustCompile(`\(7:\d+\)`), "(7:N)", false},
	{regexp.MustCompile(`(\bprocess )\d+`), "${1}N", false},
	{regexp.MustCompile(`:(3|4|5)\d{4}\b`), ":PORT", false},
}

// stable gives everything that varies a name.
func (p *part) stable(text string) string {
	for old, name := range p.names {
		if name == "drill" {
			text = strings.ReplaceAll(text, old, name)
		}
	}
	for _, v := range varying {
		if !v.numbered {
			text = v.looks.ReplaceAllString(text, v.name)
			continue
		}
		text = v.looks.ReplaceAllStringFunc(text, func(found string) string {
			if p.names[found] == "" {
				p.counts[v.name]++
				p.names[found] = fmt.Sprintf("%s%d", v.name, p.counts[v.name])
			}
			return p.names[found]
		})
	}
	return text
}

// page is the page of the documents.
func (t *transcript) page() []byte {
	var b bytes.Buffer
	b.WriteString(`# The failure drill

` + "`make drill`" + ` makes incidents in the cluster of the end-to-end tests, with the development cloud below it, and writes this page. Of
each it shows which alert holds, what the commands say, and that the cure of the documents works. An alert is told as soon as
its expression holds in a real Prometheus that scrapes the driver; the time after it says how long it has to hold before it
fires, which the drill doesn't wait for. So that nobody waits for minutes, the threshold of CinderVolumeStuck is a second, the quota
is read every 20 seconds, volumes are listed (` + "`sidecars.attacher.reconcileSync`" + `) and orphans counted every 15. Ids, times and names
that are others in each run have a name in capitals here.

| incident | alert |
|---|---|
`)
	for _, one := range incidents() {
		row := t.rows[one.title]
		if row == "" {
			row = fmt.Sprintf("| %s | not played yet |", one.title)
		}
		b.WriteString(row + "\n")
	}
	b.WriteString("\n")
	for _, one := range incidents() {
		b.WriteString(t.parts[one.title])
	}
	return append(bytes.TrimRight(b.Bytes(), "\n"), '\n')
}

func TestTheTranscriptIsStable(t *testing.T) {
	p := newPart("x")
	p.names["e2e-abcde"] = "drill"
	for said, want := range map[string]string{
		"claim e2e-abcde/data, pvc-5f0c1b1e-4e8b-4f0e-9d4c-1d3c9a2f7e66":                  "claim drill/data, pvc-1",
		"for 5m12s since 2026-11-30T16:04:01Z [req-5f0c1b1e-4e8b-4f0e-9d4c-1d3c9a2f7e66]": "for DURATION since TIME [req-REQUEST]",
		"/csi/" + strings.Repeat("ab", 32) + "/globalmount of /dev/vdb (7:12)":            "/csi/HASH-1/globalmount of /dev/vdb (7:N)",
		"goes on (detaching) for 5m 12s":                                                  "goes on (detaching) for DURATION",
		"class e2e-x1y2z-xfs on cinder-csi-node-x7k2p":                                    "class class-xfs on cinder-csi-POD-1",
	} {
		if got := p.stable(said); got != want {
			t.Errorf("%q became %q, want %q", said, got, want)
		}
	}
}

// TestAPartOfTheDrillKeepsTheRestOfThePage: who plays one incident again changes that alone.
func TestAPartOfTheDrillKeepsTheRestOfThePage(t *testing.T) {
	first, second := incidents()[0].title, incidents()[1].title
	file := filepath.Join(t.TempDir(), "drill.md")
	play := func(text *transcript, title, happens string) string {
		p := newPart(title)
		p.paragraph(happens)
		if err := text.keep(p); err != nil {
			t.Fatal(err)
		}
		page, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(page)
	}
	text := newTranscript(file, "")
	play(text, second, "It happens.")
	page := play(text, first, "It happens.")
	again := newTranscript(file, page)
	if got := string(again.page()); got != page {
		t.Errorf("the page became\n%s\nwant\n%s", got, page)
	}
	got := play(again, first, "It happens again.")
	if strings.Count(got, "\n## ") != 2 || !strings.Contains(got, "again.") || strings.Index(got, "\n## "+first) > strings.Index(got, "\n## "+second) {
		t.Errorf("the page became\n%s", got)
	}
}
