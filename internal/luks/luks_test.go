package luks

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/cinder-csi/cinder-csi/internal/blockdev/looptest"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/logging"
)

const (
	mib = 1 << 20
	// canary is a passphrase that would be easy to find.
	canary = "canary-\x00-of-\n-the-coal-mine"
	title  = "cinder-csi-6a4b9c0e-3f1d-4e57-9a60-1f2e3d4c5b6a"
)

// TestFormatWritesAHeaderAndNothingElse uses the real cryptsetup. To open what it
// makes takes a kernel with device-mapper: the guest's tests do that.
func TestFormatWritesAHeaderAndNothingElse(t *testing.T) {
	dev := looptest.New(t, looptest.Options{Size: 64 * mib})
	c := New(filesystem.New(filesystem.Options{}))
	if err := c.Format(t.Context(), filesystem.Device{Path: dev.Path}, filesystem.Quick, []byte(canary)); err != nil {
		t.Fatal(err)
	}
	h, err := c.Read(t.Context(), dev.Path)
	if err != nil {
		t.Fatal(err)
	}
	if h.Offset != headerSize || len(h.UUID) != 36 || h.Mapped(64*mib) != 48*mib {
		t.Errorf("%+v", h)
	}
	data, err := os.ReadFile(dev.Backing)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte("canary")) {
		t.Error("the passphrase is on the disk")
	}
	if rest := data[headerSize:]; !bytes.Equal(rest, make([]byte, len(rest))) {
		t.Error("more than the header was written")
	}
	out, err := exec.Command("cryptsetup", "luksDump", dev.Path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// The cost is the same, whatever the machine.
	for _, words := range []string{"argon2id", "Time cost:  4", "Memory:     32768", "Threads:    1", "aes-xts-plain64", "512 bits"} {
		if !strings.Contains(string(out), words) {
			t.Errorf("the header doesn't say %q: %s", words, out)
		}
	}
	for passphrase, opens := range map[string]bool{canary: true, canary + "\n": false, "canary-": false} {
		cmd := exec.Command("cryptsetup", "open", "--test-passphrase", "--key-file", "-", dev.Path)
		cmd.Stdin = strings.NewReader(passphrase)
		if out, err := cmd.CombinedOutput(); (err == nil) != opens {
			t.Errorf("%q opens it: %v %s, want %t", passphrase, err, out, opens)
		}
	}
	for range 2 { // it isn't blank any more
		before := dev.Hash(t)
		if err := c.Format(t.Context(), filesystem.Device{Path: dev.Path}, filesystem.Quick, []byte("other")); !errors.Is(err, filesystem.ErrNotBlank) {
			t.Errorf("got %v, want it to be refused", err)
		}
		if dev.Hash(t) != before {
			t.Error("it has been written to")
		}
	}
}

// TestWhatHoldsAnythingIsNotFormatted leaves every disk as it is.
func TestWhatHoldsAnythingIsNotFormatted(t *testing.T) {
	c := New(filesystem.New(filesystem.Options{}))
	for name, test := range map[string]struct {
		size     int64
		data     string
		at       int64
		readOnly bool
		want     error
	}{
		"something at the head":    {64 * mib, "somebody's data", 0, false, filesystem.ErrNotBlank},
		"something at the tail":    {64 * mib, "somebody's data", 64*mib - 512, false, filesystem.ErrNotBlank},
		"a copy of a superblock":   {256 * mib, "somebody's data", 128 * mib, false, filesystem.ErrNotBlank},
		"too small":                {16 * mib, "", 0, false, filesystem.ErrTooSmall},
		"a disk that is read only": {64 * mib, "", 0, true, filesystem.ErrReadOnly},
	} {
		t.Run(name, func(t *testing.T) {
			dev := looptest.New(t, looptest.Options{Size: test.size, ReadOnly: test.readOnly})
			if test.data != "" {
				dev.Write(t, []byte(test.data), test.at)
			}
			before := dev.Hash(t)
			if err := c.Format(t.Context(), filesystem.Device{Path: dev.Path}, filesystem.Quick, []byte(canary)); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if dev.Hash(t) != before {
				t.Error("it has been written to")
			}
		})
	}
}

// fakeTool puts a cryptsetup into PATH that writes down its arguments, its
// environment and what it reads, and ends with that status.
func fakeTool(t *testing.T, status string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	script := "#!/bin/sh\nd=" + dir + "\nprintf '%s\\n' \"$@\" >>$d/arguments\nenv >>$d/environment\ncat >>$d/input\n" +
		"tr '\\0' ' ' </proc/$$/cmdline >>$d/arguments\necho 'words of cryptsetup' >&2\nexit " + status + "\n"
	if err := os.WriteFile(filepath.Join(dir, program), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return dir
}

// formatted returns a device with a LUKS header.
func formatted(t *testing.T) *looptest.Device {
	t.Helper()
	dev := looptest.New(t, looptest.Options{Size: 64 * mib})
	if err := New(filesystem.New(filesystem.Options{})).Format(t.Context(), filesystem.Device{Path: dev.Path}, filesystem.Quick, []byte(canary)); err != nil {
		t.Fatal(err)
	}
	return dev
}

// TestThePassphraseGoesThroughThePipeOnly looks for it everywhere else.
func TestThePassphraseGoesThroughThePipeOnly(t *testing.T) {
	dev, blank := formatted(t), looptest.New(t, looptest.Options{Size: 64 * mib})
	for _, status := range []string{"0", "1", "2"} {
		t.Run("status "+status, func(t *testing.T) {
			dir := fakeTool(t, status)
			core, logs := observer.New(zap.DebugLevel)
			ctx := logging.Into(t.Context(), zap.New(core))
			c := New(filesystem.New(filesystem.Options{}))
			h, err := c.Read(ctx, dev.Path)
			if err != nil {
				t.Fatal(err)
			}
			said := []error{
				c.Format(ctx, filesystem.Device{Path: blank.Path}, filesystem.Quick, []byte(canary)),
				c.Open(ctx, dev.Path, h, title, []byte(canary), Options{ReadOnly: true, Discard: true}),
				c.Verify(ctx, h, []byte(canary)),
				c.Resize(ctx, dev.Path, h, title),
			}
			for _, err := range said {
				if (err != nil) != (status != "0") {
					t.Errorf("got %v with status %s", err, status)
				}
				if err != nil && (strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), "words of cryptsetup")) {
					t.Errorf("an error says %q", err)
				}
			}
			if status == "2" && !errors.Is(said[1], ErrPassphrase) {
				t.Errorf("got %v, want ErrPassphrase", said[1])
			}
			for _, entry := range logs.All() {
				if strings.Contains(entry.Message, "canary") || strings.Contains(strings.Join(fields(entry), " "), "canary") {
					t.Errorf("the log says %+v", entry)
				}
			}
			for name, want := range map[string]bool{"arguments": false, "environment": false, "input": true} {
				data, err := os.ReadFile(filepath.Join(dir, name))
				if err != nil {
					t.Fatal(err)
				}
				if bytes.Contains(data, []byte("canary")) != want {
					t.Errorf("the passphrase is among the %s: %t, want %t", name, !want, want)
				}
				if name == "input" && string(data) != canary+canary+canary {
					t.Errorf("cryptsetup has read %q", data)
				}
			}
		})
	}
}

func fields(entry observer.LoggedEntry) []string {
	var words []string
	for _, f := range entry.Context {
		words = append(words, f.Key, f.String)
	}
	return words
}

// TestExitStatusesAreUnderstood has those that matter to the caller.
func TestExitStatusesAreUnderstood(t *testing.T) {
	dev := formatted(t)
	for status, want := range map[string]error{"2": ErrPassphrase, "5": filesystem.ErrBusy} {
		fakeTool(t, status)
		c := New(filesystem.New(filesystem.Options{}))
		h, err := c.Read(t.Context(), dev.Path)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Open(t.Context(), dev.Path, h, title, []byte(canary), Options{}); !errors.Is(err, want) {
			t.Errorf("status %s: got %v, want %v", status, err, want)
		}
	}
}

// TestAMappingThatIsNotThereIsClosed needs no device-mapper either.
func TestAMappingThatIsNotThereIsClosed(t *testing.T) {
	c := New(filesystem.New(filesystem.Options{}))
	for _, err := range []error{c.Close(t.Context(), title), c.DropUnfinished(t.Context(), title)} {
		if err != nil {
			t.Error(err)
		}
	}
}
