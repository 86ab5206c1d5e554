package filesystem

import (
	"bufio"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

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
