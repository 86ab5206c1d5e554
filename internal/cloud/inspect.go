package cloud

import (
	"context"
	"time"
)

// VolumeDetails is a volume with what only people ask for.
type VolumeDetails struct {
	Volume
	// UpdatedAt is when Cinder last changed the volume; zero where it doesn't say.
	UpdatedAt time.Time
}

// Message is one of Cinder's messages to users about something that failed.
type Message struct {
	Text      string
	CreatedAt time.Time
	// RequestID is the request that failed.
	RequestID string
}

// ServerDetails is a server with what only people ask for.
type ServerDetails struct {
	Server
	Name string
	// TaskState is what Nova does to the server at the moment; empty for nothing.
	TaskState string
	// Locked servers change nothing until somebody unlocks them.
	Locked bool
	// Fault is why a server is in the status ERROR.
	Fault string
}

// ServerAction is something that was asked of a server.
type ServerAction struct {
	// Name is attach_volume, detach_volume, reboot, and so on.
	Name      string
	RequestID string
	StartedAt time.Time
	// Failed tells that Nova says Error of it. Nova tells of a success only that it is no
	// failure.
	Failed bool
	// Events are its parts, where Nova tells them.
	Events []ServerEvent
}

// ServerEvent is a part of an action, done by one of Nova's services.
type ServerEvent struct {
	Name string
	// Result is Success, Error, or empty while it is not finished.
	Result string
}

// Inspector is what commands ask of a cloud beyond Cloud.
type Inspector interface {
	Cloud
	// VolumeDetails returns ErrNotFound as GetVolume.
	VolumeDetails(ctx context.Context, id string) (*VolumeDetails, error)
	// Messages returns Cinder's messages about a volume or a snapshot, the newest first;
	// none where the cloud keeps none or doesn't tell them.
	Messages(ctx context.Context, id string) ([]Message, error)
	// ServerDetails returns ErrNotFound as GetServer.
	ServerDetails(ctx context.Context, id string) (*ServerDetails, error)
	// ServerActions returns the attachments and detachments that were asked of a server,
	// the newest first, at most as many as limit. Nova doesn't tell of which volume.
	ServerActions(ctx context.Context, id string, limit int) ([]ServerAction, error)
	// AllAttachmentRecords returns the records of all volumes of the project. It needs
	// microversion 3.27.
	AllAttachmentRecords(ctx context.Context) ([]AttachmentRecord, error)
}
