package luks

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Sizes and places in bytes, of LUKS2 as Format makes it: two copies of the
// metadata, then the room for key slots up to the data.
const (
	copySize      = 16 << 10  // one copy: a binary part, then JSON
	binarySize    = 4 << 10   // the binary part
	headerSize    = 16 << 20  // both copies and the room for key slots
	slotSize      = 252 << 10 // a key slot: 64 bytes in 4000 stripes, rounded up
	largestOffset = 256 << 20 // before which the data must begin
)

// Fields of the binary part, from the description of LUKS2's on-disk format. What
// lies between them is zero in a header that Format makes.
const (
	sequenceAt, sequenceEnd = 16, 24
	algorithmAt             = 72
	saltAt, saltEnd         = 104, 168
	uuidAt, uuidEnd         = 168, 208
	placeAt                 = 256
	checksumAt, checksumEnd = 448, 512
)

// metadata is the JSON that cryptsetup 2.6, 2.7 and 2.8 write for Format, letter by
// letter. %d are the passes and the KiB of memory of Cost. Each * is a value that
// differs from disk to disk, see take.
const metadata = `{"keyslots":{"0":{"type":"luks2","key_size":64,` +
	`"af":{"type":"luks1","stripes":4000,"hash":"sha256"},` +
	`"area":{"type":"raw","offset":"*","size":"258048","encryption":"aes-xts-plain64","key_size":64},` +
	`"kdf":{"type":"argon2id","time":%d,"memory":%d,"cpus":1,"salt":"*"}}},` +
	`"tokens":{},` +
	`"segments":{"0":{"type":"crypt","offset":"*","size":"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64","sector_size":*}},` +
	`"digests":{"0":{"type":"pbkdf2","keyslots":["0"],"segments":["0"],"hash":"sha256","iterations":1000,"salt":"*","digest":"*"}},` +
	`"config":{"json_size":"12288","keyslots_size":"16744448"}}`

// alphabet has the letters of numbers and of base64.
const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="

// remedy tells a person what to do about a header that is refused.
const remedy = "this driver opens a header only if it could have written that itself, since whoever can write to the disk could choose the key otherwise; " +
	"if the header was changed or damaged, restore it from a backup (cryptsetup luksHeaderRestore)"

// Header is a copy of the header of an encrypted disk, in this process's memory. It
// is one that Format could have written.
type Header struct {
	// UUID of LUKS, which a clone has in common with its origin.
	UUID string
	// Offset is the first byte of the data.
	Offset int64
	// SectorSize is how many bytes are encrypted as a unit.
	SectorSize int64

	copies []byte // of the metadata
	slot   []byte // the only key slot
	slotAt int64  // where on the disk it is
}

// Read reads the header of an encrypted disk, each byte once, and checks it. It
// fails with ErrNotLUKS if there is none, or one that Format could not have written.
// A disk that hangs is left behind when ctx ends.
func (c *Crypt) Read(ctx context.Context, path string) (Header, error) {
	var h Header
	err := c.fs.Run(ctx, path, c.alone("read the LUKS header"), func(context.Context) error {
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		h, err = c.cost.read(f)
		return errors.Join(err, f.Close())
	})
	if err != nil {
		return Header{}, fmt.Errorf("read the LUKS header of %s: %w", path, err)
	}
	return h, nil
}

// Mapped returns how many bytes the mapping of a disk of that size has.
func (h Header) Mapped(disk int64) int64 {
	return max(0, (disk-h.Offset)/h.SectorSize*h.SectorSize)
}

// read reads and checks a header whose key has that cost.
func (c Cost) read(r io.ReaderAt) (Header, error) {
	h := Header{copies: make([]byte, 2*copySize), slot: make([]byte, slotSize)}
	if err := readAt(r, h.copies, 0); err != nil {
		return Header{}, err
	}
	err := h.check(c)
	if err != nil {
		return Header{}, fmt.Errorf("%w: %w; %s", ErrNotLUKS, err, remedy)
	}
	return h, readAt(r, h.slot, h.slotAt)
}

func readAt(r io.ReaderAt, into []byte, at int64) error {
	if _, err := r.ReadAt(into, at); errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the disk ends within the header", ErrNotLUKS)
	} else if err != nil {
		return err
	}
	return nil
}

// check makes both copies of the metadata anew out of the values that may differ
// from disk to disk, and compares all bytes.
func (h *Header) check(c Cost) error {
	first, second := h.copies[:copySize], h.copies[copySize:]
	switch version := binary.BigEndian.Uint16(first[6:]); {
	case !bytes.HasPrefix(first, []byte("LUKS\xba\xbe")):
		return errors.New("there is no LUKS header")
	case version != 2:
		return fmt.Errorf("it is LUKS%d", version)
	}
	h.UUID = unix.ByteSliceToString(first[uuidAt:uuidEnd])
	if !regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(h.UUID) {
		return fmt.Errorf("its UUID is %.40q", h.UUID)
	}
	text := unix.ByteSliceToString(first[binarySize:])
	values, err := parseText(text, fmt.Sprintf(metadata, c.Passes, c.Memory))
	if err != nil {
		return err
	}
	if err := h.take(values[0], values[1], values[2], values[3], values[4], values[5]); err != nil {
		return err
	}
	for i, found := range [][]byte{first, second} {
		if err := h.compare(found, i == 1, first[sequenceAt:sequenceEnd], text); err != nil {
			return fmt.Errorf("copy %d of its metadata: %w", i+1, err)
		}
	}
	return nil
}

// compare compares a copy of the metadata with what cryptsetup makes.
func (h *Header) compare(found []byte, second bool, sequence []byte, text string) error {
	made := make([]byte, copySize)
	copy(made, "LUKS\xba\xbe")
	if second {
		copy(made, "SKUL\xba\xbe")
		binary.BigEndian.PutUint64(made[placeAt:], copySize)
	}
	binary.BigEndian.PutUint16(made[6:], 2)
	binary.BigEndian.PutUint64(made[8:], copySize)
	copy(made[sequenceAt:], sequence)
	copy(made[algorithmAt:], "sha256")
	copy(made[saltAt:saltEnd], found[saltAt:])
	copy(made[uuidAt:], h.UUID)
	copy(made[binarySize:], text)
	sum := sha256.Sum256(made)
	copy(made[checksumAt:checksumEnd], found[checksumAt:])
	if at := difference(found, made); at < copySize {
		return fmt.Errorf("byte %d is %#02x, and would be %#02x", at, found[at], made[at])
	}
	if !bytes.Equal(found[checksumAt:checksumEnd], append(sum[:], make([]byte, checksumEnd-checksumAt-len(sum))...)) {
		return errors.New("its checksum is wrong")
	}
	return nil
}

// parseText compares JSON with what cryptsetup would have written, and returns the
// values that differ from disk to disk.
func parseText(text, want string) (values []string, err error) {
	rest := text
	for i, literal := range strings.Split(want, "*") {
		if i > 0 {
			after := strings.TrimLeft(rest, alphabet)
			values, rest = append(values, strings.TrimSuffix(rest, after)), after
		}
		if at := difference([]byte(rest), []byte(literal)); at < len(literal) {
			return nil, fmt.Errorf("its JSON says %s where this driver has %s", excerpt(text, len(text)-len(rest)+at), excerpt(literal, at))
		}
		rest = rest[len(literal):]
	}
	if rest != "" {
		return nil, fmt.Errorf("its JSON goes on with %.60q", rest)
	}
	return values, nil
}

// take takes the values of parseText, in the order of metadata.
func (h *Header) take(slotAt, salt, offset, sectorSize, digestSalt, digest string) (err error) {
	for _, text := range []string{salt, digestSalt, digest} {
		if data, err := base64.StdEncoding.Strict().DecodeString(text); err != nil || len(data) != 32 {
			return fmt.Errorf("its JSON has the salt or digest %.60q", text)
		}
	}
	if h.slotAt, err = number(slotAt); err != nil || h.slotAt < 2*copySize || h.slotAt > headerSize-slotSize || h.slotAt%4096 != 0 {
		return fmt.Errorf("its key slot is at byte %.60q", slotAt)
	}
	if h.Offset, err = number(offset); err != nil || h.Offset < headerSize || h.Offset > largestOffset || h.Offset%4096 != 0 {
		return fmt.Errorf("its data begins at byte %.60q", offset)
	}
	h.SectorSize, err = number(sectorSize)
	if s := h.SectorSize; err != nil || s < 512 || s > 4096 || s&(s-1) != 0 {
		return fmt.Errorf("it has sectors of %.60q bytes", sectorSize)
	}
	return nil
}

// number reads a number that is written as cryptsetup writes it.
func number(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err == nil && strconv.FormatInt(n, 10) != text {
		err = strconv.ErrSyntax
	}
	return n, err
}

// difference returns the index of the first byte in which two texts differ, their
// common length if there is none.
func difference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// excerpt quotes JSON around a byte.
func excerpt(text string, at int) string {
	quoted := strconv.QuoteToASCII(text[max(0, at-40):min(len(text), at+40)])
	return "…" + strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`) + "…"
}

// file returns the header as a file in memory that nobody can write to. The room for
// key slots is empty but for the one.
func (h Header) file() (*os.File, error) {
	fd, err := unix.MemfdCreate("luks-header", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "LUKS header")
	_, err = f.WriteAt(h.copies, 0)
	if err == nil {
		_, err = f.WriteAt(h.slot, h.slotAt)
	}
	if err == nil {
		err = f.Truncate(headerSize)
	}
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("LUKS header in memory: %w", err), f.Close())
	}
	return f, nil
}
