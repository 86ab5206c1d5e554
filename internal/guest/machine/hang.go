package machine

import (
	"context"
	"errors"
)

// throttle is a group of QEMU's throttled disks, which share a limit.
type throttle string

const (
	// flowing has no limit.
	flowing throttle = "flowing"
	// hanging has one byte per second: after one request nothing is answered for
	// an hour.
	hanging throttle = "hanging"
)

// prepareToHang makes the groups, unless they are there.
func (m *Machine) prepareToHang(ctx context.Context) error {
	if m.throttles {
		return nil
	}
	for group, limits := range map[throttle]map[string]any{flowing: {}, hanging: {"bps-total": 1}} {
		if err := m.monitor.Execute(ctx, "object-add", map[string]any{
			"qom-type": "throttle-group", "id": group, "limits": limits,
		}); err != nil {
			return err
		}
	}
	m.throttles = true
	return nil
}

// storage is QEMU's name for what is below a throttled disk.
func (d *disk) storage() string { return d.node + "-storage" }

// throttled returns how QEMU opens a disk of the group over its storage, which is
// given in full or by name.
func (d *disk) throttled(group throttle, storage any) map[string]any {
	return map[string]any{
		"driver": "throttle", "node-name": d.node, "read-only": d.ReadOnly, "throttle-group": group, "file": storage,
	}
}

// hang moves a disk to another group. QEMU first answers what has waited.
func (m *Machine) hang(ctx context.Context, name string, group throttle) error {
	d, known := m.disks[name]
	switch {
	case !known || !d.attached:
		return errors.New("it is not attached")
	case !d.CanHang:
		return errors.New("it was not attached as one that can hang")
	}
	return m.reopen(ctx, d, group)
}

func (m *Machine) reopen(ctx context.Context, d *disk, group throttle) error {
	return m.monitor.Execute(ctx, "blockdev-reopen", map[string]any{
		"options": []any{d.throttled(group, d.storage())},
	})
}
