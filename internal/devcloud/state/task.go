package state

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"
)

// Task is what is left to do of a request that was accepted. It is stored
// with the transitional state that the request caused and removed with the
// state that it ends in, so it survives the death of the process; its function
// starts again from the beginning then, and finds out itself what is done.
type Task struct {
	ID         string
	Kind       string
	Call       Call
	VolumeID   string
	SnapshotID string
	BackupID   string
	ServerID   string
	// AttachmentID is the attachment that the task is about.
	AttachmentID string
	// Size is the new size of an extension in GiB; TypeID is the new type of a
	// retype.
	Size   int64
	TypeID string
	// SameHost and DifferentHost are the hints that a volume is made with.
	SameHost      []string `json:",omitempty"`
	DifferentHost []string `json:",omitempty"`
	// Orphan is a volume that was deleted before it had a backend.
	Orphan *Volume `json:",omitempty"`
	// Server is the server that is deleted: Nova forgets it at once.
	Server *Server `json:",omitempty"`
	// Snapshots go with the volume that is deleted.
	Snapshots []string `json:",omitempty"`
}

// The kinds of tasks.
const (
	taskCreateVolume   = "volume.create"
	taskDeleteVolume   = "volume.delete"
	taskExtendVolume   = "volume.extend"
	taskGrowGuest      = "guest.grow"
	taskRetypeVolume   = "volume.retype"
	taskCreateSnapshot = "snapshot.create"
	taskDeleteSnapshot = "snapshot.delete"
	taskCreateBackup   = "backup.create"
	taskDeleteBackup   = "backup.delete"
	taskRestoreBackup  = "backup.restore"
	taskAttach         = "attachment.create"
	taskDetach         = "attachment.delete"
	taskCreateServer   = "server.create"
	taskDeleteServer   = "server.delete"
)

// retryEvery is how often the data plane is asked again where it failed for a
// reason that may pass.
const retryEvery = 100 * time.Millisecond

// start stores a task, unless its fault loses it; it runs as soon as the update has
// ended. Only in an update.
func (c *Cloud) start(t Task) {
	if f := t.Call.Fault; f != nil && f.Lost {
		return
	}
	t.ID = newID()
	c.tasks.Put(t.ID, t)
}

// finish removes a task. Only in an update.
func (c *Cloud) finish(t Task) { c.tasks.Delete(t.ID) }

func (c *Cloud) perform(ctx context.Context, t Task) {
	steps := map[string]func(context.Context, Task) error{
		taskCreateVolume: c.createVolume, taskDeleteVolume: c.deleteVolume, taskExtendVolume: c.extendVolume,
		taskGrowGuest: c.growGuest, taskRetypeVolume: c.retypeVolume,
		taskCreateSnapshot: c.createSnapshot, taskDeleteSnapshot: c.deleteSnapshot,
		taskCreateBackup: c.createBackup, taskDeleteBackup: c.deleteBackup, taskRestoreBackup: c.restoreBackup,
		taskAttach: c.attach, taskDetach: c.detach,
		taskCreateServer: c.createServer, taskDeleteServer: c.deleteServer,
	}
	run, ok := steps[t.Kind]
	if !ok {
		c.log.Error("unknown task", zap.String("kind", t.Kind))
		return
	}
	err := run(ctx, t)
	if err != nil && !errors.Is(err, context.Canceled) {
		c.log.Error("task failed", zap.String("kind", t.Kind), zap.String("volume", t.VolumeID), zap.Error(err))
	}
}

// wait passes the time of a transitional state, and stays in it as long as the
// request's fault says.
func (c *Cloud) wait(ctx context.Context, t Task, step string) error {
	if err := c.pause(ctx, step); err != nil {
		return err
	}
	if f := t.Call.Fault; f != nil && f.Stuck {
		return c.faults.Hold(ctx, f.ID)
	}
	return nil
}

// endIn is the status that a fault wants in place of the proper one, or "".
func (t Task) endIn() string {
	if t.Call.Fault == nil {
		return ""
	}
	return t.Call.Fault.EndIn
}

// async is the asynchronous failure that a fault wants.
func (t Task) async() string {
	if t.Call.Fault == nil {
		return ""
	}
	return t.Call.Fault.Async
}

func oneOf(s string, list ...string) bool { return slices.Contains(list, s) }
