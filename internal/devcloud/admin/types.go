// Package admin is how a development cloud is watched and steered from
// outside: its counters, its fault plan, its servers, its raw state. The client
// speaks HTTP to /admin.
package admin

import (
	"maps"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/fault"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/latency"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
)

// Fault changes what happens to requests; see package fault.
type Fault = fault.Fault

// Behaviour is what real clouds differ in.
type Behaviour = state.Behaviour

// Latency says how long operations take.
type Latency = latency.Model

// Dump is the raw state of the cloud.
type Dump = state.Dump

// Volume is a volume as the cloud keeps it, with what no API shows.
type Volume = state.Volume

// Requests counts the requests to the OpenStack services since the start or
// the last reset. Those to /metadata and /admin are counted apart.
type Requests struct {
	Total  int64 `json:"total"`
	Reads  int64 `json:"reads"`  // GET and HEAD
	Writes int64 `json:"writes"` // all others
	// Operations counts by operation, as in "volume.create".
	Operations map[string]int64 `json:"operations"`
	// Statuses counts by HTTP status; "0" is for connections closed on purpose.
	Statuses map[string]int64 `json:"statuses"`
	// Answers counts by operation and HTTP status.
	Answers map[string]map[string]int64 `json:"answers"`
	// InFlight are being answered now; MaxInFlight is the most there ever were.
	InFlight    int64 `json:"in_flight"`
	MaxInFlight int64 `json:"max_in_flight"`
	Metadata    int64 `json:"metadata"`
	Admin       int64 `json:"admin"`
}

// Clone returns a copy that shares nothing.
func (r Requests) Clone() Requests {
	r.Operations, r.Statuses = maps.Clone(r.Operations), maps.Clone(r.Statuses)
	answers := make(map[string]map[string]int64, len(r.Answers))
	for op, m := range r.Answers {
		answers[op] = maps.Clone(m)
	}
	r.Answers = answers
	return r
}

// Count returns the number of requests for an operation.
func (r Requests) Count(operation string) int64 { return r.Operations[operation] }

// Since returns what was counted after an earlier reading.
func (r Requests) Since(earlier Requests) Requests {
	r = r.Clone()
	r.Total, r.Reads, r.Writes = r.Total-earlier.Total, r.Reads-earlier.Reads, r.Writes-earlier.Writes
	r.Metadata, r.Admin = r.Metadata-earlier.Metadata, r.Admin-earlier.Admin
	subtract(r.Operations, earlier.Operations)
	subtract(r.Statuses, earlier.Statuses)
	for op, m := range r.Answers {
		subtract(m, earlier.Answers[op])
	}
	return r
}

func subtract(from, what map[string]int64) {
	for k, n := range what {
		if from[k] -= n; from[k] == 0 {
			delete(from, k)
		}
	}
}

// Server is a server of the cloud.
type Server struct {
	// Name is the key by which its devices and metadata are found.
	Name        string   `json:"name"`
	Zone        string   `json:"zone,omitempty"`
	ID          string   `json:"id,omitempty"`
	Status      string   `json:"status,omitempty"`
	DeviceDir   string   `json:"device_dir,omitempty"`
	MetadataURL string   `json:"metadata_url,omitempty"`
	Volumes     []string `json:"volumes,omitempty"`
}

// Account is what it takes to log in.
type Account struct {
	User, UserID, Password, Project, ProjectID string
	CredentialID, CredentialSecret             string
}
