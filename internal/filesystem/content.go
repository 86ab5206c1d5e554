package filesystem

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Kind says what a device holds, roughly.
type Kind int

const (
	// Foreign is something that is neither to be mounted nor overwritten. It is
	// the zero value.
	Foreign Kind = iota
	// Blank is nothing, as far as can be read.
	Blank
	// Filesystem is one of the supported filesystems.
	Filesystem
	// Unfinished is what a Format left that never ended. Format does it again, or
	// finishes it; nothing else may use it.
	Unfinished
)

// String returns the kind in lower case.
func (k Kind) String() string {
	switch k {
	case Blank:
		return "blank"
	case Filesystem:
		return "filesystem"
	case Unfinished:
		return "unfinished"
	}
	return "foreign"
}

// Content is what a device holds.
type Content struct {
	// Kind says it roughly.
	Kind Kind
	// Type is the name that libblkid gives it, as in ext4, crypto_LUKS or
	// LVM2_member; the kind of a partition table where it is that; may be empty.
	Type string
	// Filesystem is the type of one that is there from its first byte to its last; nil
	// for anything else.
	Filesystem *Type
	// Detail says in words what was found.
	Detail string
}

// Device is a block device, and what else has to be known of it in order to tell
// whether it is blank.
type Device struct {
	// Path is the device node.
	Path string
	// Owner names whom the device belongs to, such as a volume's id. The mark of a
	// Format that never ended is believed only where it has the same name.
	Owner string
	// Beneath is where the bytes of a mapping that decrypts really are; nil for any
	// other device. A mapping shows noise where nothing was ever written. It is
	// blank when beneath it is nothing but zeros.
	Beneath *Beneath
}

// Proof says how it is proven that a device holds nothing.
type Proof int

const (
	// Thorough is for a device that may have held data whose head was lost.
	Thorough Proof = iota
	// Quick is for a device that was never given to a workload as a filesystem: it
	// reads what Probe reads.
	Quick
)

// NotBlankError is an ErrNotBlank that tells what the device holds.
type NotBlankError struct{ Content Content }

func (e *NotBlankError) Error() string {
	return fmt.Sprintf("%v: it holds %s", ErrNotBlank, e.Content.Detail)
}

func (e *NotBlankError) Unwrap() error { return ErrNotBlank }

// Beneath is where the bytes of a mapping really are, one that encrypts: on
// another device, from an offset on.
type Beneath struct {
	// Path is the device node of that other device.
	Path string
	// Offset is the first byte that belongs to the mapping.
	Offset int64
}

// Probe reads what a device holds. It may be mounted. It is Blank only when
// every place that could tell of something reads as zeros: head, tail, and
// wherever a filesystem, RAID or volume manager that libblkid knows keeps a
// signature, or one of the supported filesystems a copy of its superblock. A
// device that can't be read there is an error, not blank. A reading that hangs is
// left behind when ctx ends.
func (f *FS) Probe(ctx context.Context, on Device) (Content, error) {
	return f.read(ctx, on, func(d *handle) (Content, error) { return f.probe(ctx, on, d) })
}

// Recognize is Probe that reads no more than it takes to tell whether a supported
// filesystem is there: the Kind of anything else may be Foreign, without a word. What
// else the device holds, or that it is blank, Format finds out right before it writes.
func (f *FS) Recognize(ctx context.Context, on Device) (Content, error) {
	return f.read(ctx, on, func(d *handle) (Content, error) {
		content, err := f.recognize(ctx, on.Path, d)
		if err != nil || content.Kind != Filesystem {
			return Content{}, err
		}
		return f.marked(ctx, on, d, content)
	})
}

// read opens a device for reading, and leaves the reading behind when ctx ends.
func (f *FS) read(ctx context.Context, on Device, reading func(*handle) (Content, error)) (Content, error) {
	content, err := abandonable(ctx, f, on.Path, func() (Content, error) {
		d, err := openDevice(on.Path)
		if err != nil {
			return Content{}, err
		}
		defer d.close()
		return reading(d)
	})
	if err != nil {
		return Content{}, fmt.Errorf("read what %s holds: %w", on.Path, err)
	}
	return content, nil
}

// probe is Probe of an open device.
func (f *FS) probe(ctx context.Context, on Device, d *handle) (Content, error) {
	// Where blkid says what the superblock says, its word will do: it saves
	// reading all over a device that is merely mounted again.
	content, err := f.recognize(ctx, on.Path, d)
	if err == nil {
		content, err = f.marked(ctx, on, d, content)
	}
	if err != nil || content != (Content{}) {
		return content, err
	}
	data := "" // where there are only zeros, no tool can find a signature
	if on.Beneath != nil {
		data, err = on.Beneath.firstData(ctx, d.size)
	}
	if err == nil && (on.Beneath == nil || data != "") {
		data, err = firstData(ctx, d)
	}
	switch {
	case err != nil:
		return Content{}, err
	case data == "":
		return Content{Kind: Blank, Detail: "blank"}, nil
	}
	return f.name(ctx, on.Path, data)
}

// recognize returns the supported filesystem that is on an open device, in its place;
// the zero Content where there is none.
func (f *FS) recognize(ctx context.Context, path string, d *handle) (Content, error) {
	switch _, err := readSuperblock(d); {
	case errors.Is(err, ErrUnsupported):
		return Content{}, nil
	case err != nil:
		return Content{}, err
	}
	is, err := f.blkid(ctx, path)
	if err != nil || is.usage != "filesystem" || is.table != "" {
		return Content{}, err
	}
	t, err := TypeOf(is.fsType)
	if err != nil {
		return Content{}, nil //nolint:nilerr // another filesystem
	}
	return Content{Kind: Filesystem, Type: t.Name, Filesystem: t, Detail: t.Name + " filesystem"}, nil
}

// superblock is what this package needs to know of a filesystem's own record
// of itself.
type superblock struct {
	// of is the family: ext2, ext3 and ext4 are all ext4 here.
	of    *Type
	size  int64 // bytes that the filesystem covers
	block int64 // bytes of a block
	// slack is how many bytes at the end of a device may stay unused because
	// the filesystem can't make use of so few.
	slack int64
	// unclean: an ext filesystem has errors on record, or has no journal and wasn't
	// unmounted. One with a journal is put in order by the kernel when it is mounted.
	unclean bool
	// mounted: an ext filesystem was mounted for writing since it was made.
	mounted bool
	// narrow: the blocks of an ext filesystem have numbers of 32 bits.
	narrow bool
	// devices is how many disks the filesystem is made of, and deviceID which of them
	// this is, of btrfs.
	devices, deviceID uint64
}

// superLength is how long a piece of a device is enough to parse a superblock.
const superLength = 1024

// readSuperblock reads the superblock of whichever filesystem is there.
func readSuperblock(r io.ReaderAt) (superblock, error) {
	for _, t := range families() {
		buf := make([]byte, superLength)
		if _, err := r.ReadAt(buf, t.superblockAt); err != nil {
			if err == io.EOF {
				continue
			}
			return superblock{}, fmt.Errorf("read the superblock: %w", err)
		}
		if s, ok := t.parse(buf); ok {
			s.of = t
			return s, nil
		}
	}
	return superblock{}, fmt.Errorf("%w: no superblock that is known", ErrUnsupported)
}

// product multiplies two sizes; false when the result isn't a sensible one.
func product(a, b uint64) (int64, bool) {
	high, low := bits.Mul64(a, b)
	return int64(low), high == 0 && low > 0 && low < 1<<63 // #nosec G115 -- checked
}

// full tells whether a filesystem uses all of its device that it can.
func (s superblock) full(deviceSize int64) bool {
	return deviceSize-s.size < max(s.block, s.slack)
}

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

// marked returns what a device holds of which content was recognised: the same where
// it has no mark of its owner, or one that doesn't count, else Unfinished.
func (f *FS) marked(ctx context.Context, on Device, d *handle, content Content) (Content, error) {
	if on.Owner == "" {
		return content, nil
	}
	direct, err := openDirect(on.Path, os.O_RDONLY)
	if err != nil {
		return Content{}, err
	}
	m, found, err := readMark(direct, d.size, on.Owner)
	if err = errors.Join(err, direct.Close()); err != nil || !found {
		return content, err
	}
	if content.Kind == Filesystem {
		s, err := readSuperblock(d)
		if err != nil || s.mounted || !alike(content.Type, m.Name) { // or made by hand
			return content, err
		}
	} else {
		is, err := f.blkid(ctx, on.Path)
		if err != nil {
			return Content{}, err
		}
		ours := is.fsType == "" || alike(m.Name, is.fsType) || m.Name == luksName && is.fsType == luksType
		if is.table != "" || is.ambiguous || !ours {
			return foreign(is, nil), nil
		}
		content = Content{Type: is.fsType}
	}
	content.Kind, content.Filesystem = Unfinished, nil
	content.Detail = fmt.Sprintf("what is left of making %s, which never ended", m.Name)
	return content, nil
}

// LUKS2, by the name that package luks gives to WriteBlank, and libblkid to a header.
const (
	luksName   = "LUKS2"
	luksType   = "crypto_LUKS"
	luksHeader = 16 << 20 // bytes that luksFormat writes to, at the head
)

const (
	// edge is how much is read at the head and at the tail of a device:
	// superblocks, labels and headers of everything from GPT to ZFS lie there.
	// The few signatures beyond are in farPlaces.
	edge = 1 << 20
	// piece is how much is read at each other place.
	piece = 4 << 10
	// stride is the distance of the places that are read throughout a device,
	// for the groups of a filesystem that has been grown. Volumes come in whole
	// GiB, and an XFS is made with four groups.
	stride = 256 << 20
	// maxStrides bounds them: beyond, the distance is doubled.
	maxStrides = 1024
	// chunk is how much is compared in one go.
	chunk = 128 << 10
)

// lostPrimary begins the description of what is left of a filesystem.
const lostPrimary = "a filesystem without its primary superblock"

// extent is a stretch of a device.
type extent struct{ offset, length int64 }

// sampledExtents returns the stretches of a device that must be zero before it may
// pass for blank: head, tail, and wherever a filesystem or LUKS2 keeps copies of its
// superblock; with any options that mkfs takes, or with those that it likes.
func sampledExtents(size int64, anyOptions bool) []extent {
	places := markPlaces(size)
	for _, t := range families() {
		places = append(places, t.copies(size, anyOptions)...)
	}
	// The second header of LUKS2 may be beyond the head. VMFS and the outermost of
	// Promise's RAID are the signatures that libblkid knows far from both ends.
	places = append(places, 1<<20, 2<<20, 4<<20, size-3087*512)
	step := int64(stride)
	for size/step > maxStrides {
		step *= 2
	}
	for at := step; at < size; at += step {
		places = append(places, at)
	}
	tail := max(0, size-edge)
	extents := []extent{{0, min(edge, size)}}
	slices.Sort(places)
	last := int64(-1)
	for _, at := range places {
		at -= at % piece
		if at < edge || at >= tail || at == last {
			continue
		}
		extents = append(extents, extent{at, min(piece, tail-at)})
		last = at
	}
	if tail < edge {
		tail = min(edge, size)
	}
	if tail < size {
		extents = append(extents, extent{tail, size - tail})
	}
	return extents
}

// firstData reads the sampled extents of a device. It returns what it found that
// isn't zero, or "" when there is nothing. A part that can't be read is an error.
func firstData(ctx context.Context, d *handle) (string, error) {
	extents := sampledExtents(d.size, false)
	// All that will be read is asked for at once, so that the latency of a
	// network counts but once; reading ahead beyond it would multiply what the
	// scattered pieces cost. That advice isn't taken is no reason to stop.
	_ = unix.Fadvise(int(d.Fd()), 0, 0, unix.FADV_RANDOM)
	for _, e := range extents {
		_ = unix.Fadvise(int(d.Fd()), e.offset, e.length, unix.FADV_WILLNEED)
	}
	return readingOf(extents).search(ctx, d, 1)
}

// readers is how many places are read at once past the page cache, into which the
// kernel could be told to read them all ahead. A volume is reached over a network,
// where latency counts and not throughput.
const readers = 8

// firstData reads, beneath a mapping of that size, what firstData would read of
// it, and returns the same. Where the device beneath was blank when encryption
// was put on it, these are zeros until something is written to the mapping.
//
// What the kernel remembers of the device beneath is passed by: a mapping writes
// to the disk without telling, and zeros that were read before would stay.
func (b Beneath) firstData(ctx context.Context, size int64) (string, error) {
	f, err := openDirect(b.Path, os.O_RDONLY)
	if err != nil {
		return "", fmt.Errorf("beneath: %w", err)
	}
	found, err := readingOf(sampledExtents(size, false)).search(ctx, shifted{f, b.Offset}, readers)
	return found, errors.Join(err, f.Close())
}

// shifted reads from an offset on.
type shifted struct {
	r  io.ReaderAt
	by int64
}

func (s shifted) ReadAt(p []byte, at int64) (int, error) { return s.r.ReadAt(p, at+s.by) }

// aligned returns memory that the kernel can read into without the page cache.
func aligned(size int) []byte {
	buf := make([]byte, size+piece)
	skip := piece - int(uintptr(unsafe.Pointer(&buf[0]))%piece) // #nosec G103 -- only its value counts
	return buf[skip : skip+size]
}

// reading is a number of extents of a device to be read.
type reading struct {
	count int64
	at    func(i int64) extent
	// hasty: the first data that is found will do.
	hasty bool
	// bytes counts what was read.
	bytes atomic.Int64
}

// readingOf returns the reading of extents.
func readingOf(extents []extent) *reading {
	return &reading{count: int64(len(extents)), at: func(i int64) extent { return extents[i] }}
}

// search reads so many extents at once, in any order. It returns what was found that
// isn't zero: what names a filesystem says more than what comes first.
func (all *reading) search(ctx context.Context, r io.ReaderAt, readers int) (string, error) {
	var (
		next  atomic.Int64
		mu    sync.Mutex
		found string
		first int64
	)
	group, ctx := errgroup.WithContext(ctx)
	for range readers {
		group.Go(func() error {
			buf := aligned(chunk)
			for i := next.Add(1) - 1; i < all.count; i = next.Add(1) - 1 {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				e := all.at(i)
				data, err := dataIn(r, e, buf)
				if err != nil {
					return err
				}
				all.bytes.Add(e.length)
				if data == "" {
					continue
				}
				mu.Lock()
				named, before := strings.HasPrefix(data, lostPrimary), strings.HasPrefix(found, lostPrimary)
				if found == "" || named && !before || named == before && i < first {
					found, first = data, i
				}
				mu.Unlock()
				if all.hasty {
					next.Store(all.count)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return "", err
	}
	return found, nil
}

// dataIn returns in words what isn't zero in a stretch of a device. It reads
// through buf, which has room for a superblock.
func dataIn(r io.ReaderAt, e extent, buf []byte) (string, error) {
	for end := e.offset + e.length; e.offset < end; e.offset += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), end-e.offset)]
		if _, err := r.ReadAt(buf, e.offset); err != nil {
			return "", fmt.Errorf("read %d bytes at byte %d: %w", len(buf), e.offset, err)
		}
		if at := firstNonZero(buf); at >= 0 {
			return describe(buf, e.offset, at), nil
		}
	}
	return "", nil
}

// firstNonZero returns the index of the first byte that isn't zero, or -1.
func firstNonZero(buf []byte) int {
	var zeros [piece]byte
	for start := 0; start < len(buf); start += piece {
		part := buf[start:min(start+piece, len(buf))]
		if bytes.Equal(part, zeros[:len(part)]) {
			continue
		}
		for i, b := range part {
			if b != 0 {
				return start + i
			}
		}
	}
	return -1
}

// describe names the data at index at of buf, which was read at base. At these
// places even a copy of a superblock whose primary is lost can be told.
func describe(buf []byte, base int64, at int) string {
	start := at - at%superLength
	part := buf[start:]
	where := base + int64(start)
	if bytes.HasPrefix(part, []byte(markMagic)) {
		return fmt.Sprintf("the mark of a mkfs that never ended, of another volume, at byte %d", where)
	}
	for _, t := range families() {
		if len(part) >= superLength && t.isCopy(part) {
			return fmt.Sprintf("%s: %s, a copy of it is at byte %d", lostPrimary, t.family, where)
		}
	}
	return fmt.Sprintf("data without a known signature at byte %d", base+int64(at))
}

// name asks the tools what it is that was found on a device, besides data.
func (f *FS) name(ctx context.Context, path, data string) (Content, error) {
	is, err := f.blkid(ctx, path)
	if err != nil {
		return Content{}, err
	}
	traces, err := f.wipefs(ctx, path)
	if err != nil {
		return Content{}, err
	}
	if is.found() || len(traces) > 0 {
		return foreign(is, traces), nil
	}
	return Content{Kind: Foreign, Detail: data}, nil
}

// foreign describes what libblkid knows and this package doesn't handle.
func foreign(is signature, traces []trace) Content {
	c := Content{Kind: Foreign, Type: is.fsType}
	var words []string
	if is.fsType != "" {
		words = append(words, is.fsType)
	}
	if is.table != "" {
		words = append(words, "a partition table ("+is.table+")")
		if c.Type == "" {
			c.Type = is.table
		}
	}
	if is.ambiguous || len(words) == 0 {
		for _, t := range traces {
			words = append(words, t.String())
		}
	}
	if is.ambiguous && len(words) == 0 {
		words = append(words, "signatures that exclude each other")
	}
	c.Detail = strings.Join(words, ", ")
	return c
}

// signature is what libblkid says about a whole device.
type signature struct {
	fsType    string // TYPE: a filesystem, LUKS, RAID member, swap …
	usage     string // USAGE: filesystem, raid, crypto, other
	table     string // PTTYPE: kind of partition table
	ambiguous bool   // several signatures that exclude each other
}

// found tells whether there is any.
func (s signature) found() bool {
	return s.fsType != "" || s.table != "" || s.ambiguous
}

// blkid asks libblkid, past its cache, for the one thing that a device is.
func (f *FS) blkid(ctx context.Context, path string) (signature, error) {
	const (
		nothing   = 2
		ambiguous = 8
	)
	out, status, err := f.tool(ctx, "blkid", "-p", "-o", "export", path)
	switch {
	case err != nil:
		return signature{}, err
	case status == 0:
		return parseBlkid(out), nil
	case status == nothing:
		// Also what it says of a device that it can't read. The reading that
		// follows finds that out.
		return signature{}, nil
	case status == ambiguous:
		return signature{ambiguous: true}, nil
	}
	return signature{}, fmt.Errorf("blkid -p %s: exit status %d", path, status)
}

// parseBlkid reads KEY=value lines, in which blanks and the like are escaped
// with a backslash.
func parseBlkid(out string) signature {
	var s signature
	lines := bufio.NewScanner(strings.NewReader(out))
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), "=")
		value = strings.ReplaceAll(value, `\`, "")
		switch key {
		case "TYPE":
			s.fsType = value
		case "USAGE":
			s.usage = value
		case "PTTYPE":
			s.table = value
		}
	}
	return s
}

// trace is one signature somewhere on a device.
type trace struct {
	offset int64 // byte, -1 where it isn't told
	kind   string
}

func (t trace) String() string {
	return fmt.Sprintf("%s at byte %d", t.kind, t.offset)
}

// wipefs asks for every signature on a device, those too that blkid passes
// over. It changes nothing.
func (f *FS) wipefs(ctx context.Context, path string) ([]trace, error) {
	out, status, err := f.tool(ctx, "wipefs", "--no-act", "--json", path)
	if err != nil {
		return nil, err
	}
	if status != 0 {
		return nil, fmt.Errorf("wipefs --no-act %s: exit status %d", path, status)
	}
	traces, err := parseWipefs(out)
	if err != nil {
		return nil, fmt.Errorf("wipefs --no-act %s: %w", path, err)
	}
	return traces, nil
}

func parseWipefs(out string) ([]trace, error) {
	if strings.TrimSpace(out) == "" { // older ones say nothing where there is nothing
		return nil, nil
	}
	var answer struct {
		Signatures []struct {
			Offset string `json:"offset"`
			Type   string `json:"type"`
		} `json:"signatures"`
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return nil, fmt.Errorf("read its answer: %w", err)
	}
	var traces []trace
	for _, s := range answer.Signatures {
		offset, err := strconv.ParseInt(s.Offset, 0, 64)
		if err != nil {
			offset = -1
		}
		traces = append(traces, trace{offset: offset, kind: s.Type})
	}
	return traces, nil
}
