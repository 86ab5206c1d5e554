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
	"strconv"

	"github.com/cinder-csi/cinder-csi/internal/filesystem"
)

var (
	// ErrPassphrase means that no key of the disk has that passphrase.
	ErrPassphrase = errors.New("the passphrase does not open it")
	// ErrNotLUKS means that the device has no LUKS2 header that this package
	// understands.
	ErrNotLUKS = errors.New("no LUKS2 that can be used here")
)

// program is what does the work.
const program = "cryptsetup"

// Programs are what this package runs, by the names that are looked for in PATH.
func Programs() []string { return []string{program} }

// keys is how many passphrases are turned into keys at once. Each takes memory
// on purpose, see Cost, and the driver's container has little.
const keys = 2

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
	fs    *filesystem.FS
	cost  Cost
	slots chan struct{}
}

// New returns a Crypt that uses fs to prove disks blank, and to have work run to
// its end.
func New(fs *filesystem.FS) *Crypt { return NewWithCost(fs, defaultCost()) }

// NewWithCost is New for tests on a machine that is emulated, where the usual
// cost takes seconds.
func NewWithCost(fs *filesystem.FS, cost Cost) *Crypt {
	return &Crypt{fs: fs, cost: cost, slots: make(chan struct{}, keys)}
}

// smallest is how many bytes a disk must have: the header, and as much again.
const smallest = 2 * headerSize

// Format puts a LUKS2 header on a disk by the rules of filesystem.WriteBlank: it
// is proven blank right before. Of the rest of the disk nothing is written.
func (c *Crypt) Format(ctx context.Context, on filesystem.Device, proof filesystem.Proof, passphrase []byte) error {
	return c.fs.WriteBlank(ctx, on, proof, "LUKS2", smallest, func() error {
		return c.run(passphrase, "luksFormat", "--batch-mode", "--type", "luks2",
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

// Open makes the mapping with that title of an encrypted disk. It fails with
// ErrPassphrase, ErrNotLUKS or filesystem.ErrBusy, and then has changed nothing.
//
// The volume's key is kept in the mapping rather than in a keyring of the
// kernel: from there, neither a process in a container nor one that comes later
// can get at it in order to grow the mapping.
func (c *Crypt) Open(ctx context.Context, path, title string, passphrase []byte, o Options) error {
	if _, err := ReadHeader(path); err != nil {
		return err
	}
	args := []string{"open", "--type", "luks2", "--disable-keyring", "--key-file", "-"}
	if o.ReadOnly {
		args = append(args, "--readonly")
	}
	if o.Discard {
		args = append(args, "--allow-discards")
	}
	err := c.fs.Run(ctx, path, "open LUKS2", func(context.Context) error {
		return c.run(passphrase, append(args, path, title)...)
	})
	if err != nil {
		return fmt.Errorf("open LUKS2 on %s: %w", path, err)
	}
	return nil
}

// Resize makes a mapping as large as its disk. The caller checks that it is.
func (c *Crypt) Resize(ctx context.Context, path, title string) error {
	err := c.fs.Run(ctx, path, "resize LUKS2", func(context.Context) error {
		return c.run(nil, "resize", title)
	})
	if err != nil {
		return fmt.Errorf("grow the mapping of %s: %w", path, err)
	}
	return nil
}

// Close takes a mapping away, also one whose disk has gone. It succeeds when
// there is none, and fails with filesystem.ErrBusy when the mapping is in use.
func (c *Crypt) Close(ctx context.Context, title string) error {
	err := c.fs.RunNamed(ctx, "mapping "+title, "close LUKS2", func(context.Context) error {
		err := c.run(nil, "close", title)
		if errors.Is(err, errNoDevice) {
			return dropUnfinished(title)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("close the mapping %s: %w", title, err)
	}
	return nil
}

// DropUnfinished takes away what is left of an Open that was killed half way. What
// is open stays.
func (c *Crypt) DropUnfinished(ctx context.Context, title string) error {
	return c.fs.RunNamed(ctx, "mapping "+title, "drop LUKS2", func(context.Context) error { return dropUnfinished(title) })
}

// errNoDevice: cryptsetup says that the device, or the mapping, isn't there.
var errNoDevice = errors.New("no such device")

// run runs cryptsetup. Its locks are for those who change a header while others
// read it, and need a directory that can be written to; here only one works on a
// disk at a time.
func (c *Crypt) run(passphrase []byte, args ...string) error {
	if passphrase != nil {
		c.slots <- struct{}{}
		defer func() { <-c.slots }()
	}
	action := args[0]
	output, status, err := c.fs.Tool(bytes.NewReader(passphrase), program, append(args, "--disable-locks")...)
	if err != nil || status == 0 {
		return err
	}
	// The manual lists them.
	const (
		noPermission = 2
		wrongDevice  = 4
		busy         = 5
	)
	err = filesystem.Failed(program+" "+action, status, output)
	switch status {
	case noPermission:
		return fmt.Errorf("%w: %w", ErrPassphrase, err)
	case wrongDevice:
		return fmt.Errorf("%w: %w", errNoDevice, err)
	case busy:
		return fmt.Errorf("%w: %w", filesystem.ErrBusy, err)
	}
	return err
}
