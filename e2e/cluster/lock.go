package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lock keeps two commands from changing the cluster at once. It waits for the
// other one, whose end, however violent, gives it free.
func (p Paths) locked(ctx context.Context, do func() error) error {
	if err := os.MkdirAll(p.Dir, 0o755); err != nil { // #nosec G301 -- nodes' users look in
		return err
	}
	f, err := os.OpenFile(p.lock(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	err = poll(ctx, 100*time.Millisecond, func(context.Context) error {
		return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	})
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("another command is changing the cluster in %s: %w", p.Dir, err)
	}
	if err != nil {
		return err
	}
	return do()
}
