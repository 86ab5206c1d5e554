package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/guest/image"
	"github.com/cinder-csi/cinder-csi/internal/guest/qmp"
	"github.com/cinder-csi/cinder-csi/internal/guest/wire"
)

// disk is an image and, while it is attached, the device.
type disk struct {
	wire.Disk
	file     *os.File
	attached bool
	// node and device are QEMU's names for it, new each time it is attached.
	node, device string
}

// scsiTarget is the target of which all SCSI disks are units, as Nova has it.
const scsiTarget = 0

// Do does what a test in the guest asks for. What it asks to be done later is
// begun, and answered with success.
func (m *Machine) Do(ctx context.Context, r wire.Request) wire.Answer {
	answer := wire.Answer{ID: r.ID}
	var err error
	switch {
	case r.After > 0:
		m.delay(ctx, r)
	case r.Action == wire.Hash:
		answer.Hash, err = m.hash(r.Disk.Image)
	default:
		err = m.act(ctx, r)
	}
	if err != nil {
		answer.Error = err.Error()
	}
	return answer
}

// delay acts when the time has come.
func (m *Machine) delay(ctx context.Context, r wire.Request) {
	m.delayed.Go(func() {
		select {
		case <-time.After(r.After):
		case <-ctx.Done():
			return
		case <-m.ended:
			return
		}
		if err := m.act(ctx, r); err != nil {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.failed = append(m.failed, err)
		}
	})
}

func (m *Machine) act(ctx context.Context, r wire.Request) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	m.mu.Lock()
	defer m.mu.Unlock()
	var err error
	switch r.Action {
	case wire.Plug:
		err = m.plug(ctx, r.Disk)
	case wire.Pull:
		err = m.pull(ctx, r.Disk.Image)
	case wire.Resize:
		err = m.resize(ctx, r.Disk.Image, r.Size)
	case wire.Hang:
		err = m.hang(ctx, r.Disk.Image, hanging)
	case wire.Resume:
		err = m.hang(ctx, r.Disk.Image, flowing)
	default:
		err = errors.New("no such action")
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", r.Action, r.Disk.Image, err)
	}
	return nil
}

func (m *Machine) plug(ctx context.Context, spec wire.Disk) error {
	d, known := m.disks[spec.Image]
	if known && d.attached {
		return errors.New("it is attached already")
	}
	if !known {
		file, err := m.newImage(ctx, spec)
		if err != nil {
			return err
		}
		d = &disk{file: file}
		m.disks[spec.Image] = d
	}
	m.count++
	d.Disk = spec
	d.node, d.device = fmt.Sprintf("node%d", m.count), fmt.Sprintf("disk%d", m.count)
	if d.CanHang {
		if err := m.prepareToHang(ctx); err != nil {
			return err
		}
	}
	if err := m.monitor.Execute(ctx, "blockdev-add", d.backend()); err != nil {
		return err
	}
	if err := m.insert(ctx, d); err != nil {
		return errors.Join(err, m.removeNode(ctx, d))
	}
	d.attached = true
	return nil
}

// backend returns how QEMU opens the image.
func (d *disk) backend() map[string]any {
	file := map[string]any{"driver": "file", "filename": image.PathOf(d.file)}
	if d.BadBytes > 0 {
		var faults []any
		for at := d.BadFrom; at < d.BadFrom+d.BadBytes; at += sector {
			faults = append(faults, map[string]any{
				"event": "none", "iotype": "read", "sector": at / sector, "errno": 5, "once": false, "immediately": false,
			})
		}
		file = map[string]any{"driver": "blkdebug", "image": file, "inject-error": faults}
	}
	raw := map[string]any{"driver": "raw", "node-name": d.node, "read-only": d.ReadOnly, "file": file}
	if d.CanHang {
		raw["node-name"] = d.storage()
		return d.throttled(flowing, raw)
	}
	return raw
}

// insert makes the guest see the disk.
func (m *Machine) insert(ctx context.Context, d *disk) error {
	if d.Bus == wire.CDROM {
		for _, step := range []struct {
			command string
			args    map[string]any
		}{
			{"blockdev-open-tray", map[string]any{"id": "cdrom", "force": true}},
			{"blockdev-insert-medium", map[string]any{"id": "cdrom", "node-name": d.node}},
			{"blockdev-close-tray", map[string]any{"id": "cdrom"}},
		} {
			if err := m.monitor.Execute(ctx, step.command, step.args); err != nil {
				return err
			}
		}
		return nil
	}
	device := map[string]any{"id": d.device, "drive": d.node}
	switch d.Bus {
	case wire.VirtioBlk:
		device["driver"], device["bus"] = "virtio-blk-pci", "pci.0"
	case wire.Bridged:
		device["driver"], device["bus"] = "virtio-blk-pci", "bridge0"
	case wire.NVMe:
		device["driver"], device["bus"] = "nvme", "pci.0"
	case wire.VirtioSCSI:
		device["driver"], device["bus"], device["scsi-id"] = "scsi-hd", "scsi0.0", scsiTarget
	case wire.MuteSCSI:
		device["driver"], device["bus"], device["scsi-id"] = "scsi-hd", "scsi1.0", scsiTarget
	default:
		return fmt.Errorf("bus %q is unknown", d.Bus)
	}
	if d.Serial != "" {
		device["serial"] = d.Serial
	}
	if d.CanHang {
		device["queue-size"], device["num-queues"] = 4, 1
	}
	return m.monitor.Execute(ctx, "device_add", device)
}

// pull detaches a disk; nil if it isn't attached.
func (m *Machine) pull(ctx context.Context, name string) error {
	d, known := m.disks[name]
	if !known || !d.attached {
		return nil
	}
	if err := m.eject(ctx, d); err != nil {
		return err
	}
	d.attached = false
	return m.removeNode(ctx, d)
}

// eject takes disks from the guest. The guest has to agree to lose a PCI device,
// and doesn't hear of it before it has finished with its arrival: so it is asked
// again. It lets go of a disk that hangs only when that has answered.
func (m *Machine) eject(ctx context.Context, disks ...*disk) error {
	waiting := map[*disk]<-chan struct{}{}
	for _, d := range disks {
		if d.CanHang {
			if err := m.reopen(ctx, d, flowing); err != nil {
				return err
			}
		}
		if d.Bus == wire.CDROM {
			if err := m.ejectMedium(ctx); err != nil {
				return err
			}
			continue
		}
		waiting[d] = m.monitor.Expect("DEVICE_DELETED", func(data json.RawMessage) bool {
			var event struct{ Device string }
			return json.Unmarshal(data, &event) == nil && event.Device == d.device
		})
	}
	for len(waiting) > 0 {
		// An error tells that it is under way already, or done.
		var refused error
		for d := range waiting {
			refused = m.monitor.Execute(ctx, "device_del", map[string]any{"id": d.device})
		}
		again := time.After(3 * time.Second)
		for d, gone := range waiting {
			select {
			case <-gone:
				delete(waiting, d)
			case <-again:
				again = time.After(0)
			case <-m.ended:
				return qmp.ErrGone
			case <-ctx.Done():
				return fmt.Errorf("the guest holds on to %d disks: %w", len(waiting), errors.Join(context.Cause(ctx), refused))
			}
		}
	}
	return nil
}

func (m *Machine) ejectMedium(ctx context.Context) error {
	return errors.Join(
		m.monitor.Execute(ctx, "blockdev-open-tray", map[string]any{"id": "cdrom", "force": true}),
		m.monitor.Execute(ctx, "blockdev-remove-medium", map[string]any{"id": "cdrom"}))
}

// removeNode lets QEMU close the image, which it may still be draining.
func (m *Machine) removeNode(ctx context.Context, d *disk) error {
	for {
		err := m.monitor.Execute(ctx, "blockdev-del", map[string]any{"node-name": d.node})
		if err == nil || errors.Is(err, qmp.ErrGone) {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

func (m *Machine) resize(ctx context.Context, name string, size int64) error {
	d, known := m.disks[name]
	if !known || !d.attached {
		return errors.New("it is not attached")
	}
	return m.monitor.Execute(ctx, "block_resize", map[string]any{"node-name": d.node, "size": size})
}

// Reset waits for what was delayed, pulls all disks and removes their images.
// It returns what has gone wrong since it was last called.
func (m *Machine) Reset(ctx context.Context) error {
	m.delayed.Wait()
	ctx, cancel := context.WithTimeout(ctx, resetTime)
	defer cancel()
	m.mu.Lock()
	defer m.mu.Unlock()
	errs := m.failed
	m.failed = nil
	var attached []*disk
	for _, d := range m.disks {
		if d.attached {
			attached = append(attached, d)
		}
	}
	if err := m.eject(ctx, attached...); err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, d := range attached {
		d.attached = false
		errs = append(errs, m.removeNode(ctx, d))
	}
	for _, d := range m.disks {
		errs = append(errs, d.file.Close())
	}
	clear(m.disks)
	return errors.Join(errs...)
}
