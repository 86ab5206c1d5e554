package blockdev

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// gibibyte is the unit of which every Cinder volume has a whole number.
const gibibyte = 1 << 30

// Location is where the cloud says that a volume's disk is.
type Location struct {
	// Addresses are what udev's links below /dev/disk/by-path end with, as in
	// scsi-0:0:0:2; none where the cloud doesn't say.
	Addresses []string
	// Live tells that the cloud was asked just now. What is on a config drive was
	// true when the server was built.
	Live bool
}

// byPath finds a volume's disk by the address that the server's metadata name, for
// hypervisors that don't let Nova set the serial of a disk (Hyper-V, VMware). An address is
// no proof: the volume may have gone from there, and another volume may have come. So the
// address is believed only if all of these hold:
//
//   - No disk has the volume's serial.
//   - The metadata name one address for the volume, and one disk is there.
//   - No name of that disk is another volume's id.
//   - The disk isn't removable, has a whole number of GiB as every Cinder volume, and
//     passes prove as every disk must.
//   - The metadata service was asked just now. Where only a config drive tells, the disk
//     is the only one on the server of which nothing else is known.
//
// The cloud isn't asked where there is no such disk. byPath returns an error that wraps
// ErrNotFound where it finds no disk, and ErrUnsafe where several could be meant.
func (s *System) byPath(ctx context.Context, volumeID string, next <-chan struct{}) (Disk, error) {
	unidentified, err := s.unidentified(ctx)
	if err != nil {
		return Disk{}, fmt.Errorf("volume %s: %w", volumeID, err)
	}
	if len(unidentified) == 0 {
		return Disk{}, ErrNotFound
	}
	at, err := s.locate(ctx, volumeID, next)
	if err != nil {
		return Disk{}, fmt.Errorf("%w, and where it is can't be learnt: %w", ErrNotFound, err)
	}
	switch {
	case len(at.Addresses) == 0:
		return Disk{}, fmt.Errorf("%w, and the server's metadata don't tell where it is", ErrNotFound)
	case len(at.Addresses) > 1:
		return Disk{}, fmt.Errorf("volume %s: %w: the server's metadata tell several addresses of it: %s",
			volumeID, ErrUnsafe, strings.Join(at.Addresses, ", "))
	case !at.Live && len(unidentified) > 1:
		return Disk{}, fmt.Errorf("volume %s: %w: only the config drive tells its address, %s, which may be out of date, and it could be each of %s",
			volumeID, ErrUnsafe, at.Addresses[0], strings.Join(unidentified, ", "))
	}
	name, err := s.atAddress(at.Addresses[0])
	if err != nil {
		return Disk{}, fmt.Errorf("volume %s: %w", volumeID, err)
	}
	if !slices.Contains(unidentified, name) {
		return Disk{}, fmt.Errorf("volume %s: %w: at its address %s is %s, which is known to be something else, or has no size of a volume",
			volumeID, ErrUnsafe, at.Addresses[0], name)
	}
	d, err := prove(s.sysfs(), s.procDir(), volumeID, name, s.node(name))
	d.byAddress = err == nil
	return d, err
}

// locate asks the cloud, which may be slow, until next is closed. Calls for one volume
// share a question, also with those that come back after that.
func (s *System) locate(ctx context.Context, volumeID string, next <-chan struct{}) (Location, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-next:
			cancel()
		case <-ctx.Done():
		}
	}()
	return s.locations.Do(ctx, volumeID, func() (Location, error) { return s.Locate(context.WithoutCancel(ctx), volumeID) })
}

// unidentified returns the disks of which nothing tells what they are, and that
// could be a volume.
func (s *System) unidentified(ctx context.Context) ([]string, error) {
	disks, err := s.listDisks(ctx)
	if err != nil {
		return nil, err
	}
	use, err := readProcUse(s.procDir())
	if err != nil {
		return nil, err
	}
	sys := s.sysfs()
	var found []string
	for _, d := range disks {
		size := sys.size(d.name)
		if !sys.onBus(d.name) || sys.text(d.name, "removable") == "1" || size == 0 || size%gibibyte != 0 {
			continue
		}
		if d.unanswered {
			return nil, fmt.Errorf("%w: %s", ErrNotFound, noAnswer([]string{d.name}))
		}
		if !namesVolume(d.identities) && !sys.isSystem(use, d.name) {
			found = append(found, d.name)
		}
	}
	return found, nil
}

// namesVolume tells whether one of a disk's names, whoever gave it, is a volume's id.
func namesVolume(identities []identity) bool {
	return isVolume(identities) || slices.ContainsFunc(identities, func(i identity) bool { return isUUID(i.name) })
}

// smallestVolume is less than any volume has, in bytes: that is 1 GiB, less a header where Nova
// encrypts it. Nova makes a config drive, which isn't a volume, as large as its content, or
// of 64 MiB.
const smallestVolume = 512 << 20

// NoVolumes returns the paths of those disks of the server that can't be a volume:
// everybody who may write to a volume can give it the label of a config drive, and
// would tell the node that it is another server. Each of them
//
//   - is a disk of the server. A loop device, or the mapping of an encrypted volume, is made
//     by the server's kernel;
//   - is a CD-ROM, which no volume is attached as, or smaller than any volume. Where disks
//     have no serials (Hyper-V, VMware, Xen) nothing else tells;
//   - is no floppy drive, which takes seconds to say that it is empty, and errors in the
//     kernel's log, at each question;
//   - has told its serial if it has one, and none of its names is a volume's id.
func (s *System) NoVolumes(ctx context.Context) ([]string, error) {
	const cdrom = "5" // a SCSI device type
	disks, err := s.listDisks(ctx)
	var paths []string
	for _, d := range disks {
		sys := s.sysfs()
		size := sys.size(d.name)
		small := 0 < size && size < smallestVolume || sys.text(d.name, "device", "type") == cdrom
		if small && sys.onBus(d.name) && !strings.HasPrefix(d.name, "fd") && !d.unanswered && !namesVolume(d.identities) {
			paths = append(paths, s.node(d.name))
		}
	}
	return paths, err
}

// atAddress returns the one disk to which links by that address lead.
func (s *System) atAddress(address string) (string, error) {
	if !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9:._-]*$`).MatchString(address) {
		return "", fmt.Errorf("%w: the server's metadata tell an address that is none: %q", ErrUnsafe, address)
	}
	links, err := filepath.Glob(filepath.Join(cmp.Or(s.DevDir, "/dev"), "disk", "by-path", "*-"+address))
	if err != nil {
		return "", err
	}
	var found []string
	for _, link := range links {
		path, err := filepath.EvalSymlinks(link)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has just gone
		}
		if err != nil {
			return "", err
		}
		if name := filepath.Base(path); !slices.Contains(found, name) {
			found = append(found, name)
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("%w: nothing is at its address %s", ErrNotFound, address)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%w: more than one disk is at its address %s: %s", ErrUnsafe, address, strings.Join(found, ", "))
}
