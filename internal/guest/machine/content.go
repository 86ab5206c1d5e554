package machine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/guest/agent"
	"github.com/cinder-csi/cinder-csi/internal/guest/image"
	"github.com/cinder-csi/cinder-csi/internal/guest/wire"
)

const (
	sector = 512
	mib    = 1 << 20
	// bootSize is the size of the boot disk, and bootStart where its only
	// partition begins.
	bootSize  = 32 * mib
	bootStart = 1 * mib
)

// bootDisk makes a disk with a partition that holds a filesystem.
func bootDisk(ctx context.Context) (*os.File, error) {
	f, err := image.Unnamed()
	if err != nil {
		return nil, err
	}
	err = f.Truncate(bootSize)
	if err == nil {
		_, err = f.WriteAt(partitionTable(), 0)
	}
	if err == nil {
		err = execute(ctx, "mkfs.ext4", "-q", "-L", agent.BootDisk, "-E", fmt.Sprintf("offset=%d", bootStart),
			image.PathOf(f), fmt.Sprintf("%dk", (bootSize-bootStart)/1024))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// partitionTable returns a master boot record with one Linux partition.
func partitionTable() []byte {
	table := make([]byte, sector)
	entry := table[446:]
	copy(entry, []byte{0, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff})
	binary.LittleEndian.PutUint32(entry[8:], bootStart/sector)
	binary.LittleEndian.PutUint32(entry[12:], (bootSize-bootStart)/sector)
	copy(table[510:], []byte{0x55, 0xaa})
	return table
}

// newImage makes the backing file of a disk.
func (m *Machine) newImage(ctx context.Context, d wire.Disk) (*os.File, error) {
	f, err := image.Unnamed()
	if err != nil {
		return nil, err
	}
	switch d.Content {
	case wire.Blank:
		err = f.Truncate(d.Size)
	case wire.ConfigDrive:
		err = writeConfigDrive(ctx, f, m.cfg.Server)
	case wire.Impostor:
		err = writeConfigDrive(ctx, f, m.cfg.OtherServer)
	default:
		err = fmt.Errorf("content %q is unknown", d.Content)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// writeConfigDrive makes a config drive with the program and the options that
// Nova uses.
func writeConfigDrive(ctx context.Context, f *os.File, metadata []byte) (err error) {
	dir, err := os.MkdirTemp("", "cinder-csi-guest-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	latest := filepath.Join(dir, "openstack", "latest")
	if err := os.MkdirAll(latest, 0o755); err != nil { // #nosec G301 -- as Nova
		return err
	}
	if err := os.WriteFile(filepath.Join(latest, "meta_data.json"), metadata, 0o644); err != nil { // #nosec G306 -- as Nova
		return err
	}
	return execute(ctx, "genisoimage", "-quiet", "-o", image.PathOf(f), "-ldots", "-allow-lowercase", "-allow-multidot", "-l",
		"-publisher", "OpenStack Compute", "-J", "-r", "-V", "config-2", dir)
}

func execute(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}
