package demo

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errNotReady stands for a snapshot that is still being made.
var errNotReady = status.Error(codes.Unavailable, "the snapshot is not ready to use yet")

// grow grows the volume while its content is being read. Where the kernel
// refuses to grow a mounted filesystem, the next stage has to do it.
func (j *journey) grow(ctx context.Context) (string, error) {
	v, n := j.volume.volume, j.node1
	reader, err := j.content.keepReading(ctx, n.target(v))
	if err != nil {
		return "", err
	}
	online, err := j.growPublished(ctx, v, n)
	rounds, readErr := reader.stop()
	if err = errors.Join(err, readErr); err != nil {
		return "", err
	}
	how := "online"
	if !online {
		how = "at next stage"
		if err := j.stageAgain(ctx, v, n); err != nil {
			return "", err
		}
	}
	if _, err := j.intact(v, n); err != nil {
		return "", err
	}
	if err := j.content.extend(n.target(v), v.size); err != nil {
		return "", err
	}
	return fmt.Sprintf("to %s %s, %s read %d times", size(v.size), how, j.what(), rounds), nil
}

// growPublished grows the volume in the cloud and on the node. It reports
// whether the filesystem has grown too.
func (j *journey) growPublished(ctx context.Context, v *volume, n *node) (online bool, err error) {
	onNode, err := j.orch.growCloud(ctx, v, grownSize)
	if err != nil {
		return false, err
	}
	if !onNode {
		return true, nil
	}
	err = j.orch.growNode(ctx, v, n)
	if !j.growsOnline && err != nil && status.Code(err) == codes.FailedPrecondition {
		return false, nil // as told at the start
	}
	return err == nil, err
}

// stageAgain takes the volume from its pod and back, as a restarted pod does.
func (j *journey) stageAgain(ctx context.Context, v *volume, n *node) error {
	return inOrder(ctx, v, n, j.orch.unpublish, j.orch.unstage, j.orch.stage, j.orch.publish)
}

// measure compares the plugin's view of the volume's size with the kernel's.
func (j *journey) measure(ctx context.Context) (string, error) {
	v := j.volume.volume
	total, used, err := j.orch.stats(ctx, v, j.node1)
	if err != nil {
		return "", err
	}
	kernel, err := capacity(j.node1.target(v), v.block())
	if err != nil {
		return "", err
	}
	if total != kernel {
		return "", fmt.Errorf("NodeGetVolumeStats says %d bytes, the kernel %d", total, kernel)
	}
	if v.block() {
		return size(total), enough(total, v)
	}
	if used < fileSize {
		return "", fmt.Errorf("NodeGetVolumeStats says that %d bytes are used, the file alone has %d", used, fileSize)
	}
	return fmt.Sprintf("%s, %s used", size(total), size(used)), enough(total, v)
}

// move takes the volume to the second node, which is in another zone. A cloud
// allows that unless Nova's cross_az_attach is turned off; the development
// cloud allows it as Nova's default does.
func (j *journey) move(ctx context.Context) (string, error) {
	v := j.volume.volume
	if err := inOrder(ctx, v, j.node1, j.orch.unpublish, j.orch.unstage, j.orch.detach); err != nil {
		return "", err
	}
	j.volume.node = j.node2
	if err := j.arrive(ctx, v, j.node2); err != nil {
		return "", err
	}
	_, err := j.intact(v, j.node2)
	return fmt.Sprintf("at %s in %s, %s intact", j.node2.name, zone2, j.what()), err
}

func (j *journey) unpublish(ctx context.Context) (string, error) {
	return fmt.Sprintf("%d volumes from their pods", len(j.all())), j.each(ctx, j.orch.unpublish)
}

func (j *journey) unstage(ctx context.Context) (string, error) {
	return fmt.Sprintf("%d volumes from their nodes", len(j.all())), j.each(ctx, j.orch.unstage)
}

func (j *journey) detach(ctx context.Context) (string, error) {
	return fmt.Sprintf("%d disks from 2 servers", len(j.all())), j.each(ctx, j.orch.detach)
}

// deleteAll deletes the copies first: some clouds keep a snapshot for as long
// as a volume depends on it, and all keep a volume that has snapshots.
func (j *journey) deleteAll(ctx context.Context) (string, error) {
	for _, p := range []placed{j.clone, j.restored} {
		if err := j.orch.deleteVolume(ctx, p.volume); err != nil {
			return "", err
		}
	}
	if err := j.orch.deleteSnapshot(ctx, j.snapshotID); err != nil {
		return "", err
	}
	return "3 volumes, 1 snapshot", j.orch.deleteVolume(ctx, j.volume.volume)
}

// arrive attaches, stages and publishes a volume.
func (j *journey) arrive(ctx context.Context, v *volume, n *node) error {
	return inOrder(ctx, v, n, j.orch.attach, j.orch.stage, j.orch.publish)
}

// intact verifies the content at the node and returns the size found there.
func (j *journey) intact(v *volume, n *node) (int64, error) {
	if err := j.content.verify(n.target(v)); err != nil {
		return 0, err
	}
	total, err := capacity(n.target(v), v.block())
	if err != nil {
		return 0, err
	}
	return total, enough(total, v)
}

func (j *journey) what() string {
	if j.volume.block() {
		return "patterns"
	}
	return "file"
}

// inOrder does one thing after another to a volume at a node.
func inOrder(ctx context.Context, v *volume, n *node, parts ...func(context.Context, *volume, *node) error) error {
	for _, part := range parts {
		if err := part(ctx, v, n); err != nil {
			return err
		}
	}
	return nil
}

// enough makes sure that what a pod sees has the volume's size. A filesystem
// keeps up to a tenth for itself.
func enough(total int64, v *volume) error {
	least := v.size
	if !v.block() {
		least -= v.size / 10
	}
	if total < least || total > v.size {
		return fmt.Errorf("the volume has %d bytes, a pod sees %d of them", v.size, total)
	}
	return nil
}

// size writes a number of bytes as a person reads it.
func size(bytes int64) string {
	switch {
	case bytes%gib == 0:
		return fmt.Sprintf("%d GiB", bytes/gib)
	case bytes >= gib:
		return fmt.Sprintf("%.2f GiB", float64(bytes)/float64(gib))
	default:
		return fmt.Sprintf("%d MiB", bytes/mib)
	}
}
