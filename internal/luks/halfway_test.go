package luks

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/blockdev/looptest"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
)

// TestALuksFormatThatIsKilledIsDoneAgain kills it in several states, together with its
// caller. The next call for the same volume does it again, with the passphrase that it
// has; one for another volume, which may be a clone, doesn't.
func TestALuksFormatThatIsKilledIsDoneAgain(t *testing.T) {
	real, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]string{
		"before the metadata":    "dd if=/dev/zero of=$dev bs=32k count=1 conv=notrunc",
		"between the two copies": "dd if=/dev/zero of=$dev bs=16k seek=1 count=1 conv=notrunc",
		"within the first copy":  "dd if=/dev/zero of=$dev bs=4k seek=1 count=7 conv=notrunc",
		"after all of it":        "true",
	} {
		t.Run(name, func(t *testing.T) {
			dev, c := looptest.New(t, looptest.Options{Size: 64 * mib}), New(filesystem.New(filesystem.Options{}))
			dir, path := t.TempDir(), os.Getenv("PATH")
			script := "#!/bin/sh\nfor a; do case $a in /dev/*) dev=$a;; esac; done\n" +
				real + " \"$@\" >/dev/null && " + damage + " 2>/dev/null && sync $dev && kill -9 $$\n"
			if err := os.WriteFile(dir+"/"+program, []byte(script), 0o700); err != nil {
				t.Fatal(err)
			}
			mine := filesystem.Device{Path: dev.Path, Owner: "mine"}
			t.Setenv("PATH", dir+":"+path)
			if err := c.Format(t.Context(), mine, filesystem.Quick, []byte("lost")); err == nil {
				t.Fatal("it wasn't killed, so that this test shows nothing")
			}
			t.Setenv("PATH", path)

			before := dev.Hash(t)
			if err := c.Format(t.Context(), filesystem.Device{Path: dev.Path, Owner: "clone"}, filesystem.Quick, []byte(canary)); !errors.Is(err, filesystem.ErrNotBlank) {
				t.Errorf("for another volume: got %v, want ErrNotBlank", err)
			}
			if dev.Hash(t) != before {
				t.Error("for another volume it was written to")
			}
			content, err := filesystem.New(filesystem.Options{}).Probe(t.Context(), mine)
			if err != nil || content.Kind != filesystem.Unfinished {
				t.Errorf("it holds %+v, %v, want what is unfinished", content, err)
			}
			if err := c.Format(t.Context(), mine, filesystem.Quick, []byte(canary)); err != nil {
				t.Fatal(err)
			}
			h, err := c.Read(t.Context(), dev.Path)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Verify(t.Context(), h, []byte(canary)); err != nil {
				t.Error(err)
			}
			data, err := os.ReadFile(dev.Backing)
			if err != nil {
				t.Fatal(err)
			}
			for at, b := range data[headerSize:] {
				if b != 0 {
					t.Fatalf("byte %d of the data was written", at)
				}
			}
		})
	}
}
