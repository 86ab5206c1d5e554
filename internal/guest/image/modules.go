package image

import (
	"context"
	"path/filepath"
	"strings"
)

// modules are the kernel modules that the guest may need; what they depend on
// comes with them, and what the kernel has built in is left out.
func modules() []string {
	return []string{
		"virtio_pci", "virtio_console", "virtio_net", "virtio_blk", "virtio_scsi", "sd_mod", "sr_mod", "ata_piix", "nvme",
		"xfs", "btrfs", "isofs", "vfat", "nls_cp437", "nls_ascii", "nls_utf8", "dm-mod", "dm-crypt", "dm-delay", "loop", "xts", "aesni_intel", "crypto_null", "algif_skcipher",
	}
}

// addModules adds the modules and the indexes by which they are found.
func addModules(ctx context.Context, a *archive, k kernel) error {
	args := append([]string{"-d", k.dir, "-S", k.release, "--show-depends", "-a"}, modules()...)
	lines, err := output(ctx, "modprobe", args...)
	if err != nil {
		return err
	}
	for line := range strings.Lines(lines) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "insmod" {
			continue
		}
		if err := a.copy(fields[1], "/usr"+strings.TrimPrefix(fields[1], k.dir)); err != nil {
			return err
		}
	}
	indexes, err := filepath.Glob(filepath.Join(k.dir, "lib", "modules", k.release, "modules.*"))
	if err != nil {
		return err
	}
	for _, path := range indexes {
		if err := a.copy(path, "/usr"+strings.TrimPrefix(path, k.dir)); err != nil {
			return err
		}
	}
	return nil
}
