// Package instance answers the node plugin's question "which server am I?"
// without any credentials: from the config drive, or from the metadata service
// that every OpenStack cloud offers to its servers.
package instance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Identity is what a server knows about itself.
type Identity struct {
	// ServerID is Nova's UUID of the server, in lower case.
	ServerID string
	// Name is the server's name as Nova has it; it need not be unique.
	Name string
	// Zone is the availability zone, unchanged; empty where Nova names none.
	Zone string
}

// Source is a place to ask.
type Source string

// The sources, with the names that [Metadata] search-order of cloud.conf uses.
const (
	ConfigDrive     Source = "configDrive"
	MetadataService Source = "metadataService"
)

// Defaults of Options.
const (
	DefaultDevDir      = "/dev"
	DefaultMetadataURL = "http://169.254.169.254"
	DefaultTimeout     = 5 * time.Second
)

// DefaultOrder is the order in which the sources are asked where cloud.conf
// says nothing.
func DefaultOrder() []Source { return []Source{ConfigDrive, MetadataService} }

// Options tell New where to look. The zero value looks where a real server has
// to.
type Options struct {
	// DevDir is the directory of devices; default DefaultDevDir.
	DevDir string
	// MetadataURL is the metadata service, scheme and host, without the path;
	// an IPv6 address stands in brackets, its zone after %25. Default
	// DefaultMetadataURL.
	MetadataURL string
	// Order names the sources and their order; default DefaultOrder.
	Order []Source
	// Timeout bounds one request to the metadata service; default
	// DefaultTimeout.
	Timeout time.Duration
}

// ErrUnknown tells that none of the sources knew.
var ErrUnknown = errors.New("can't find out which server this is")

// Server is the server that this process runs on. It is safe for concurrent use.
type Server struct {
	opts   Options
	drives drives
}

// New returns a Server. It asks nothing until it is called.
func New(opts Options) *Server {
	opts = opts.withDefaults()
	return &Server{opts: opts, drives: drives{devDir: opts.DevDir, sysDir: "/sys"}}
}

// Identify asks the sources in order and returns the first answer. Its error wraps
// ErrUnknown and tells what went wrong with each of them; it wraps the error of
// ctx too where that ended the search.
func (s *Server) Identify(ctx context.Context) (Identity, error) {
	var failures []string
	for _, source := range s.opts.Order {
		if err := ctx.Err(); err != nil {
			return Identity{}, unknown(failures, err)
		}
		id, err := s.ask(ctx, source)
		if err == nil {
			return id, nil
		}
		failures = append(failures, fmt.Sprintf("%s: %v", source, err))
	}
	return Identity{}, unknown(failures, ctx.Err())
}

func (s *Server) ask(ctx context.Context, source Source) (Identity, error) {
	var data []byte
	err := errors.New("no such source")
	switch source {
	case ConfigDrive:
		data, err = s.drives.metadata(ctx)
	case MetadataService:
		data, err = readService(ctx, s.opts.MetadataURL, s.opts.Timeout)
	}
	if err != nil {
		return Identity{}, err
	}
	return parseMetadata(data)
}

func unknown(failures []string, cause error) error {
	if len(failures) == 0 {
		failures = []string{"no source was asked"}
	}
	err := fmt.Errorf("%w: %s", ErrUnknown, strings.Join(failures, "; "))
	if cause != nil {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}

func (o Options) withDefaults() Options {
	if o.DevDir == "" {
		o.DevDir = DefaultDevDir
	}
	if o.MetadataURL == "" {
		o.MetadataURL = DefaultMetadataURL
	}
	if len(o.Order) == 0 {
		o.Order = DefaultOrder()
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	return o
}

// ParseOrder reads a search order as cloud.conf writes it,
// "configDrive,metadataService". Blanks don't matter; an empty string is the
// default order; an unknown or repeated source is an error.
func ParseOrder(s string) ([]Source, error) {
	if strings.TrimSpace(s) == "" {
		return DefaultOrder(), nil
	}
	var order []Source
	for part := range strings.SplitSeq(s, ",") {
		source := Source(strings.TrimSpace(part))
		if source != ConfigDrive && source != MetadataService {
			return nil, fmt.Errorf("search order %q: %q is neither %s nor %s", s, source, ConfigDrive, MetadataService)
		}
		for _, seen := range order {
			if seen == source {
				return nil, fmt.Errorf("search order %q names %s twice", s, source)
			}
		}
		order = append(order, source)
	}
	return order, nil
}
