// Package luks puts LUKS2 on blank disks, opens, grows and closes it, by way of
// cryptsetup.
//
// A passphrase goes to cryptsetup through a pipe, and nowhere else: not into an
// argument, an environment, a file, a log or an error.
package luks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/filesystem"
)

var (
	// ErrPassphrase means that no key of the disk has that passphrase.
	ErrPassphrase = errors.New("the passphrase does not open the volume")
	// ErrNotLUKS means that the device has no LUKS2 header that this package
	// could have written.
	ErrNotLUKS = errors.New("not a LUKS2 header that this driver made")
)

// program is what does the work.
const program = "cryptsetup"

// Programs are what this package runs, by the names that are looked for in PATH.
func Programs() []string { return []string{program} }

// keys is how many passphrases are turned into keys at once. Each takes memory
// on purpose, see Cost, and the driver's container has little.
const keys = 2

// keyTime is the longest that a key is waited for, on an emulated processor too. A
// cryptsetup that runs for longer has made its key, or hangs with its disk, and keeps
// no other disk waiting.
const keyTime = 30 * time.Second

// Cost is what Argon2id takes to turn the passphrase of a new disk into a key.
type Cost struct {
	// Memory in KiB, and how often it is gone through.
	Memory, Passes int
}

// defaultCost is three times what is recommended for passwords. cryptsetup by
// itself would measure the node, make a weaker key on one that is busy, and take
// up to 1 GiB, which gets a container killed.
func defaultCost() Cost { return Cost{Memory: 32 << 10, Passes: 4} }

// Crypt works on encrypted disks. It is safe for concurrent use.
type Crypt struct {
	fs      *filesystem.FS
	cost    Cost
	slots   chan struct{}
	keyTime time.Duration
	calls   atomic.Int64 // of alone
}

// New returns a Crypt that uses fs to prove disks blank, and to have work run to
// its end.
func New(fs *filesystem.FS) *Crypt { return NewWithCost(fs, defaultCost()) }

// NewWithCost is New for tests on a machine that is emulated, where the usual
// cost takes seconds.
func NewWithCost(fs *filesystem.FS, cost Cost) *Crypt {
	return &Crypt{fs: fs, cost: cost, slots: make(chan struct{}, keys), keyTime: keyTime}
}

// smallest is how many bytes a disk must have: the header, and as much again.
const smallest = 2 * headerSize

// Format puts a LUKS2 header on a disk by the rules of filesystem.WriteBlank: it
// is proven blank right before. Of the rest of the disk nothing is written. A call that
// joins another's Format still has to open what that made, by its own passphrase.
func (c *Crypt) Format(ctx context.Context, on filesystem.Device, proof filesystem.Proof, passphrase []byte) error {
	return c.fs.WriteBlank(ctx, on, proof, "LUKS2", smallest, func() error {
		return c.run(ctx, passphrase, "luksFormat", "--batch-mode", "--type", "luks2",
			"--cipher", "aes-xts-plain64", "--key-size", "512", "--hash", "sha256",
			"--pbkdf", "argon2id", "--pbkdf-parallel", "1",
			"--pbkdf-memory", strconv.Itoa(c.cost.Memory), "--pbkdf-force-iterations", strconv.Itoa(c.cost.Passes),
			"--key-file", "-", on.Path)
	})
}

// Options say how a disk is opened.
type Options struct {
	// ReadOnly makes a mapping that can't be written to.
	ReadOnly bool
	// Discard lets the disk be told which blocks are free. Whoever sees the disk
	// then sees that too.
	Discard bool
}

// Open makes the mapping with that title of the disk that h was read from, out of
// that copy alone: what the disk says by now doesn't count. It fails with
// ErrPassphrase or filesystem.ErrBusy, and then has changed nothing.
//
// The volume's key is kept in the mapping rather than in a keyring of the
// kernel: from there, neither a process in a container nor one that comes later
// can get at it in order to grow the mapping.
func (c *Crypt) Open(ctx context.Context, path string, h Header, title string, passphrase []byte, o Options) error {
	args := []string{"open", path, title, "--type", "luks2", "--disable-keyring", "--key-file", "-"}
	if o.ReadOnly {
		args = append(args, "--readonly")
	}
	if o.Discard {
		args = append(args, "--allow-discards")
	}
	err := c.fs.Run(ctx, path, c.alone("open LUKS2"), func(context.Context) error {
		return c.runWith(ctx, h, passphrase, args...)
	})
	if err != nil {
		return fmt.Errorf("open LUKS2 on %s: %w", path, err)
	}
	return nil
}

// Verify proves that the passphrase opens the header, or fails with ErrPassphrase.
// It touches no disk.
func (c *Crypt) Verify(ctx context.Context, h Header, passphrase []byte) error {
	return c.runWith(ctx, h, passphrase, "open", "--test-passphrase", "--type", "luks2", "--key-file", "-")
}

// Resize makes a mapping as large as the disk that h was read from. The caller
// checks that it is.
func (c *Crypt) Resize(ctx context.Context, path string, h Header, title string) error {
	err := c.fs.Run(ctx, path, "resize LUKS2", func(context.Context) error {
		return c.runWith(ctx, h, nil, "resize", title)
	})
	if err != nil {
		return fmt.Errorf("grow the mapping of %s: %w", path, err)
	}
	return nil
}

// Close takes a mapping away, also one whose disk has gone. It succeeds when
// there is none, and fails with filesystem.ErrBusy when the mapping is in use.
func (c *Crypt) Close(ctx context.Context, title string) error {
	err := c.fs.RunNamed(ctx, "mapping "+title, "close LUKS2", func(context.Context) error { return remove(title, false) })
	if err != nil {
		return fmt.Errorf("close the mapping %s: %w", title, err)
	}
	return nil
}

// DropUnfinished takes away what is left of an Open that was killed half way. What
// is open stays.
func (c *Crypt) DropUnfinished(ctx context.Context, title string) error {
	return c.fs.RunNamed(ctx, "mapping "+title, "drop LUKS2", func(context.Context) error { return remove(title, true) })
}

// alone names work so that no other call joins it: its outcome depends on the
// caller's passphrase, or is for the caller alone.
func (c *Crypt) alone(what string) string { return fmt.Sprintf("%s (%d)", what, c.calls.Add(1)) }

// runWith runs cryptsetup on a copy of a header instead of a disk's.
func (c *Crypt) runWith(ctx context.Context, h Header, passphrase []byte, args ...string) error {
	f, err := h.file()
	if err != nil {
		return err
	}
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd())
	if args[1] == "--test-passphrase" {
		args = append(args, path)
	} else {
		args = append(args, "--header", path)
	}
	return errors.Join(c.run(ctx, passphrase, args...), f.Close())
}

// run runs cryptsetup. Its locks are for those who change a header while others
// read it, and need a directory that can be written to; here only one works on a
// disk at a time.
func (c *Crypt) run(ctx context.Context, passphrase []byte, args ...string) error {
	if passphrase != nil {
		select {
		case c.slots <- struct{}{}:
			giveBack := sync.OnceFunc(func() { <-c.slots })
			defer giveBack()
			defer time.AfterFunc(c.keyTime, giveBack).Stop()
		case <-ctx.Done():
			return fmt.Errorf("wait for memory to make a key: %w", context.Cause(ctx))
		}
	}
	action := args[0]
	output, status, err := c.fs.Tool(ctx, bytes.NewReader(passphrase), program, append(args, "--disable-locks")...)
	if err != nil || status == 0 {
		return err
	}
	// The manual lists them.
	const (
		noPermission = 2
		busy         = 5
	)
	err = filesystem.Failed(program+" "+action, status, output)
	switch status {
	case noPermission:
		return fmt.Errorf("%w: %w", ErrPassphrase, err)
	case busy:
		return fmt.Errorf("%w: %w", filesystem.ErrBusy, err)
	}
	return err
}
