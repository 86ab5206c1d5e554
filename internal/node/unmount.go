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

// tidyTime is how long a call that has failed may go on taking back what it has
// made, when its own time is up: a disk that hangs must not keep the volume's lock.
const tidyTime = 30 * time.Second

// tidying returns the context for that.
func tidying(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), tidyTime)
}

// unmountAgain unmounts what this call has mounted and that isn't as it should be
// for the reason err.
func (s *Server) unmountAgain(ctx context.Context, path string, err error) error {
	ctx, cancel := tidying(ctx)
	defer cancel()
	return errors.Join(err, s.unmount(ctx, path))
}

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
