package filesystem

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/logging"
	"github.com/cinder-csi/cinder-csi/internal/mkfs"
)

// A mkfs that was killed half way leaves a device that is neither blank nor a
// filesystem. Only a mark of our own tells it from a device whose filesystem was
// damaged. The mark's life, and why it can be believed:
//
//   - It is written, and flushed, while the device is claimed and has just been proven
//     blank, before mkfs starts. So whatever is on a device beside its mark came after.
//   - It is taken away after mkfs has succeeded and before the device is mounted for
//     the first time. So no workload ever wrote to a device that has its mark, as long
//     as only this driver hands it out, and the power stays on: the first flush of the
//     mounted filesystem makes it last, since one of its own would cost as much as mkfs. That
//     of LUKS is flushed: behind its header anything may be written at once.
//   - It names its owner. A clone or a restored snapshot has another one.
//   - A filesystem of ext that was mounted is believed rather than its mark, which must be
//     one that came back with the power.
//   - Even so, a device is only made blank again when it holds nothing but what mkfs
//     writes: a second mkfs with the same options, into memory, says which pages these
//     are. Data anywhere else, found by what the thorough proof reads, and a complete
//     filesystem, which somebody may have mounted elsewhere, are never overwritten.
//
// The mark lies where no mkfs writes before it is done: not in the first or last two
// MiB, which they wipe; and not at the beginning of a multiple of 8 MiB, the size of
// the smallest groups of ext. It lies in two such places, one counted from the head
// and so the same after a device has grown. Where a filesystem uses such a place all
// the same, the mark there is lost, and the device is refused as any other is.
const (
	markMagic = "cinder-csi is formatting this disk\n"
	markHead  = 45 << 20 // byte of the first mark
	markTail  = 3 << 20  // bytes before the last multiple of markGroup
	markGroup = 8 << 20
	// markLength is how many bytes a mark may have: a sector, which a disk writes as a whole.
	markLength = 512
)

// mark is what is written.
type mark struct {
	// Owner is Device.Owner, Name what is being made, Command a digest of how.
	Owner, Name, Command string
	// Size of the device in bytes.
	Size int64
	// Nonce makes each mark another one.
	Nonce string
}

// markPlaces returns the bytes at which marks lie on a device of that size.
func markPlaces(size int64) []int64 {
	tail := size/markGroup*markGroup - markTail
	if tail < markGroup {
		return nil // mkfs takes milliseconds, and Cinder has no volume as small
	}
	if tail < markHead+piece {
		return []int64{tail}
	}
	return []int64{markHead, tail}
}

// newMark returns the mark for a write that is about to begin.
func newMark(w blankWrite, size int64) mark {
	command := sha256.Sum256([]byte(w.what))
	return mark{Owner: w.on.Owner, Name: w.name, Command: hex.EncodeToString(command[:8]), Size: size, Nonce: rand.Text()}
}

// page returns the mark as it lies on a disk, in memory for direct reads and writes.
func (m mark) page() ([]byte, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	page := aligned(piece)
	text = fmt.Appendf([]byte(markMagic), "%s\n%x\n", text, sum)
	if copy(page[:markLength], text) != len(text) {
		return nil, fmt.Errorf("the owner %q is too long", m.Owner)
	}
	return page, nil
}

// parseMark reads a mark; false for anything else, such as one that was torn.
func parseMark(page []byte) (mark, bool) {
	rest, ok := bytes.CutPrefix(page, []byte(markMagic))
	if !ok {
		return mark{}, false
	}
	text, rest, _ := bytes.Cut(rest, []byte("\n"))
	sum, _, _ := bytes.Cut(rest, []byte("\n"))
	want := sha256.Sum256(text)
	var m mark
	if hex.EncodeToString(want[:]) != string(sum) || json.Unmarshal(text, &m) != nil {
		return mark{}, false
	}
	return m, true
}

// readMark returns the mark of a device's owner.
func readMark(r io.ReaderAt, size int64, owner string) (mark, bool, error) {
	if owner == "" {
		return mark{}, false, nil
	}
	page := aligned(piece)
	for _, at := range markPlaces(size) {
		if _, err := r.ReadAt(page, at); err != nil {
			return mark{}, false, fmt.Errorf("read %d bytes at byte %d: %w", len(page), at, err)
		}
		if m, ok := parseMark(page); ok && m.Owner == owner {
			return m, true, nil
		}
	}
	return mark{}, false, nil
}

// openDirect opens a device past the page cache.
func openDirect(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags|unix.O_DIRECT, 0)
	if err != nil {
		return nil, fmt.Errorf("device: %w", err)
	}
	return f, nil
}

// write puts the mark on a device of its size and flushes it.
func (m mark) write(path string) (err error) {
	page, err := m.page()
	if err != nil {
		return fmt.Errorf("mark the device: %w", err)
	}
	f, err := openDirect(path, os.O_RDWR)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for _, at := range markPlaces(m.Size) {
		if _, err := f.WriteAt(page, at); err != nil {
			return fmt.Errorf("mark the device: %w", err)
		}
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("mark the device: %w", err)
	}
	return nil
}

// remove takes the marks of an owner from a device that has size bytes now. What
// isn't such a mark is left alone, in its page too.
func (m mark) remove(path string, size int64) (err error) {
	f, err := openDirect(path, os.O_RDWR)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	page := aligned(piece)
	for _, at := range append(markPlaces(size), markPlaces(min(m.Size, size))...) {
		if _, err := f.ReadAt(page, at); err != nil {
			return fmt.Errorf("take the mark away: %w", err)
		}
		if found, ok := parseMark(page); !ok || found.Owner != m.Owner {
			continue
		}
		clear(page[:markLength])
		if _, err := f.WriteAt(page, at); err != nil {
			return fmt.Errorf("take the mark away: %w", err)
		}
	}
	if m.Name != luksName {
		return nil
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("take the mark away: %w", err)
	}
	return nil
}

// unfinished says what a device with a mark of its owner holds. Content is what is
// recognised of it, if anything.
func (f *FS) unfinished(path string, d *handle, m mark, content Content) (Content, error) {
	if content.Kind == Filesystem {
		s, err := readSuperblock(d)
		another := content.Type != m.Name && (!isExt(content.Type) || !isExt(m.Name)) // made by hand
		if err != nil || another || s.mounted {
			return content, err
		}
	} else {
		is, err := f.blkid(path)
		if err != nil {
			return Content{}, err
		}
		content = Content{Type: is.fsType, UUID: is.uuid}
		ours := is.fsType == "" || m.Name == is.fsType || isExt(m.Name) && isExt(is.fsType) || m.Name == luksName && is.fsType == luksType
		if is.table != "" || is.ambiguous || !ours {
			return foreign(is, nil), nil
		}
	}
	content.Kind = Unfinished
	content.Detail = fmt.Sprintf("what is left of making %s, which never ended", m.Name)
	return content, nil
}

// LUKS2, by the name that package luks gives to WriteBlank, and libblkid to a header.
const (
	luksName   = "LUKS2"
	luksType   = "crypto_LUKS"
	luksHeader = 16 << 20 // bytes that luksFormat writes to, at the head
)

// restart leaves the device of a write that never ended ready to be written to
// again, or returns true if it had ended after all. It fails with ErrNotBlank for
// what may be anything else than that write's.
func (f *FS) restart(ctx context.Context, w blankWrite, d *handle, content Content) (finished bool, err error) {
	direct, err := openDirect(w.on.Path, os.O_RDWR)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, direct.Close()) }()
	m, there, err := readMark(direct, d.size, w.on.Owner)
	if err != nil || !there {
		return false, errors.Join(err, fmt.Errorf("%w: its mark has gone", ErrBusy))
	}
	// Another size is one that the volume has grown to.
	if now := newMark(w, d.size); now.Name != m.Name || now.Command != m.Command {
		return false, refuse(content, "; it was begun with other options, as "+m.Name)
	}
	if content, found, err := f.recognize(w.on.Path, d); err != nil {
		return false, err
	} else if found {
		if finished, err = f.confirm(w.on.Path, content.Type); err != nil || finished {
			return finished, errors.Join(err, m.removeIf(finished, w.on.Path, d.size))
		}
	}
	allowed, done, err := f.writtenBy(w, m.Size)
	if err != nil {
		return false, err
	}
	defer done()
	left, err := f.leftovers(ctx, w.on, direct, d.size, allowed)
	if err != nil {
		return false, err
	}
	logging.From(ctx).Warn("beginning again to format a device: the last attempt never ended",
		zap.String("device", w.on.Path), zap.String("owner", w.on.Owner), zap.String("what", m.Name), zap.Int("pieces", len(left)))
	zeros := aligned(piece)
	for _, at := range left {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		if _, err := direct.WriteAt(zeros, at); err != nil {
			return false, fmt.Errorf("wipe what is left: %w", err)
		}
	}
	if err := direct.Sync(); err != nil {
		return false, fmt.Errorf("wipe what is left: %w", err)
	}
	return false, m.remove(w.on.Path, d.size)
}

// removeIf is remove where that is wanted.
func (m mark) removeIf(wanted bool, path string, size int64) error {
	if !wanted {
		return nil
	}
	return m.remove(path, size)
}

// refuse makes the error for a device that holds something else.
func refuse(content Content, why string) error {
	content.Kind = Foreign
	content.Detail += why
	return &NotBlankError{Content: content}
}

// confirm tells whether a filesystem is complete that still has its mark: its mkfs
// ended, and its call didn't. Whether it fills its device, which may have grown, its
// stage finds out. XFS and btrfs write what they are recognised by last; ext, which was
// never mounted, is checked.
func (f *FS) confirm(path, fsType string) (bool, error) {
	if !isExt(fsType) {
		return true, nil
	}
	_, status, err := f.Tool(nil, "e2fsck", "-f", "-n", path)
	return err == nil && status == 0, err
}

// writtenBy returns a function that tells whether the page at a byte is one that
// the write leaves something in.
func (f *FS) writtenBy(w blankWrite, size int64) (allowed func(at int64) bool, done func(), err error) {
	if w.name == luksName {
		return func(at int64) bool { return at < luksHeader }, func() {}, nil
	}
	shadow, err := f.rehearse(w.name, w.asked, size, false)
	if err != nil {
		return nil, nil, err
	}
	page := make([]byte, piece)
	return func(at int64) bool {
		_, err := shadow.ReadAt(page, at)
		return err == nil && firstNonZero(page) >= 0
	}, func() { _ = shadow.Close() }, nil // it is memory
}

// rehearse runs mkfs on as much empty memory as the device has, of which only what
// is written takes room; or, dry, has it check its options and write nothing, which
// ext and btrfs can't as well as XFS.
func (f *FS) rehearse(fsType string, asked mkfs.List, size int64, dry bool) (*os.File, error) {
	const most = 16 << 40
	if size > most {
		return nil, fmt.Errorf("%w: mkfs can't be rehearsed for more than %d bytes, and the device has %d", ErrUnsupported, int64(most), size)
	}
	fd, err := unix.MemfdCreate("mkfs", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	memory := os.NewFile(uintptr(fd), fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)) // #nosec G115 -- not negative
	if err := memory.Truncate(size); err != nil {
		return nil, errors.Join(err, memory.Close())
	}
	// Zeros that nobody needs would be memory.
	switch {
	case isExt(fsType):
		asked = asked.DefaultSetting("-E", "lazy_journal_init=1")
	case fsType == xfs && !dry:
		asked = asked.DefaultSetting("-l", "size=64m")
	}
	args, err := f.mkfsArguments(fsType, asked, size)
	if dry {
		args = append(args, "-N")
	}
	if err == nil {
		err = f.makeFilesystem(fsType, append(args, memory.Name()))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("rehearse: %w", err), memory.Close())
	}
	return memory, nil
}

// leftovers returns the pages of a device that aren't zero, among those that the
// thorough proof reads. It fails with ErrNotBlank when one isn't allowed, which the
// mark itself always is.
func (f *FS) leftovers(ctx context.Context, on Device, direct *os.File, size int64, allowed func(int64) bool) (found []int64, err error) {
	layers := []io.ReaderAt{direct}
	if on.Beneath != nil {
		below, err := openDirect(on.Beneath.Path, os.O_RDONLY)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, below.Close()) }()
		// What was never written is noise above, and zero beneath; what was written
		// as zeros is zero above, and noise beneath.
		layers = []io.ReaderAt{shifted{below, on.Beneath.Offset}, direct}
	}
	plan := thoroughly(size)
	buf, page := aligned(whole), aligned(piece)
	for i := range plan.count() {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		e := plan.extent(i)
		if _, err := layers[0].ReadAt(buf[:e.length], e.offset); err != nil {
			return nil, fmt.Errorf("read %d bytes at byte %d: %w", e.length, e.offset, err)
		}
		for start := int64(0); start < e.length; start += piece {
			part := buf[start:min(start+piece, e.length)]
			if firstNonZero(part) < 0 {
				continue
			}
			at := e.offset + start
			if len(layers) > 1 {
				part = page[:len(part)]
				if _, err := layers[1].ReadAt(part, at); err != nil {
					return nil, fmt.Errorf("read %d bytes at byte %d: %w", len(part), at, err)
				}
			}
			if m, ok := parseMark(part); firstNonZero(part) < 0 || ok && m.Owner == on.Owner {
				continue
			}
			if !allowed(at) {
				return nil, refuse(Content{Detail: describe(part, at, firstNonZero(part))}, ", which no mkfs wrote there")
			}
			found = append(found, at)
		}
	}
	return found, nil
}
