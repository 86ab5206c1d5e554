package node

import (
	"context"
	"errors"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/filesystem"
)

// busyWait is how long an unmount is tried while the mount is in use. A process
// that is just ending keeps it for some milliseconds; to send the caller away
// for that costs the seconds until it comes back.
const busyWait = 2 * time.Second

// unmount takes away all that is mounted at path. It gives up when the mount
// stays in use; it never detaches what is still written to.
func (s *Server) unmount(ctx context.Context, path string) error {
	limit := time.NewTimer(busyWait)
	defer limit.Stop()
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := s.cfg.FS.Unmount(ctx, path)
		if !errors.Is(err, filesystem.ErrBusy) || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-limit.C:
			return err
		case <-time.After(pause):
		}
	}
}
