package blockdev

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/inflight"
	"github.com/cinder-csi/cinder-csi/internal/logging"
)

const (
	// pollEvery is how often a disk is looked for without an event.
	pollEvery = time.Second
	// burstWait is how long a burst of events may last before those who wait look.
	burstWait = 5 * time.Millisecond
	// scanPause is how long after the first scan of a SCSI host the second one comes;
	// each later pause is twice as long.
	scanPause = time.Second
)

// waiter waits for disks. The zero value is ready.
type waiter struct {
	arrivals arrivals
	scans    inflight.Group[struct{}]
}

// find looks once for a disk. It doesn't wait for the cloud once next is closed, since a
// disk may have come.
type find func(ctx context.Context, next <-chan struct{}) (Disk, error)

// wait implements Finder.Wait: it looks each time that a disk may have come, and as often
// as poll says. It has the SCSI hosts scanned of which hosts returns the sysfs directories.
func (w *waiter) wait(ctx context.Context, poll time.Duration, hosts func() []string, search find) (Disk, error) {
	// Most disks are there. To watch, and to end that, takes the kernel longer than to
	// look; and this look doesn't wait for the cloud.
	already := make(chan struct{})
	close(already)
	d, err := search(ctx, already)
	if !errors.Is(err, ErrNotFound) {
		return d, err
	}
	defer w.arrivals.join()()
	var scans sync.WaitGroup
	defer scans.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, host := range hosts() {
		scans.Go(func() { w.scanNowAndThen(ctx, host) })
	}
	tick := time.NewTicker(cmp.Or(poll, pollEvery))
	defer tick.Stop()
	for {
		// What came before the watch would be missed: so watch first, then look.
		next := w.arrivals.next()
		d, now := search(ctx, next)
		switch {
		case now == nil:
			return d, nil
		case ctx.Err() != nil: // the look was interrupted: what was found before says more
			return Disk{}, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case !errors.Is(now, ErrNotFound):
			return Disk{}, now
		}
		err = now
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-next:
			time.Sleep(burstWait)
		}
	}
}

// scanNowAndThen scans a SCSI host until ctx ends, and has all who wait look after each
// scan. A scan costs a host an inquiry per possible disk. One that hangs is waited for by
// all calls.
func (w *waiter) scanNowAndThen(ctx context.Context, host string) {
	logging.From(ctx).Debug("a host that doesn't announce disks is scanned", zap.String("host", host))
	for pause := scanPause; ; pause *= 2 {
		_, err := w.scans.Do(ctx, host, func() (struct{}, error) {
			return struct{}{}, os.WriteFile(filepath.Join(host, "scan"), []byte("- - -"), 0)
		})
		if err != nil && ctx.Err() == nil {
			logging.From(ctx).Warn("a SCSI host could not be scanned", zap.String("host", host), zap.Error(err))
		}
		w.arrivals.wake()
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// silentHosts returns the sysfs directories of SCSI hosts that don't tell the
// kernel when a disk comes. All others are left alone: those of virtio that have
// agreed to tell, those of Hyper-V and VMware's own kind, which tell always, and
// those of ATA, USB and storage networks, where no volume is attached.
func (s sysfs) silentHosts() []string {
	class, err := filepath.Glob(filepath.Join(string(s), "class", "scsi_host", "host*"))
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(class, func(host string) bool { return !isSilent(host) })
}

func isSilent(host string) bool {
	driver, err := os.ReadFile(filepath.Join(host, "proc_name"))
	if err != nil {
		return false
	}
	switch strings.TrimSpace(string(driver)) {
	case "virtio_scsi":
		return !announcesOnVirtio(host)
	case "mptspi", "mptsas", "sym53c8xx", "am53c974", "BusLogic":
		return true // controllers of old that QEMU and VMware emulate
	}
	return false
}

// announcesOnVirtio tells whether a virtio-scsi host and its driver have agreed
// on VIRTIO_SCSI_F_HOTPLUG. The device is above the host in sysfs.
func announcesOnVirtio(host string) bool {
	const hotplug = 1 // the bit, and the character in the list of bits
	path, err := filepath.EvalSymlinks(host)
	if err != nil {
		return true
	}
	for ; len(path) > 1; path = filepath.Dir(path) {
		if !strings.HasPrefix(filepath.Base(path), "virtio") {
			continue
		}
		features, err := os.ReadFile(filepath.Join(path, "features"))
		return err != nil || len(features) <= hotplug || features[hotplug] == '1'
	}
	return true
}
