// Package nodeinspect tells an operator what the node role sees on a server: who the
// server is, how many volumes it takes, its disks, the places of its volumes, and whether
// the kubelet knows the driver. It looks by the driver's own functions, so that it tells
// what the driver would do, and changes nothing.
package nodeinspect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sync/errgroup"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/instance"
	"github.com/cinder-csi/cinder-csi/internal/node"
)

// Parts are those of the node role.
type Parts struct {
	Node     *node.Server
	Finder   blockdev.Finder
	FS       *filesystem.FS
	Instance *instance.Server
}

// Options say where to look.
type Options struct {
	// Driver is the name of the CSI driver.
	Driver string
	// NodeName is what Kubernetes calls the node, for commands that are told.
	NodeName string
	// KubeletDir is the kubelet's directory.
	KubeletDir string
	// RegistrationSocket is that of a plugin that registers itself; empty if a side
	// container does that.
	RegistrationSocket string
	// MetricsURL is where the plugin that runs here has its metrics; empty for none.
	MetricsURL string
	// Plugin says how the plugin that runs here was found; empty if none was.
	Plugin string
	// Patience bounds what is asked of the cloud's metadata; 15 s where it is 0.
	Patience time.Duration
}

// Answer is what was found.
type Answer struct {
	NodeName     string       `json:"nodeName"`
	Plugin       string       `json:"plugin"`
	Server       Server       `json:"server"`
	Limit        Limit        `json:"limit"`
	Disks        []Disk       `json:"disks"`
	DisksError   string       `json:"disksError,omitempty"`
	Mappings     []Mapping    `json:"mappings"`
	Places       []node.Place `json:"places"`
	PlacesError  string       `json:"placesError,omitempty"`
	Registration Registration `json:"registration"`
	Findings     []Finding    `json:"findings"`
}

// Server is who this server is.
type Server struct {
	ServerID string `json:"serverID"`
	// Source is what told it first: configDrive, metadataService, or flag for --nodeid.
	Source   string            `json:"source"`
	Zone     string            `json:"zone"`
	Topology map[string]string `json:"topology"`
	Sources  []Source          `json:"sources"`
	// Error is why NodeGetInfo fails.
	Error string `json:"error,omitempty"`
}

// Source is what one of the sources says.
type Source struct {
	Name     string `json:"name"`
	ServerID string `json:"serverID,omitempty"`
	Zone     string `json:"zone,omitempty"`
	Error    string `json:"error,omitempty"`
}

// Limit is how many volumes the server takes, and has.
type Limit struct {
	node.AttachLimit
	// Attached are disks that are volumes, Others those that take places of the bus, too.
	Attached int    `json:"attached"`
	Others   int    `json:"others"`
	Error    string `json:"error,omitempty"`
}

// Disk is one disk of the server.
type Disk struct {
	Device string `json:"device"`
	Name   string `json:"name"`
	Number string `json:"number"`
	Serial string `json:"serial"`
	// VolumeID is that of the volume as which the driver would find the disk, or as much of
	// it as the disk tells.
	VolumeID string `json:"volumeID,omitempty"`
	Size     int64  `json:"size"`
	ReadOnly bool   `json:"readOnly"`
	OnBus    bool   `json:"onBus"`
	System   bool   `json:"system"`
	// Counts tells that it counts as a volume against the limit.
	Counts     bool     `json:"counts"`
	Unanswered bool     `json:"unanswered"`
	Holders    []string `json:"holders,omitempty"`
	// Content is what the disk holds, in the words of the proof that is made before a
	// filesystem is; empty where it wasn't read.
	Content      string `json:"content,omitempty"`
	ContentError string `json:"contentError,omitempty"`
	// FoundBy tells what the driver would find it by, and Refused why it wouldn't touch it.
	FoundBy string `json:"foundBy,omitempty"`
	Refused string `json:"refused,omitempty"`
	// Hangs tells that a read of it didn't end.
	Hangs bool `json:"hangs"`
}

// Mapping is the open device of an encrypted volume.
type Mapping struct {
	Title    string `json:"title"`
	Device   string `json:"device"`
	Number   string `json:"number"`
	VolumeID string `json:"volumeID"`
	// Disk is what it is built upon; empty where that is gone.
	Disk string `json:"disk"`
}

// Wrong implements report.Answer.
func (a *Answer) Wrong() bool {
	return slices.ContainsFunc(a.Findings, func(f Finding) bool { return f.Wrong })
}

// Look looks at the node. Whatever fails is a finding.
func Look(ctx context.Context, parts Parts, opts Options) *Answer {
	if opts.Patience <= 0 {
		opts.Patience = 15 * time.Second
	}
	a := &Answer{NodeName: opts.NodeName, Plugin: opts.Plugin}
	var looks errgroup.Group
	looks.Go(func() error { a.Server = server(ctx, parts, opts); return nil })
	looks.Go(func() error { a.Limit = limit(ctx, parts); return nil })
	looks.Go(func() error {
		places, err := parts.Node.Survey(ctx, opts.KubeletDir, opts.Driver)
		a.Places, a.PlacesError = places, text(err)
		a.Disks, a.Mappings, a.DisksError = disks(ctx, parts, places)
		return nil
	})
	looks.Go(func() error { a.Registration = registered(ctx, opts); return nil })
	_ = looks.Wait() // none fails
	for _, d := range a.Disks {
		switch {
		case d.Counts:
			a.Limit.Attached++
		case d.OnBus:
			a.Limit.Others++
		}
	}
	a.Findings = judge(a)
	a.Disks, a.Mappings, a.Places, a.Findings = list(a.Disks), list(a.Mappings), list(a.Places), list(a.Findings)
	return a
}

// list is empty rather than null in JSON.
func list[T any](all []T) []T { return append([]T{}, all...) }

// text is an error in words, empty for none.
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// server asks who this server is as the driver does, and each source what it says.
func server(ctx context.Context, parts Parts, opts Options) (s Server) {
	ctx, cancel := context.WithTimeout(ctx, opts.Patience)
	defer cancel()
	told := make(chan []instance.Told, 1)
	go func() { told <- parts.Instance.Sources(ctx) }()
	info, err := parts.Node.NodeGetInfo(ctx, &csi.NodeGetInfoRequest{})
	s.ServerID, s.Topology, s.Error = info.GetNodeId(), info.GetAccessibleTopology().GetSegments(), text(err)
	for _, t := range <-told {
		s.Sources = append(s.Sources, Source{Name: string(t.Source), ServerID: t.ServerID, Zone: t.Zone, Error: text(t.Err)})
		if t.Err == nil && s.Source == "" {
			s.Source, s.Zone = string(t.Source), t.Zone
		}
	}
	if s.Source == "" && s.ServerID != "" {
		s.Source = "flag"
	}
	return s
}

func limit(ctx context.Context, parts Parts) (l Limit) {
	attach, err := parts.Node.AttachLimit(ctx)
	return Limit{AttachLimit: attach, Error: text(err)}
}

// diskTime is how long the content of a disk is waited for.
const diskTime = 5 * time.Second

// disks looks at all disks on the server's buses, and at the mappings of volumes. The
// places complete the ids of which disks tell a part.
func disks(ctx context.Context, parts Parts, places []node.Place) (found []Disk, open []Mapping, failure string) {
	listed, err := parts.Finder.Disks(ctx)
	if err != nil {
		return nil, nil, err.Error()
	}
	mappings, err := parts.Finder.Mappings()
	listed = slices.DeleteFunc(listed, func(l blockdev.Listed) bool { return !l.OnBus })
	found = make([]Disk, len(listed))
	var looks errgroup.Group
	looks.SetLimit(8)
	for i, l := range listed {
		hangs := ""
		for _, p := range places {
			if l.VolumeID != "" && strings.HasPrefix(p.VolumeID, l.VolumeID) {
				l.VolumeID = p.VolumeID
			}
			if p.Condition == "hangs" && l.VolumeID != "" && p.VolumeID == l.VolumeID {
				hangs = p.Error
			}
		}
		looks.Go(func() error { found[i] = disk(ctx, parts, l, hangs); return nil })
	}
	_ = looks.Wait() // none fails
	for _, m := range mappings {
		mapping := Mapping{Title: m.Title, Device: m.Path, Number: blockdev.FormatNumber(m.Number), VolumeID: m.VolumeID}
		for _, l := range listed {
			if on, err := m.On(l.Disk); err == nil && on {
				mapping.Disk = l.Path
			}
		}
		open = append(open, mapping)
	}
	return found, open, text(err)
}

// disk looks at one disk. What may hang with its storage is left behind; of one that is
// known to hang, hangs says how, and it is not read.
func disk(ctx context.Context, parts Parts, l blockdev.Listed, hangs string) Disk {
	ctx, cancel := context.WithTimeout(ctx, diskTime)
	defer cancel()
	d := Disk{
		Device: l.Path, Name: l.Name, Serial: l.Serial, VolumeID: l.VolumeID, Size: l.Size, Number: blockdev.FormatNumber(l.Number),
		ReadOnly: l.ReadOnly, OnBus: l.OnBus, System: l.System, Counts: l.Volume(), Unanswered: l.Unanswered,
	}
	holders, err := blockdev.Holders(l.Disk)
	for _, h := range holders {
		d.Holders = append(d.Holders, h.String())
	}
	if err != nil && !errors.Is(err, blockdev.ErrNotFound) {
		d.Refused = err.Error()
	}
	if d.VolumeID != "" && !d.System {
		switch as, err := parts.Finder.Find(ctx, l.VolumeID); {
		case err == nil:
			d.FoundBy = as.FoundBy()
		case errors.Is(err, blockdev.ErrVolumeID): // the disk tells only a part of it
			d.FoundBy = "serial"
		default:
			d.Refused = err.Error()
		}
	}
	if d.Hangs = hangs != ""; d.Hangs {
		d.ContentError = hangs
		return d
	}
	// A floppy drive, or an empty CD-ROM, takes seconds and fills the kernel's log.
	if l.System || l.Unanswered || l.Size == 0 || strings.HasPrefix(l.Name, "fd") || strings.HasPrefix(l.Name, "sr") {
		return d
	}
	content, err := parts.FS.Probe(ctx, filesystem.Device{Path: l.Path, Owner: l.VolumeID})
	d.Content, d.Hangs = content.Detail, errors.Is(err, context.DeadlineExceeded)
	if d.ContentError = text(err); d.Hangs {
		d.ContentError = fmt.Sprintf("a read of %s didn't end within %v", l.Path, diskTime)
	}
	return d
}
