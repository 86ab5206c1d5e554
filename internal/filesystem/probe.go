package filesystem

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
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
	// UUID of the filesystem; empty where there is none.
	UUID string
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

// Probe reads what a device holds. It may be mounted. It is Blank only when
// every place that could tell of something reads as zeros: head, tail, and
// wherever a filesystem, RAID or volume manager that libblkid knows keeps a
// signature, or one of the supported filesystems a copy of its superblock. A
// device that can't be read there is an error, not blank. A reading that hangs is
// left behind when ctx ends.
func (f *FS) Probe(ctx context.Context, on Device) (Content, error) {
	content, err := abandonable(ctx, f, on.Path, func() (Content, error) {
		d, err := openDevice(on.Path)
		if err != nil {
			return Content{}, err
		}
		defer d.close()
		return f.probe(ctx, on, d)
	})
	if err != nil {
		return Content{}, fmt.Errorf("probe %s: %w", on.Path, err)
	}
	return content, nil
}

// Recognize tells whether a device holds a supported filesystem that was made to the
// end, and reads no more than that takes: what else the device holds, or that it is
// blank, Format finds out right before it writes.
func (f *FS) Recognize(ctx context.Context, on Device) (content Content, found bool, err error) {
	content, err = abandonable(ctx, f, on.Path, func() (Content, error) {
		d, err := openDevice(on.Path)
		if err != nil {
			return Content{}, err
		}
		defer d.close()
		content, found, err := f.recognize(on.Path, d)
		if err != nil || !found {
			return Content{}, err
		}
		m, marked, err := d.mark(on)
		if err != nil || !marked {
			return content, err
		}
		return f.unfinished(on.Path, d, m, content)
	})
	if err != nil {
		return Content{}, false, fmt.Errorf("recognize %s: %w", on.Path, err)
	}
	return content, content.Kind == Filesystem, nil
}

// probe is Probe of an open device.
func (f *FS) probe(ctx context.Context, on Device, d *handle) (Content, error) {
	// Where blkid says what the superblock says, its word will do: it saves
	// reading all over a device that is merely mounted again.
	content, found, err := f.recognize(on.Path, d)
	if err != nil {
		return Content{}, err
	}
	switch m, marked, err := d.mark(on); {
	case err != nil:
		return Content{}, err
	case marked:
		return f.unfinished(on.Path, d, m, content)
	case found:
		return content, nil
	}
	if on.Beneath != nil {
		data, err := on.Beneath.firstData(ctx, d.size)
		if err != nil {
			return Content{}, err
		}
		if data == "" {
			return Content{Kind: Blank, Detail: "blank"}, nil
		}
	}
	data, err := firstData(ctx, d)
	if err != nil {
		return Content{}, err
	}
	if data == "" {
		// Where there are only zeros, no tool can find a signature.
		return Content{Kind: Blank, Detail: "blank"}, nil
	}
	return f.name(on.Path, data)
}

// mark returns the mark of an open device.
func (d *handle) mark(on Device) (mark, bool, error) {
	if on.Owner == "" {
		return mark{}, false, nil
	}
	direct, err := openDirect(on.Path, os.O_RDONLY)
	if err != nil {
		return mark{}, false, err
	}
	m, found, err := readMark(direct, d.size, on.Owner)
	return m, found, errors.Join(err, direct.Close())
}

// recognize tells whether a supported filesystem is on an open device, in its place.
func (f *FS) recognize(path string, d *handle) (Content, bool, error) {
	switch _, err := readSuperblock(d); {
	case errors.Is(err, ErrUnsupported):
		return Content{}, false, nil
	case err != nil:
		return Content{}, false, err
	}
	is, err := f.blkid(path)
	if err != nil {
		return Content{}, false, err
	}
	if is.usage != "filesystem" || is.table != "" || !Supported(is.fsType) {
		return Content{}, false, nil
	}
	return Content{Kind: Filesystem, Type: is.fsType, UUID: is.uuid, Detail: is.fsType + " filesystem"}, true, nil
}

// name asks the tools what it is that was found on a device, besides data.
func (f *FS) name(path, data string) (Content, error) {
	is, err := f.blkid(path)
	if err != nil {
		return Content{}, err
	}
	traces, err := f.wipefs(path)
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
	c := Content{Kind: Foreign, Type: is.fsType, UUID: is.uuid}
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
	uuid      string
	table     string // PTTYPE: kind of partition table
	ambiguous bool   // several signatures that exclude each other
}

// found tells whether there is any.
func (s signature) found() bool {
	return s.fsType != "" || s.table != "" || s.ambiguous
}

// blkid asks libblkid, past its cache, for the one thing that a device is.
func (f *FS) blkid(path string) (signature, error) {
	const (
		nothing   = 2
		ambiguous = 8
	)
	out, status, err := f.tool("blkid", "-p", "-o", "export", path)
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
		case "UUID":
			s.uuid = value
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
func (f *FS) wipefs(path string) ([]trace, error) {
	out, status, err := f.tool("wipefs", "--no-act", "--json", path)
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
