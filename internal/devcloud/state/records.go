package state

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
)

// Volume is a volume as Cinder keeps it.
type Volume struct {
	ID          string
	ProjectID   string
	UserID      string
	Seq         uint64 // grows with every thing created; lists are sorted by it
	Name        *string
	Description *string
	Size        int64 // GiB
	ExtendTo    int64 // GiB; promised by an extension that is not done, else 0
	Status      string
	Previous    string // the status to return to after a backup or retype
	TypeID      string
	Zone        string
	SnapshotID  string
	SourceID    string
	BackupID    string
	Metadata    map[string]string
	Multiattach bool
	Bootable    bool
	// Host is the backend, empty until the scheduler has chosen one.
	Host        string
	CreatedAt   time.Time
	UpdatedAt   time.Time
	Attachments []Attachment
}

// Attachment is Cinder's record of a volume attached to a server.
type Attachment struct {
	ID         string
	ServerID   string
	Status     string // reserved, attaching, attached, detaching
	Device     string
	AttachedAt time.Time
}

// The statuses of an Attachment.
const (
	reserved  = "reserved"
	attaching = "attaching"
	attached  = "attached"
	detaching = "detaching"
)

// Attached returns the attachments that Cinder shows with the volume.
func (v *Volume) Attached() []Attachment {
	var shown []Attachment
	for _, a := range v.Attachments {
		if a.Status == attached || a.Status == detaching {
			shown = append(shown, a)
		}
	}
	return shown
}

// attachment returns the attachment with that id.
func (v *Volume) attachment(id string) (Attachment, bool) {
	for _, a := range v.Attachments {
		if a.ID == id {
			return a, true
		}
	}
	return Attachment{}, false
}

func (v *Volume) setAttachment(a Attachment) {
	list := slices.DeleteFunc(slices.Clone(v.Attachments), func(o Attachment) bool { return o.ID == a.ID })
	v.Attachments = append(list, a)
}

func (v *Volume) dropAttachment(id string) {
	v.Attachments = slices.DeleteFunc(slices.Clone(v.Attachments), func(o Attachment) bool { return o.ID == id })
}

// settled is the status of a volume with which nothing is going on.
func (v *Volume) settled() string {
	if len(v.Attached()) > 0 {
		return "in-use"
	}
	if slices.ContainsFunc(v.Attachments, func(a Attachment) bool { return a.Status == reserved }) {
		return reserved
	}
	return "available"
}

// Snapshot is a snapshot of a volume.
type Snapshot struct {
	ID          string
	ProjectID   string
	UserID      string
	Seq         uint64
	VolumeID    string
	Name        *string
	Description *string
	Size        int64 // GiB
	TypeID      string
	Status      string
	// Made tells that the back end has made it, whatever its status is now.
	Made      bool
	Metadata  map[string]string
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Backup is a backup of a volume or of one of its snapshots.
type Backup struct {
	ID          string
	ProjectID   string
	UserID      string
	Seq         uint64
	VolumeID    string
	SnapshotID  string
	ParentID    string // the backup that an incremental one builds upon
	Name        *string
	Description *string
	Size        int64 // GiB
	Status      string
	Zone        string
	Container   string
	Metadata    map[string]string
	FailReason  string
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// VolumeType is a volume type.
type VolumeType struct {
	ID          string
	Seq         uint64
	Name        string
	Description *string
	Public      bool
	ExtraSpecs  map[string]string
	QoSID       string
	// Backend is where volumes of the type are put; empty for a type that no
	// backend serves.
	Backend string
}

// zonesSpec is the extra spec that limits a type to zones.
const zonesSpec = "RESKEY:availability_zones"

// Zones returns the zones that a type is limited to, and whether it is.
func (t VolumeType) Zones() ([]string, bool) {
	text, limited := t.ExtraSpecs[zonesSpec]
	var zones []string
	for zone := range strings.SplitSeq(text, ",") {
		if zone != "" {
			zones = append(zones, strings.TrimSpace(zone))
		}
	}
	return zones, limited
}

// Multiattach reports whether volumes of the type may be attached more than once.
func (t VolumeType) Multiattach() bool { return t.ExtraSpecs["multiattach"] == "<is> True" }

// QoS is a set of quality of service specifications.
type QoS struct {
	ID       string
	Seq      uint64
	Name     string
	Consumer string
	Specs    map[string]string
}

// Message is what Cinder tells a user about a failure that had no answer to
// stand in.
type Message struct {
	ID           string
	Seq          uint64
	ProjectID    string
	EventID      string
	Text         string
	RequestID    string
	ResourceType string
	ResourceID   string
	CreatedAt    time.Time
}

// Server is a server as Nova keeps it.
type Server struct {
	ID string
	// Key names the server's device directory and metadata.
	Key        string
	Seq        uint64
	ProjectID  string
	UserID     string
	Name       string
	Zone       string
	Status     string // BUILD, ACTIVE, SHUTOFF, ERROR, PAUSED, SUSPENDED, RESCUE, SHELVED_OFFLOADED
	TaskState  string
	Next       string // the status that the task leads to
	Locked     bool
	Metadata   map[string]string
	FlavorID   string
	ImageID    string
	CreatedAt  time.Time
	UpdatedAt  time.Time
	LaunchedAt time.Time
	Disks      []Disk
	// HungAt is since when the server's compute hangs; zero where it doesn't.
	HungAt time.Time
	// Late are attachments that a compute which hangs has yet to take up, and that
	// Nova has given up.
	Late []Disk `json:",omitempty"`
}

// Disk is Nova's record of a volume attached to a server.
type Disk struct {
	VolumeID            string
	AttachmentID        string
	MappingID           string
	Device              string
	Tag                 *string
	DeleteOnTermination bool
}

// Disk returns Nova's record of one volume.
func (s *Server) Disk(volumeID string) (Disk, bool) {
	for _, d := range s.Disks {
		if d.VolumeID == volumeID {
			return d, true
		}
	}
	return Disk{}, false
}

func (s *Server) dropDisk(attachmentID string) {
	s.Disks = slices.DeleteFunc(slices.Clone(s.Disks), func(d Disk) bool { return d.AttachmentID == attachmentID })
}

// VMState is the state of the machine that goes with the status.
func (s *Server) VMState() string {
	switch s.Status {
	case "BUILD":
		return "building"
	case "SHUTOFF":
		return "stopped"
	case "RESCUE":
		return "rescued"
	case "ERROR", "PAUSED", "SUSPENDED", "SHELVED_OFFLOADED":
		return strings.ToLower(s.Status)
	}
	return "active"
}

// Shown is the status that Nova shows: that of what is being done, if there is one.
func (s *Server) Shown() string {
	switch s.TaskState {
	case "rebooting":
		return "REBOOT"
	case "rebooting_hard":
		return "HARD_REBOOT"
	}
	return s.Status
}

// takesDisks is Nova's word on whether a server takes a disk or gives one, by the
// states in which it is.
func (s *Server) takesDisks(call Call, action string) error {
	if s.Locked && !call.Admin {
		return rest.Conflict("Instance %s is locked", s.ID)
	}
	if vm := s.VMState(); oneOf(vm, "building", "error", "suspended", "rescued") {
		return rest.Conflict("Cannot '%s' instance %s while it is in vm_state %s", action, s.ID, vm)
	}
	if s.TaskState != "" {
		return rest.Conflict("Cannot '%s' instance %s while it is in task_state %s", action, s.ID, s.TaskState)
	}
	return nil
}

// Action is what a server's history says about one request.
type Action struct {
	Key       string
	Seq       uint64
	ServerID  string
	RequestID string
	Name      string
	UserID    string
	ProjectID string
	Failed    bool
	Done      bool
	StartedAt time.Time
	UpdatedAt time.Time
}

// Settings are the records of which there is one: accounts, quotas and the
// like, each under a name of its own.
type Settings struct {
	Accounts  *Accounts         `json:",omitempty"`
	Quotas    map[string]Quotas `json:",omitempty"`
	Behaviour *Behaviour        `json:",omitempty"`
	Faults    []byte            `json:",omitempty"`
}

// Quotas are the limits of one project by name; -1 is no limit.
type Quotas map[string]int64

func (q Quotas) clone() Quotas { return maps.Clone(q) }

// Text returns a pointer to s.
func Text(s string) *string { return &s }

// Or returns what p points at, empty for nil.
func Or(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}
