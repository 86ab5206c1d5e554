package volumes

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

const (
	// mostListed bounds how many entries of a list are kept.
	mostListed = 20000
	// mostRuns is how many lists may be on their way at a time, page by page, and be kept.
	mostRuns = 3
)

// Listed is what is kept of a volume, snapshot or backup that was made for this cluster.
type Listed struct {
	ID, Name, Status string
	// VolumeID is the volume that a snapshot or backup is of; empty for a volume.
	VolumeID  string
	CreatedAt time.Time
	// Servers are the ids of those that Cinder has a volume attached to.
	Servers []string
	// Temporary tells of a snapshot that exists only until a backup was made of it.
	Temporary bool
}

// Listing is the last list of one kind that was complete.
type Listing struct {
	// At is when its first page was asked for: what was made later may be missing. Zero:
	// no complete list has passed by.
	At time.Time
	// Own are the entries that bear the name of this cluster, the newest first unless the
	// cloud has another order. They are shared: nobody may change them.
	Own []Listed
	// Cut tells that there are more than the 20,000 that are kept.
	Cut bool
}

// Lists are the last complete lists of a project.
type Lists struct{ Volumes, Snapshots, Backups Listing }

// LastLists returns the last complete lists that were read for another reason:
// external-attacher asks for all volumes every --reconcile-sync, and calls that wait for many things
// list these. It asks the cloud nothing.
func (s *Service) LastLists() Lists {
	return Lists{Volumes: s.lists.volumes.latest(), Snapshots: s.lists.snapshots.latest(), Backups: s.lists.backups.latest()}
}

// passing puts the pages of one kind of list together, as they pass by.
type passing struct {
	mu   sync.Mutex
	last Listing
	// runs are the lists that have more pages, the latest page last.
	runs []*run
}

// run is a list that is on its way. next is the marker of its next page.
type run struct {
	Listing
	next     string
	byStatus map[string]int
}

func (p *passing) latest() Listing {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// page notes a page that was asked for at a time, and the marker of the one after it.
// Where that was the last page, and all before it were seen, it returns how many entries
// have each status. read returns what is to be kept of an entry, if anything is.
func (p *passing) page(asked time.Time, of cloud.Page, next string, n int, read func(int) (status string, keep *Listed)) (byStatus map[string]int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.begin(asked, of)
	if now == nil || of.Recent && next != "" {
		return nil
	}
	for i := range n {
		status, keep := read(i)
		now.byStatus[knownState(status)]++
		switch {
		case keep == nil:
		case len(now.Own) < mostListed:
			now.Own = append(now.Own, *keep)
		default:
			now.Cut = true
		}
	}
	if next != "" {
		now.next = next
		p.runs = append(p.runs[max(0, len(p.runs)-mostRuns+1):], now)
		return nil
	}
	if now.At.After(p.last.At) {
		p.last = now.Listing
		return now.byStatus
	}
	return nil
}

// begin returns the list that a page belongs to; nil for one whose beginning nobody saw.
func (p *passing) begin(asked time.Time, of cloud.Page) *run {
	if of.Marker == "" {
		return &run{Listing: Listing{At: asked}, byStatus: make(map[string]int)}
	}
	i := slices.IndexFunc(p.runs, func(r *run) bool { return r.next == of.Marker })
	if i < 0 {
		return nil
	}
	found := p.runs[i]
	p.runs = slices.Delete(slices.Clone(p.runs), i, i+1)
	return found
}

// knownState returns a status of Cinder's as a label's value. A strange one is "other": a
// cloud of a secret may answer anything.
func knownState(status string) string {
	switch bare := strings.TrimPrefix(status, "error_"); bare {
	case "":
		return "unknown"
	case "creating", "downloading", "available", "reserved", "attaching", "in-use", "detaching", "attached", "extending", "retyping",
		"maintenance", "backing-up", "restoring-backup", "deleting", "deleted", "error", "restoring", "managing", "unmanaging",
		"uploading", "awaiting-transfer":
		return status
	}
	return "other"
}
