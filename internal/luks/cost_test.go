package luks

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/blockdev/looptest"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
)

// TestAKeyThatCostsTooMuchIsNotTried: cryptsetup takes as much memory, and goes
// through it as often, as the header says. Whoever may write to a disk that is
// cloned into an encrypted volume could take a node's memory.
func TestAKeyThatCostsTooMuchIsNotTried(t *testing.T) {
	dev := looptest.New(t, looptest.Options{Size: 64 * mib})
	c := New(filesystem.New(filesystem.Options{}))
	if err := c.Format(t.Context(), filesystem.Device{Path: dev.Path}, filesystem.Quick, []byte(canary)); err != nil {
		t.Fatal(err)
	}
	good := readCopies(t, dev)
	for name, tt := range map[string]struct {
		old, hostile string
		first        bool // the first copy is damaged, so that the second counts
	}{
		"memory":                       {`"memory":32768`, `"memory":4294967295`, false},
		"passes":                       {`"time":4`, `"time":4294967295`, false},
		"threads":                      {`"cpus":1`, `"cpus":4096`, false},
		"rounds of the digest":         {`"iterations":1000`, `"iterations":4294967295`, false},
		"memory in another case":       {`"memory":32768`, `"memory":4294967295,"Memory":1`, false},
		"keys in another case":         {`"keyslots":{`, `"Keyslots":{},"keyslots":{`, false},
		"memory in the second copy":    {`"memory":32768`, `"memory":4294967295`, true},
		"a cost that is no number":     {`"memory":32768`, `"memory":"4294967295"`, false},
		"a cost that is below nothing": {`"memory":32768`, `"memory":-1`, false},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(good, tt.old, tt.hostile, 1)
			if text == good {
				t.Fatalf("there is no %s in %s", tt.old, good)
			}
			if name == "keys in another case" {
				text = strings.Replace(text, `"memory":32768`, `"memory":4294967295`, 1)
			}
			writeCopies(t, dev, text)
			if tt.first {
				writeCopies(t, dev, good)
				writeCopy(t, dev, secondOf(t, dev), text)
				dev.Write(t, []byte{'x'}, 448) // its checksum
			}
			if _, err := ReadHeader(dev.Path); !errors.Is(err, ErrNotLUKS) || !strings.Contains(err.Error(), "takes too much") {
				t.Errorf("got %v, want it to be refused", err)
			}
		})
	}

	// What cryptsetup chooses by itself on a large machine is none of that, and a
	// second copy that is damaged is passed by.
	writeCopies(t, dev, strings.Replace(good, `"memory":32768`, `"memory":1048576,"x":1`, 1))
	if _, err := ReadHeader(dev.Path); err != nil {
		t.Error(err)
	}
	writeCopies(t, dev, good)
	writeCopy(t, dev, secondOf(t, dev), strings.Replace(good, `"memory":32768`, `"memory":4294967295`, 1))
	dev.Write(t, []byte("xxxx"), secondOf(t, dev)+448)
	if _, err := ReadHeader(dev.Path); err != nil {
		t.Error(err)
	}
}

// secondOf returns where the second copy of the header is.
func secondOf(t *testing.T, dev *looptest.Device) int64 {
	t.Helper()
	return int64(binary.BigEndian.Uint64(readAt(t, dev, 0, binarySize)[8:]))
}

func readCopies(t *testing.T, dev *looptest.Device) string {
	t.Helper()
	text := readAt(t, dev, binarySize, int(secondOf(t, dev))-binarySize)
	text, _, _ = bytes.Cut(text, []byte{0})
	if !json.Valid(text) {
		t.Fatalf("no JSON: %s", text)
	}
	return string(text)
}

func readAt(t *testing.T, dev *looptest.Device, at int64, length int) []byte {
	t.Helper()
	f, err := os.Open(dev.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	data := make([]byte, length)
	if _, err := io.ReadFull(io.NewSectionReader(f, at, int64(length)), data); err != nil {
		t.Fatal(err)
	}
	return data
}

func writeCopies(t *testing.T, dev *looptest.Device, text string) {
	t.Helper()
	second := secondOf(t, dev)
	writeCopy(t, dev, 0, text)
	writeCopy(t, dev, second, text)
}

// writeCopy writes one copy of the header, with a checksum that is right.
func writeCopy(t *testing.T, dev *looptest.Device, at int64, text string) {
	t.Helper()
	head := readAt(t, dev, at, binarySize)
	size := binary.BigEndian.Uint64(head[8:])
	padded := make([]byte, size-binarySize)
	copy(padded, text)
	clear(head[448:512])
	sum := sha256.Sum256(append(bytes.Clone(head), padded...))
	copy(head[448:], sum[:])
	dev.Write(t, append(head, padded...), at)
}
