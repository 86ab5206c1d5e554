// Package checkconfig tells an operator what becomes of a cloud.conf: it logs in to each
// of its clouds, asks harmless questions, and judges what comes back.
package checkconfig

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/openstack"
)

// Verdict is what a finding means for the driver.
type Verdict string

// The verdicts, from the best to the worst.
const (
	// Well needs nothing done.
	Well Verdict = "well"
	// Warn works today: a feature is missing, or an end is near.
	Warn Verdict = "warn"
	// Unseen could not be looked at.
	Unseen Verdict = "unseen"
	// Wrong keeps the driver from working, or will within two days.
	Wrong Verdict = "wrong"
)

// worse returns the worse of two.
func worse(a, b Verdict) Verdict {
	order := map[Verdict]int{Well: 0, Warn: 1, Unseen: 2, Wrong: 3}
	if order[b] > order[a] {
		return b
	}
	return a
}

// Finding is one thing that was looked at.
type Finding struct {
	Subject string  `json:"subject"`
	Verdict Verdict `json:"verdict"`
	Text    string  `json:"text"`
	// Do is what to do about it; empty where nothing is to be done.
	Do string `json:"do,omitempty"`
}

// Cloud is what was found in one cloud.
type Cloud struct {
	// Name is that of its section in cloud.conf, "default" for the one without a name.
	Name     string                 `json:"name"`
	Verdict  Verdict                `json:"verdict"`
	Findings []Finding              `json:"findings"`
	Facts    *openstack.Examination `json:"facts"`
}

// Answer is what was found in all of them.
type Answer struct {
	Files   []string `json:"files"`
	Verdict Verdict  `json:"verdict"`
	// Findings are about the files.
	Findings []Finding `json:"findings"`
	Clouds   []Cloud   `json:"clouds"`
}

// Wrong reports whether something is wrong.
func (a *Answer) Wrong() bool { return a.has(Wrong) }

// Unseen reports whether something could not be looked at, so that the answer is not whole.
func (a *Answer) Unseen() bool { return a.has(Unseen) }

func (a *Answer) has(v Verdict) bool {
	for _, f := range a.all() {
		if f.Verdict == v {
			return true
		}
	}
	return false
}

// Brief returns the answer without the findings that are well.
func (a *Answer) Brief() *Answer {
	brief := *a
	brief.Findings, brief.Clouds = notWell(a.Findings), slices.Clone(a.Clouds)
	for i := range brief.Clouds {
		brief.Clouds[i].Findings = notWell(brief.Clouds[i].Findings)
	}
	return &brief
}

func notWell(findings []Finding) []Finding {
	return slices.DeleteFunc(slices.Clone(findings), func(f Finding) bool { return f.Verdict == Well })
}

// all are the findings about the files and the clouds.
func (a *Answer) all() []Finding {
	found := a.Findings[:len(a.Findings):len(a.Findings)]
	for _, c := range a.Clouds {
		found = append(found, c.Findings...)
	}
	return found
}

// Options say what to look at.
type Options struct {
	// Files are the cloud.conf files, later ones over earlier ones.
	Files []string
	// Names are the sections to look at; none: all.
	Names []string
	// Version is the driver's.
	Version string
	// Patience bounds each question; 15 s where it is 0.
	Patience time.Duration
	// Now is the time to judge ends by; the present where it is zero.
	Now time.Time
}

// atOnce is how many clouds are looked at side by side.
const atOnce = 8

// Check looks at the clouds of a configuration. Its answer is never nil; whatever fails
// is a finding of it.
func Check(ctx context.Context, opts Options) *Answer {
	if opts.Patience <= 0 {
		opts.Patience = 15 * time.Second
	}
	if opts.Now.IsZero() {
		opts.Now = time.Now()
	}
	a := &Answer{Files: opts.Files, Verdict: Well}
	config, err := openstack.ReadConfig(opts.Files...)
	if err != nil {
		a.Findings = append(a.Findings, unreadable(err))
	} else {
		a.Findings = keys(config)
		names := opts.Names
		if len(names) == 0 {
			names = config.Names()
		}
		if len(names) == 0 {
			a.Findings = append(a.Findings, Finding{"files", Wrong, strings.Join(opts.Files, ", ") + " has no section [Global]", "add [Global] with auth-url and credentials"})
		}
		a.Clouds = examine(ctx, config, names, opts)
	}
	for _, f := range a.all() {
		a.Verdict = worse(a.Verdict, f.Verdict)
	}
	return a
}

// examine looks at clouds side by side.
func examine(ctx context.Context, config openstack.Config, names []string, opts Options) []Cloud {
	clouds := make([]Cloud, len(names))
	turns := make(chan struct{}, atOnce)
	var group sync.WaitGroup
	for i, name := range names {
		group.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			clouds[i] = look(ctx, config, name, opts)
		})
	}
	group.Wait()
	return clouds
}

// unnamed is what the section without a name is called.
const unnamed = "default"

func look(ctx context.Context, config openstack.Config, name string, opts Options) Cloud {
	found := Cloud{Name: cmp.Or(name, unnamed), Verdict: Well}
	if _, own := config.Global[name]; name == unnamed && !own {
		name = ""
	}
	section, err := config.Cloud(name)
	if err != nil {
		found.Findings = []Finding{{"section", Wrong, err.Error(), "name a section that is there with --cloud-name, or add it"}}
	} else {
		found.Facts = openstack.Examine(ctx, section, openstack.Options{
			Version: opts.Version, IgnoreVolumeMicroversion: config.BlockStorage.IgnoreVolumeMicroversion,
		}, opts.Patience)
		found.Findings = judge(found.Facts, config.BlockStorage, opts.Now)
	}
	for _, f := range found.Findings {
		found.Verdict = worse(found.Verdict, f.Verdict)
	}
	return found
}
