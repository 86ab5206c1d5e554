// Package instance answers the node plugin's question "which server am I?"
// without any credentials: from the config drive, or from the metadata service
// that every OpenStack cloud offers to its servers.
package instance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Identity is what a server knows about itself.
type Identity struct {
	// ServerID is Nova's UUID of the server, in lower case and with dashes.
	ServerID string
	// Zone is the availability zone, as Nova names it; empty where it names none.
	Zone string
}

// Source is a place to ask.
type Source string

// The sources, with the names that [Metadata] search-order of cloud.conf uses.
const (
	ConfigDrive     Source = "configDrive"
	MetadataService Source = "metadataService"
)

// Defaults of Options. Under load, metadata services have been seen to take 6 s for an answer.
const (
	DefaultDevDir      = "/dev"
	DefaultMetadataURL = "http://169.254.169.254"
	DefaultTimeout     = 30 * time.Second
)

// DefaultOrder is the order in which the sources are asked where cloud.conf
// says nothing.
func DefaultOrder() []Source { return []Source{ConfigDrive, MetadataService} }

// Options tell New where to look. The zero value looks where a real server has
// to.
type Options struct {
	// DevDir is the directory of devices, where a config drive that is a plain file has its
	// link by label; default DefaultDevDir.
	DevDir string
	// Disks returns the paths of those disks of the server that can't be a volume, whose
	// content anybody may have written; nil for none. See blockdev.System.NoVolumes.
	Disks func(context.Context) ([]string, error)
	// MetadataURL is the metadata service, scheme and host, without the path;
	// an IPv6 address stands in brackets, its zone after %25. Default
	// DefaultMetadataURL.
	MetadataURL string
	// Order names the sources and their order; default DefaultOrder.
	Order []Source
	// Timeout bounds a question to the metadata service, with its repetitions; default
	// DefaultTimeout.
	Timeout time.Duration
}

// ErrUnknown means that none of the sources told which server this is.
var ErrUnknown = errors.New("can't find out which server this is")

// Server is the server that this process runs on. It is safe for concurrent use.
type Server struct {
	opts   Options
	drives drives
	known  atomic.Pointer[known]
}

// known is what the last call of Identify has learnt.
type known struct {
	Identity
	// live tells that the metadata service has told the zone.
	live bool
}

// laterTime bounds what Identify waits for, once it has an answer to fall back on, and a
// question for a disk to one source.
const laterTime = 10 * time.Second

// New returns a Server. It asks nothing until it is called.
func New(opts Options) *Server {
	opts = opts.withDefaults()
	return &Server{opts: opts, drives: drives{devDir: opts.DevDir, disks: opts.Disks}}
}

// Identify returns which server this is, as the first source tells that answers. Its
// error wraps ErrUnknown and says what went wrong with each source; it wraps the error of
// ctx too where that ended the search.
//
// The zone is believed by age, whatever the order of the sources: a server may be moved to
// another zone, and a config drive is written when the server is first booted, or rebuilt.
// So the zone is the metadata service's, where that is one of the sources and tells the same server;
// else the one that it told last; else the config drive's.
//
// Each call asks anew. Once a call has succeeded, later ones return what was known where
// no source answers within ten seconds, or the answer is of another server: none becomes
// another one while it runs.
func (s *Server) Identify(ctx context.Context) (Identity, error) {
	before := s.known.Load()
	if before != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, laterTime)
		defer cancel()
	}
	id, from, err := s.who(ctx)
	switch {
	case before != nil && (err != nil || id.ServerID != before.ServerID):
		return before.Identity, nil
	case err != nil:
		return Identity{}, err
	}
	now := s.where(ctx, id, from)
	if !now.live && before != nil && before.live {
		now.Zone, now.live = before.Zone, true
	}
	s.known.Store(&now)
	return now.Identity, nil
}

// Told is what one source says about this server.
type Told struct {
	Source Source
	Identity
	// Err is why it says nothing.
	Err error
}

// Sources asks each source once, for ten seconds at most, all at the same time. They are
// returned in their order.
func (s *Server) Sources(ctx context.Context) []Told {
	ctx, cancel := context.WithTimeout(ctx, laterTime)
	defer cancel()
	told := make([]Told, len(s.opts.Order))
	var asked sync.WaitGroup
	for i, source := range s.opts.Order {
		asked.Go(func() {
			id, err := s.ask(ctx, source, 1)
			told[i] = Told{source, id, err}
		})
	}
	asked.Wait()
	return told
}

// who asks the sources in order, and returns the first answer and the place of its source
// in the order.
func (s *Server) who(ctx context.Context) (id Identity, from int, err error) {
	err = ErrUnknown
	for i, source := range s.opts.Order {
		id, failure := s.ask(ctx, source, attempts)
		if failure == nil {
			return id, i, nil
		}
		err = fmt.Errorf("%w; %s: %w", err, source, failure)
	}
	return Identity{}, 0, err
}

// where completes an answer by the zone. Sources that come later in the order are asked if
// they may know better, for ten seconds at most, and but once where there is a zone without them.
func (s *Server) where(ctx context.Context, id Identity, from int) known {
	now := known{Identity: id, live: s.opts.Order[from] == MetadataService && id.Zone != ""}
	ctx, cancel := context.WithTimeout(ctx, laterTime)
	defer cancel()
	for _, source := range s.opts.Order[from+1:] {
		if now.live || source == ConfigDrive && now.Zone != "" {
			continue
		}
		times := 1
		if now.Zone == "" {
			times = attempts
		}
		other, err := s.ask(ctx, source, times)
		if err == nil && other.ServerID == id.ServerID && other.Zone != "" {
			now.Zone, now.live = other.Zone, source == MetadataService
		}
	}
	return now
}

// ask asks one source. The metadata service is asked up to so many times.
func (s *Server) ask(ctx context.Context, source Source, times int) (Identity, error) {
	data, err := s.read(ctx, source, times)
	if err != nil {
		return Identity{}, err
	}
	return parseMetadata(data)
}

// read returns meta_data.json of one source.
func (s *Server) read(ctx context.Context, source Source, times int) ([]byte, error) {
	if source == ConfigDrive {
		return s.drives.metadata(ctx)
	}
	return s.readService(ctx, times)
}

func (o Options) withDefaults() Options {
	o.DevDir = cmp.Or(o.DevDir, DefaultDevDir)
	o.MetadataURL = cmp.Or(o.MetadataURL, DefaultMetadataURL)
	o.Timeout = cmp.Or(max(o.Timeout, 0), DefaultTimeout)
	if len(o.Order) == 0 {
		o.Order = DefaultOrder()
	}
	return o
}
