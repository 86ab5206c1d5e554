package prestop

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// mounted returns the driver's volumes that are mounted on this node, as directories of
// the kubelet: for a filesystem where it is staged, for a block device where it is
// published, of which the kubelet keeps the driver's name in a file.
func mounted(kubeletDir, driver string) (volumes []string, err error) {
	root := filepath.Join(kubeletDir, "plugins", "kubernetes.io", "csi")
	staged := filepath.Join(root, driver) + "/"
	blocks := filepath.Join(root, "volumeDevices") + "/"
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("the mounts of this node: %w", err)
	}
	for _, m := range mounts {
		if rest, ok := strings.CutPrefix(m.Mountpoint, staged); ok {
			volumes = append(volumes, filepath.Dir(rest))
		}
		if rest, ok := strings.CutPrefix(m.Mountpoint, blocks); ok {
			// publish/VOLUME/POD
			if parts := strings.Split(rest, "/"); len(parts) > 1 && driverOf(filepath.Join(blocks, parts[1])) == driver {
				volumes = append(volumes, parts[1])
			}
		}
	}
	slices.Sort(volumes)
	return slices.Compact(volumes), nil
}

// driverOf returns the driver of a block volume, as the kubelet has noted it.
func driverOf(dir string) string {
	var noted struct {
		DriverName string `json:"driverName"`
	}
	if text, err := os.ReadFile(filepath.Join(dir, "data", "vol_data.json")); err != nil || json.Unmarshal(text, &noted) != nil {
		return ""
	}
	return noted.DriverName
}
