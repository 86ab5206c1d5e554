package blockdev

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Holder is what uses a disk, or is built upon it. A node's udev builds devices of
// LVM, MD and multipath upon whatever it recognises, also upon a volume whose
// workload, such as a virtual machine, has put LVM there for itself. As long as nobody
// has such a device open it holds no data: it keeps nobody from using the disk as a
// block device, or from detaching it.
type Holder struct {
	// Own tells that it is the mapping of the encrypted volume itself.
	Own bool
	// InUse tells that it is open or mounted, or that nothing tells whether it is.
	InUse bool
	// Detail says in words what it is and how it is used.
	Detail string

	// mapper is its number if it is a device of device-mapper.
	mapper uint64
}

func (h Holder) String() string { return h.Detail }

// InUse returns those holders that are in use.
func InUse(holders []Holder) []Holder {
	return slices.DeleteFunc(slices.Clone(holders), func(h Holder) bool { return !h.InUse })
}

// foreignUsers returns those holders that are in use and aren't the volume's own
// mapping.
func foreignUsers(holders []Holder) []Holder {
	return slices.DeleteFunc(InUse(holders), func(h Holder) bool { return h.Own })
}

// Holders returns what uses the disk: devices built upon it or upon its partitions,
// and upon these in turn, mounts of any of those, swap, and the running system itself.
// A mount of the disk as a whole is no holder, unless it is the system's. It reads
// what the kernel knows, and doesn't touch the disk.
func Holders(d Disk) ([]Holder, error) {
	return holdersOf(d, openedOf)
}

// holdersOf is Holders with the way in which to learn how often a device is open.
func holdersOf(d Disk, opened func(sys sysfs, name string) opening) ([]Holder, error) {
	sys := sysfs(cmp.Or(d.sysDir, "/sys"))
	use, err := readProcUse(cmp.Or(d.procDir, "/proc"))
	if err != nil {
		return nil, err
	}
	t := holderTree{sys: sys, use: use, opened: opened, own: func(name string) bool { return sys.isOwnMapping(d.VolumeID, name) }}
	for _, usage := range use.of(d.Number, d.Name, systemMounts()) {
		t.add(Holder{InUse: true, Detail: usage})
	}
	if _, err := t.upon(d.Name, ""); err != nil {
		return nil, err
	}
	return t.found, nil
}

// holderTree collects what is built upon a disk.
type holderTree struct {
	sys    sysfs
	use    procUse
	opened func(sys sysfs, name string) opening
	own    func(name string) bool
	found  []Holder
}

func (t *holderTree) add(h Holder) {
	if !slices.Contains(t.found, h) { // a volume of LVM on two partitions is found twice
		t.found = append(t.found, h)
	}
}

// upon adds what is built upon a disk or, as disk/partition, a partition, and upon the
// partitions of a disk. It returns how many devices have it open because they are built
// upon it. Where is what to say of the place.
func (t *holderTree) upon(path, where string) (int, error) {
	names, err := t.sys.holderNames(path)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		if err := t.device(name, where); err != nil {
			return 0, err
		}
	}
	if strings.Contains(path, "/") {
		return len(names), nil
	}
	partitions, err := t.sys.partitions(path)
	if err != nil {
		return 0, err
	}
	for _, partition := range partitions {
		where := where + "partition " + partition + ": "
		number, err := t.sys.number(filepath.Join(path, partition))
		if err != nil {
			return 0, err
		}
		for _, usage := range append(t.use.of(number, partition, nil), t.sys.filesystems(partition)...) {
			t.add(Holder{InUse: true, Detail: where + usage})
		}
		upon, err := t.upon(filepath.Join(path, partition), where)
		if err != nil {
			return 0, err
		}
		if upon > 0 {
			names = append(names, partition)
		}
	}
	return len(names), nil
}

// device adds a device that is built upon something, and what is built upon it. It is
// idle when it is open no oftener than by the devices that are built upon it. What is
// upon the volume's own mapping isn't looked at: that is what the mapping is for.
func (t *holderTree) device(name, where string) error {
	what := where + name
	if title := t.sys.text(name, "dm", "name"); title != "" {
		what += " (" + title + ")"
	}
	open := t.opened(t.sys, name)
	if t.own(name) {
		t.add(Holder{Own: true, InUse: true, Detail: what + ", " + open.words})
		return nil
	}
	above := 0
	if exists(t.sys.block(name)) {
		var err error
		if above, err = t.upon(name, what+": "); err != nil {
			return err
		}
	}
	h := Holder{Detail: what + ", " + open.words, InUse: !open.known || open.times > above}
	number, err := t.sys.number(name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if t.sys.text(name, "dm", "name") != "" {
		h.mapper = number
	}
	t.add(h)
	if err != nil {
		return nil //nolint:nilerr // it has just gone
	}
	for _, usage := range append(t.use.of(number, name, nil), t.sys.filesystems(name)...) {
		t.add(Holder{InUse: true, Detail: what + ": " + usage})
	}
	return nil
}

// opening is how often a device is open.
type opening struct {
	known bool
	times int
	words string // says it
}

// openedOf asks the kernel how often a device is open. Of device-mapper's (LVM,
// multipath, LUKS) it tells. Of MD arrays it tells only whether they are claimed, as
// a mount does, and whether they are being written to.
func openedOf(sys sysfs, name string) opening {
	switch {
	case sys.text(name, "dm", "name") != "":
		times, err := mapperOpens(sys, name)
		if err != nil {
			return opening{words: "of which nothing tells whether it is open: " + err.Error()}
		}
		return opening{known: true, times: times, words: fmt.Sprintf("open %d times", times)}
	case sys.text(name, "md", "array_state") != "":
		return openedMD(sys, name, Claimed)
	}
	return opening{words: "of which nothing tells whether it is open"}
}

// openedMD tells whether an MD array is used. Its states are those of the kernel's
// Documentation/admin-guide/md.rst.
func openedMD(sys sysfs, name string, claimed func(path string) (bool, error)) opening {
	state := sys.text(name, "md", "array_state")
	o := opening{known: true, words: "an MD array in state " + state}
	switch state {
	case "clear", "inactive":
		return o
	case "readonly", "read-auto", "clean", "active-idle":
		held, err := claimed(filepath.Join("/dev", name))
		if err != nil {
			return opening{words: o.words + ", which can't be looked at: " + err.Error()}
		}
		if !held {
			o.words += ", which nothing holds"
			return o
		}
	}
	o.times = 1
	return o
}

// mapperOpens asks device-mapper how often one of its devices is open.
func mapperOpens(sys sysfs, name string) (int, error) {
	number, err := sys.number(name)
	if err != nil {
		return 0, err
	}
	status, err := DeviceMapper(unix.DM_DEV_STATUS, unix.DmIoctl{Dev: newEncoded(number)})
	return int(status.Open_count), err
}

// DeviceMapper asks device-mapper for something about a device of its own, which about names
// by its number or its name, and returns the answer.
func DeviceMapper(request uintptr, about unix.DmIoctl) (unix.DmIoctl, error) {
	about.Version, about.Data_size = [3]uint32{4, 0, 0}, unix.SizeofDmIoctl
	control, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return about, err
	}
	defer func() { _ = control.Close() }()                                                              // nothing is kept with it
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), request, uintptr(unsafe.Pointer(&about))) // #nosec G103 -- the kernel fills it
	if errno != 0 {
		return about, errno
	}
	return about, nil
}

// RemoveIdle takes away those devices of device-mapper (LVM, multipath) among the holders
// of a disk that nobody has open, as Holders returned them, and returns what is left of
// the holders. The disk isn't written to. The kernel refuses it for a device that has been
// opened since, which is left then, as MD arrays are: to stop one writes to its disks.
func RemoveIdle(holders []Holder) (left []Holder) {
	for _, h := range holders { // what is built upon another comes before it
		if !h.InUse && h.mapper != 0 {
			_, err := DeviceMapper(unix.DM_DEV_REMOVE, unix.DmIoctl{Dev: newEncoded(h.mapper)})
			if err == nil || errors.Is(err, unix.ENXIO) { // or it has gone by itself
				continue
			}
			h.InUse = errors.Is(err, unix.EBUSY)
			h.Detail += ", not removed: " + err.Error()
		}
		left = append(left, h)
	}
	return left
}

// newEncoded writes a device number as device-mapper's calls have it (huge_encode_dev).
func newEncoded(number uint64) uint64 {
	major, minor := uint64(unix.Major(number)), uint64(unix.Minor(number))
	return minor&0xff | major<<8 | minor&^0xff<<12
}

// systemMounts are the places whose disk is the node's own. In a container, the
// files that the runtime puts into every one of them lie on that disk too.
func systemMounts() []string {
	return []string{
		"/", "/boot", "/boot/efi", "/etc", "/home", "/usr", "/var", "/var/lib", "/var/lib/kubelet",
		"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/termination-log",
	}
}

// filesystems tells which drivers have a block device mounted, in whatever
// mount namespace. They list it below /sys/fs.
func (s sysfs) filesystems(device string) []string {
	var found []string
	for _, pattern := range []string{"ext4", "xfs", "f2fs", "btrfs/*/devices"} {
		matches, err := filepath.Glob(filepath.Join(string(s), "fs", pattern, device))
		if err == nil && len(matches) > 0 {
			kind, _, _ := strings.Cut(pattern, "/")
			found = append(found, "mounted "+kind)
		}
	}
	return found
}

// procUse is what procfs knows about mounts and swap.
type procUse struct {
	mounts []*mountinfo.Info
	swaps  []string // kernel names
}

// readProcUse reads mountinfo and swaps.
func readProcUse(procDir string) (procUse, error) {
	f, err := os.Open(filepath.Join(procDir, "self", "mountinfo"))
	if err != nil {
		return procUse{}, fmt.Errorf("read mounts: %w", err)
	}
	mounts, err := mountinfo.GetMountsFromReader(f, nil)
	err = errors.Join(err, f.Close())
	if err != nil {
		return procUse{}, fmt.Errorf("read mounts: %w", err)
	}
	data, err := os.ReadFile(filepath.Join(procDir, "swaps"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return procUse{}, fmt.Errorf("read swaps: %w", err)
	}
	return procUse{mounts: mounts, swaps: parseSwaps(string(data))}, nil
}

// parseSwaps returns the kernel names of the devices in /proc/swaps.
func parseSwaps(data string) []string {
	var names []string
	for line := range strings.Lines(data) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[1] == "partition" {
			names = append(names, filepath.Base(fields[0]))
		}
	}
	return names
}

// of tells where a block device is mounted, of the given places only unless
// they are nil, and whether it is swap.
func (u procUse) of(number uint64, name string, places []string) []string {
	var found []string
	for _, m := range u.mounts {
		// btrfs reports a device number of its own making: there the source says it.
		same := FormatNumber(number) == fmt.Sprintf("%d:%d", m.Major, m.Minor) ||
			m.FSType == "btrfs" && filepath.Base(m.Source) == name
		if same && (places == nil || slices.Contains(places, m.Mountpoint)) {
			found = append(found, "mounted at "+m.Mountpoint)
		}
	}
	if slices.Contains(u.swaps, name) {
		found = append(found, "swap")
	}
	return found
}
