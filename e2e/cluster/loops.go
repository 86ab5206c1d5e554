package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// loopDevice is a bound loop device.
type loopDevice struct {
	name    string // "loop7"
	label   string // what it was labelled with; devcloud's begin with "vdb n1 "
	backing string // file it is bound to, as this mount namespace sees it
	rdev    uint64 // the device it is bound to, where that is one
}

// listLoops returns every bound loop device of the machine.
func listLoops() ([]loopDevice, error) {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	var loops []loopDevice
	for _, file := range files {
		backing, err := os.ReadFile(file)
		if err != nil {
			continue // unbound meanwhile
		}
		d := loopDevice{name: strings.Split(file, "/")[3], backing: strings.TrimSpace(string(backing))}
		if err := d.status(); err == nil {
			loops = append(loops, d)
		} else if !errors.Is(err, unix.ENXIO) {
			return nil, err
		}
	}
	return loops, nil
}

func (d *loopDevice) open() (*os.File, error) { return os.Open("/dev/" + d.name) }

// status asks the kernel for the label and the backing device.
func (d *loopDevice) status() error {
	f, err := d.open()
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return err
	}
	label, _, _ := bytes.Cut(info.File_name[:], []byte{0})
	d.label, d.rdev = string(label), info.Rdevice
	return nil
}

// detach unbinds the device.
func (d *loopDevice) detach() error {
	f, err := d.open()
	if err != nil {
		return err
	}
	err = unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0)
	if errors.Is(err, unix.ENXIO) {
		err = nil
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("detach %s: %w", d.name, err)
	}
	return nil
}

// number is the device's own number, as it stands in another one's rdev.
func (d *loopDevice) number() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat("/dev/"+d.name, &st); err != nil {
		return 0, err
	}
	return st.Rdev, nil
}

// volumesOf returns those of all that are volumes in devcloud's directory, attached
// to the node, or to any if that is "".
func volumesOf(all []loopDevice, cloudState, node string) []loopDevice {
	var volumes []loopDevice
	for _, d := range all {
		fields := strings.Fields(d.label)
		if strings.HasPrefix(d.backing, cloudState+"/") && (node == "" || len(fields) > 1 && fields[1] == node) {
			volumes = append(volumes, d)
		}
	}
	return volumes
}

// stacked returns those of all that are bound to one of the volumes: the kubelet
// makes them for raw block volumes. They outlive the node, and keep the volume
// from being detached.
func stacked(all, volumes []loopDevice) ([]loopDevice, error) {
	numbers := map[uint64]bool{}
	for _, d := range volumes {
		number, err := d.number()
		if err != nil {
			return nil, err
		}
		numbers[number] = true
	}
	var found []loopDevice
	for _, d := range all {
		if d.rdev != 0 && numbers[d.rdev] {
			found = append(found, d)
		}
	}
	return found, nil
}

// detachStacked takes away what a dead node has left on its volumes.
func (p Paths) detachStacked(node string) error {
	all, err := listLoops()
	if err != nil {
		return err
	}
	left, err := stacked(all, volumesOf(all, p.cloudState(), node))
	if err != nil {
		return err
	}
	var failed []error
	for _, d := range left {
		failed = append(failed, d.detach())
	}
	return errors.Join(failed...)
}
