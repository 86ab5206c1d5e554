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
	// scanPause is how long after the first scan of a SCSI host the second one comes;
	// each later pause is twice as long.
	scanPause = time.Second
)

// waiter waits for disks. The zero value is ready.
type waiter struct {
	arrivals arrivals
	scans    inflight.Group[struct{}]
}

// search is what a waiter has to know to find a disk.
type search struct {
	// find looks once. It doesn't wait for the cloud once woken has something to
	// receive, since a disk may have come.
	find func(ctx context.Context, woken chan struct{}) (Disk, error)
	// dirs are the directories that change when a disk comes.
	dirs []string
	// hosts returns the sysfs directories of the SCSI hosts that have to be scanned.
	hosts func() []string
	// poll is how often to look without an event; pollEvery where it is 0.
	poll time.Duration
}

// wait implements Finder.Wait.
func (w *waiter) wait(ctx context.Context, s search) (Disk, error) {
	// Most disks are there. To watch, and to end that, takes the kernel longer than to
	// look; and a look that was woken already doesn't wait for the cloud.
	already := make(chan struct{}, 1)
	wake(already)
	d, err := s.find(ctx, already)
	if err == nil || errors.Is(err, ErrUnsafe) {
		return d, err
	}
	woken, leave := w.arrivals.join()
	defer leave()
	var scans sync.WaitGroup
	defer scans.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	poll := time.NewTicker(cmp.Or(s.poll, pollEvery))
	defer poll.Stop()
	for looks := 0; ; looks++ {
		// Directories may have come since, and what came before the watch
		// would be missed: so watch first, then look.
		w.arrivals.watch(s.dirs)
		d, now := s.find(ctx, woken)
		if now == nil || errors.Is(now, ErrUnsafe) || !errors.Is(now, ErrNotFound) && (ctx.Err() == nil || err == nil) {
			return d, now
		}
		if ctx.Err() == nil || err == nil { // else it was interrupted, and what it says is that
			err = now
		}
		if looks == 0 {
			for _, host := range s.hosts() {
				scans.Go(func() { w.scanNowAndThen(ctx, host, woken) })
			}
		}
		select {
		case <-ctx.Done():
			return Disk{}, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-poll.C:
		case <-woken:
		}
	}
}

// deviceDirs returns the directories of a /dev in which a new disk shows.
func deviceDirs(devDir string) []string {
	return []string{devDir, filepath.Join(devDir, "disk"), filepath.Join(devDir, "disk", "by-id")}
}

// scanNowAndThen scans a SCSI host until ctx ends, and wakes after each scan. A scan
// costs a host an inquiry per possible disk. One that hangs is waited for by all calls.
func (w *waiter) scanNowAndThen(ctx context.Context, host string, woken chan struct{}) {
	logging.From(ctx).Debug("a host that doesn't announce disks is scanned", zap.String("host", host))
	for pause := scanPause; ; pause *= 2 {
		_, err := w.scans.Do(ctx, host, func() (struct{}, error) {
			return struct{}{}, os.WriteFile(filepath.Join(host, "scan"), []byte("- - -"), 0)
		})
		if err != nil && ctx.Err() == nil {
			logging.From(ctx).Warn("a SCSI host could not be scanned", zap.String("host", host), zap.Error(err))
		}
		wake(woken)
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
