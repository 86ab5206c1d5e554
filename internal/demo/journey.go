package demo

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// Block is the name of the raw block volume, beside those of filesystems.
const Block = "block"

// Volumes returns the names of the volumes that the demo knows, in its order.
func Volumes() []string { return []string{"ext4", "xfs", "btrfs", Block} }

// The sizes that a volume goes through.
const (
	bornSize     = 1 * gib
	grownSize    = 2 * gib
	restoredSize = 3 * gib
)

// step is one row of the table.
type step struct {
	name string
	// do returns the outcome in a few words.
	do func(*journey, context.Context) (string, error)
}

// steps are the life of a volume.
func steps() []step {
	return []step{
		{"create", (*journey).create},
		{"attach", (*journey).attach},
		{"stage", (*journey).stage},
		{"publish", (*journey).publish},
		{"write", (*journey).write},
		{"grow", (*journey).grow},
		{"measure", (*journey).measure},
		{"snapshot", (*journey).takeSnapshot},
		{"restore", (*journey).restore},
		{"clone", (*journey).cloneVolume},
		{"move", (*journey).move},
		{"unpublish", (*journey).unpublish},
		{"unstage", (*journey).unstage},
		{"detach", (*journey).detach},
		{"delete", (*journey).deleteAll},
	}
}

// StepNames returns the names of the steps in their order.
func StepNames() []string {
	var names []string
	for _, s := range steps() {
		names = append(names, s.name)
	}
	return names
}

// journey is the life of one volume and of what is made from it.
type journey struct {
	fs           string
	run          string // tells the names of this demo from those of another
	orch         *orchestrator
	node1, node2 *node
	// growsOnline tells whether the filesystem can grow while it is mounted.
	growsOnline bool
	// mountsCopies tells whether a copy can be mounted beside its original.
	mountsCopies bool

	content    *content
	volume     placed
	restored   placed
	clone      placed
	snapshotID string
}

// placed is a volume and the node that it is at.
type placed struct {
	*volume
	node *node
}

// name returns the name that a provisioner would give.
func (j *journey) name(of string) string { return "pvc-" + j.run + "-" + j.fs + "-" + of }

// all returns the volumes of the journey that exist.
func (j *journey) all() []placed {
	var list []placed
	for _, p := range []placed{j.volume, j.restored, j.clone} {
		if p.volume != nil {
			list = append(list, p)
		}
	}
	return list
}

// each does the same to all volumes at the same time.
func (j *journey) each(ctx context.Context, do func(context.Context, *volume, *node) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, p := range j.all() {
		group.Go(func() error { return do(ctx, p.volume, p.node) })
	}
	return group.Wait()
}

func (j *journey) create(ctx context.Context) (string, error) {
	v, err := j.orch.create(ctx, j.name("original"), j.fs, bornSize, nil)
	if err != nil {
		return "", err
	}
	j.volume = placed{v, j.node1}
	j.content = newContent(v.name, v.block(), v.size)
	return fmt.Sprintf("%s in %s", size(v.size), zone1), nil
}

func (j *journey) attach(ctx context.Context) (string, error) {
	if err := j.orch.attach(ctx, j.volume.volume, j.node1); err != nil {
		return "", err
	}
	return "a disk of " + j.node1.name, nil
}

func (j *journey) stage(ctx context.Context) (string, error) {
	if err := j.orch.stage(ctx, j.volume.volume, j.node1); err != nil {
		return "", err
	}
	if j.volume.block() {
		return "raw, no filesystem", nil
	}
	return "formatted with " + j.fs + ", mounted", nil
}

func (j *journey) publish(ctx context.Context) (string, error) {
	v := j.volume.volume
	if err := j.orch.publish(ctx, v, j.node1); err != nil {
		return "", err
	}
	total, err := capacity(j.node1.target(v), v.block())
	if err != nil {
		return "", err
	}
	return "given to a pod, " + size(total), enough(total, v)
}

func (j *journey) write(context.Context) (string, error) {
	if err := j.content.write(j.node1.target(j.volume.volume)); err != nil {
		return "", err
	}
	if j.volume.block() {
		return fmt.Sprintf("%d patterns of %s, sha256 %x", len(j.content.offsets), size(chunkSize), j.content.sum[:4]), nil
	}
	return fmt.Sprintf("a file of %s, sha256 %x", size(fileSize), j.content.sum[:4]), nil
}

func (j *journey) takeSnapshot(ctx context.Context) (string, error) {
	id, err := j.orch.snapshot(ctx, j.volume.volume, "snapshot-"+j.run+"-"+j.fs)
	j.snapshotID = id
	return "of the volume in use, ready", err
}

// restore makes a larger volume from the snapshot and looks into it.
func (j *journey) restore(ctx context.Context) (string, error) {
	v, err := j.orch.create(ctx, j.name("restored"), j.fs, restoredSize, fromSnapshot(j.snapshotID))
	if err != nil {
		return "", err
	}
	j.restored = placed{v, j.node1}
	return j.copyIsGood(ctx, v)
}

// cloneVolume makes a volume of the same size from the volume itself, which
// is in use, and looks into it.
func (j *journey) cloneVolume(ctx context.Context) (string, error) {
	v, err := j.orch.create(ctx, j.name("clone"), j.fs, j.volume.size, fromVolume(j.volume.volume))
	if err != nil {
		return "", err
	}
	j.clone = placed{v, j.node1}
	return j.copyIsGood(ctx, v)
}

func (j *journey) copyIsGood(ctx context.Context, v *volume) (string, error) {
	if !j.mountsCopies {
		return size(v.size) + ", made and attached", j.orch.attach(ctx, v, j.node1)
	}
	if err := j.arrive(ctx, v, j.node1); err != nil {
		return "", err
	}
	total, err := j.intact(v, j.node1)
	return fmt.Sprintf("%s, %s intact", size(total), j.what()), err
}
