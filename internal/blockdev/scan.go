package blockdev

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// scanner is a Finder that knows of hosts to be scanned.
type scanner interface{ muteHosts() []string }

// scanOf returns what scans hosts, nil when there are none. A scan costs a host an
// inquiry per possible disk.
func scanOf(ctx context.Context, hosts []string) func(context.Context) {
	if len(hosts) == 0 {
		return nil
	}
	logging.From(ctx).Debug("hosts that don't announce disks are scanned", zap.Strings("hosts", hosts))
	return func(ctx context.Context) {
		for _, host := range hosts {
			if err := scan(host); err != nil {
				logging.From(ctx).Warn("a SCSI host could not be scanned", zap.String("host", host), zap.Error(err))
			}
		}
	}
}

// scan has a SCSI host look for disks at all its places. Whoever scans it at the
// same time does so for this call too.
func scan(host string) error {
	f, err := os.OpenFile(filepath.Join(host, "scan"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return f.Close()
	}
	if err == nil {
		_, err = f.WriteString("- - -")
	}
	return errors.Join(err, f.Close())
}

// muteHosts returns the sysfs directories of SCSI hosts that don't tell the
// kernel when a disk comes. All others are left alone: those of virtio that have
// agreed to tell, those of Hyper-V and VMware's own kind, which tell always, and
// those of ATA, USB and storage networks, where no volume is attached.
func (s System) muteHosts() []string {
	class, err := filepath.Glob(filepath.Join(or(s.SysDir, "/sys"), "class", "scsi_host", "host*"))
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(class, func(host string) bool { return !isMute(host) })
}

func isMute(host string) bool {
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
