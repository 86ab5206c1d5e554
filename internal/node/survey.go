package node

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sync/errgroup"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
)

// Place is a path at which a volume of this driver is, or should be by the kubelet's
// records, and what the driver makes of it.
type Place struct {
	Path string `json:"path"`
	// Staging tells that the volume is staged there, rather than published to a pod.
	Staging bool `json:"staging"`
	// Block tells that it is a block device, rather than a filesystem.
	Block bool `json:"block"`
	// VolumeID is empty where nothing tells it.
	VolumeID string `json:"volumeID"`
	// PodUID is that of the pod that has the volume.
	PodUID string `json:"podUID,omitempty"`
	// Recorded tells that the kubelet has written down that the volume is there.
	Recorded bool `json:"recorded"`
	// Mounted tells that something is mounted there; what it is, the fields below say.
	Mounted  bool     `json:"mounted"`
	Device   string   `json:"device,omitempty"`
	Number   string   `json:"number,omitempty"`
	FSType   string   `json:"fsType,omitempty"`
	Options  []string `json:"options,omitempty"`
	ReadOnly bool     `json:"readOnly"`
	// TotalBytes and UsedBytes are what NodeGetVolumeStats answers.
	TotalBytes int64 `json:"totalBytes,omitempty"`
	UsedBytes  int64 `json:"usedBytes,omitempty"`
	// Condition is that of the metric cinder_csi_node_volume_abnormal; empty if normal.
	Condition string `json:"condition,omitempty"`
	// Error is what NodeGetVolumeStats would fail with or, where nothing is mounted, the
	// search for the disk.
	Error string `json:"error,omitempty"`
	// Next is what a NodeStageVolume would do at a staging path, and Refused why it would
	// fail.
	Next    string `json:"next,omitempty"`
	Refused string `json:"refused,omitempty"`
}

const (
	// lookTime is how long a survey looks at one place.
	lookTime = 5 * time.Second
	// atOnce is how many places it looks at side by side. When the storage of all volumes
	// of a node hangs, each takes as long as it may.
	atOnce = 64
)

// Survey looks at all places of volumes below the kubelet's directory, by its records for
// the driver of that name, and by what is mounted. It changes nothing, and waits five
// seconds at most for what hangs.
func (s *Server) Survey(ctx context.Context, kubeletDir, driver string) ([]Place, error) {
	places := recorded(kubeletDir, driver)
	mounted, err := s.unrecorded(ctx, kubeletDir, driver, places)
	places = append(places, mounted...)
	var looks errgroup.Group
	looks.SetLimit(atOnce)
	for i := range places {
		looks.Go(func() error {
			place := places[i]
			seen, ended := bounded(ctx, func(ctx context.Context) Place { return s.look(ctx, place) })
			if !ended {
				seen = place
				seen.Condition, seen.Error = string(hangs), fmt.Sprintf("it didn't answer within %v", lookTime)
			}
			places[i] = seen
			return nil
		})
	}
	_ = looks.Wait() // none fails
	slices.SortFunc(places, func(a, b Place) int { return cmp.Or(cmp.Compare(a.VolumeID, b.VolumeID), cmp.Compare(a.Path, b.Path)) })
	return places, err
}

// bounded returns what work does within lookTime, and before ctx ends; false when it didn't,
// and was left behind.
func bounded[T any](ctx context.Context, work func(context.Context) T) (result T, ended bool) {
	looking, cancel := context.WithTimeout(ctx, lookTime)
	done := make(chan T, 1)
	go func() {
		defer cancel()
		done <- work(looking)
	}()
	select {
	case result = <-done:
		return result, true
	case <-looking.Done():
	}
	const grace = time.Second // to say what it has seen before its time was up
	late := time.NewTimer(grace)
	defer late.Stop()
	select {
	case result = <-done:
		return result, true
	case <-late.C:
		return result, false
	}
}

// recorded returns the places of which the kubelet has a record, a file vol_data.json in
// or beside the directory (pkg/volume/csi of Kubernetes).
func recorded(kubeletDir, driver string) (places []Place) {
	csi := filepath.Join(kubeletDir, "plugins", "kubernetes.io", "csi")
	each := func(pattern string, place func(dir string) []Place) {
		files, err := filepath.Glob(filepath.Join(pattern, "vol_data.json"))
		if err != nil {
			return // the pattern is ours
		}
		for _, file := range files {
			var record struct {
				DriverName   string `json:"driverName"`
				VolumeHandle string `json:"volumeHandle"`
			}
			data, err := os.ReadFile(file)
			if err != nil || json.Unmarshal(data, &record) != nil || record.DriverName != driver {
				continue
			}
			for _, p := range place(filepath.Dir(file)) {
				p.VolumeID, p.Recorded = record.VolumeHandle, true
				places = append(places, p)
			}
		}
	}
	staging := func(dir string) []Place { return []Place{{Path: filepath.Join(dir, "globalmount"), Staging: true}} }
	each(filepath.Join(csi, driver, "*"), staging)
	each(filepath.Join(csi, "pv", "*"), staging) // before Kubernetes 1.24
	each(filepath.Join(kubeletDir, "pods", "*", "volumes", "kubernetes.io~csi", "*"), func(dir string) []Place {
		pod := filepath.Base(filepath.Dir(filepath.Dir(filepath.Dir(dir))))
		return []Place{{Path: filepath.Join(dir, "mount"), PodUID: pod}}
	})
	each(filepath.Join(csi, "volumeDevices", "*", "data"), func(dir string) (published []Place) {
		volume := filepath.Base(filepath.Dir(dir))
		pods, err := os.ReadDir(filepath.Join(csi, "volumeDevices", "publish", volume))
		if err != nil {
			return nil // it isn't published
		}
		for _, pod := range pods {
			published = append(published, Place{
				Path: filepath.Join(csi, "volumeDevices", "publish", volume, pod.Name()), Block: true, PodUID: pod.Name(),
			})
		}
		return published
	})
	return places
}

// unrecorded returns the places where a volume is mounted and of which the kubelet has no
// record.
func (s *Server) unrecorded(ctx context.Context, kubeletDir, driver string, known []Place) (places []Place, err error) {
	add := func(p Place) {
		if !slices.ContainsFunc(slices.Concat(known, places), func(k Place) bool { return k.Path == p.Path }) {
			p.Staging = filepath.Base(p.Path) == "globalmount"
			places = append(places, p)
		}
	}
	disks, err := s.volumeDisks(ctx)
	if err != nil {
		return nil, err
	}
	for _, d := range disks {
		volumeID := d.VolumeID
		if blockdev.CheckVolumeID(volumeID) != nil {
			volumeID = "" // a part of it, which no record completes
		}
		mounts, err := s.cfg.FS.MountsOf(d.Number)
		if err != nil {
			return places, err
		}
		for _, m := range mounts {
			if strings.HasPrefix(m.Target, kubeletDir+"/") && !strings.Contains(m.Target, "/volume-subpaths/") {
				add(Place{Path: m.Target, VolumeID: volumeID})
			}
		}
		nodes, err := deviceMounts(d)
		if err != nil {
			return places, err
		}
		for _, path := range nodes {
			if strings.HasPrefix(path, kubeletDir+"/") && filepath.Base(filepath.Dir(path)) != "dev" { // which the kubelet has bound
				add(Place{Path: path, VolumeID: volumeID, Block: true})
			}
		}
	}
	// What is left of a disk that is gone is found by its place alone.
	infos, err := mountinfo.GetMounts(mountinfo.PrefixFilter(filepath.Join(kubeletDir, "plugins", "kubernetes.io", "csi", driver)))
	if err != nil {
		return places, fmt.Errorf("mount table: %w", err)
	}
	for _, info := range infos {
		add(Place{Path: info.Mountpoint})
	}
	return places, nil
}

// volumeDisks returns the disks of all volumes, and their mappings.
func (s *Server) volumeDisks(ctx context.Context) (disks []blockdev.Disk, err error) {
	listed, err := s.cfg.Finder.Disks(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range listed {
		if l.VolumeID != "" {
			disks = append(disks, l.Disk)
		}
	}
	mappings, err := s.cfg.Finder.Mappings()
	for _, m := range mappings {
		disks = append(disks, m.Disk)
	}
	return disks, err
}

// look looks at one place as the calls of the driver do.
func (s *Server) look(ctx context.Context, p Place) Place {
	at, err := s.inspect(p.Path)
	if err != nil {
		p.Error = err.Error()
		return p
	}
	p.Mounted = at.mounted
	if !at.mounted {
		if _, err := s.cfg.Finder.Find(ctx, p.VolumeID); err != nil && p.VolumeID != "" {
			p.Error = err.Error()
		}
		return p
	}
	p.Number, p.Block = blockdev.FormatNumber(at.number), at.device
	p.Device, p.FSType, p.Options, p.ReadOnly = at.mount.Source, at.mount.FSType, at.mount.Options, readOnly(at.mount)
	if at.device {
		p.Device, p.FSType = at.mount.Root, ""
		p.ReadOnly, _ = isReadOnly(at.number) // of a device that is gone nothing tells
	}
	if p.VolumeID != "" {
		usage, uerr := s.usage(ctx, p.VolumeID, at)
		if err = uerr; err == nil {
			p.TotalBytes, p.UsedBytes = usage[0].GetTotal(), usage[0].GetUsed()
		} else {
			p.Error = err.Error()
		}
	}
	p.Condition = string(conditionOf(at, err))
	if p.Staging && !at.device && p.VolumeID != "" {
		next, err := s.nextAt(ctx, p.VolumeID, at)
		if p.Next = next.String(); err != nil {
			p.Next, p.Refused = "", err.Error()
		}
	}
	return p
}

// nextAt returns what a stage would do that asks for what is mounted at its path.
func (s *Server) nextAt(ctx context.Context, volumeID string, at pathState) (action, error) {
	disk, err := s.findDisk(ctx, volumeID)
	if err != nil {
		return 0, err
	}
	data, encrypted, err := s.dataDisk(disk)
	if err != nil {
		return 0, err
	}
	diskReadOnly, err := isReadOnly(data.Number)
	if err != nil {
		return 0, err
	}
	r := stageRequest{volumeID: volumeID, staging: at.path, encrypted: encrypted}
	r.flags = slices.Concat(at.mount.Options, at.mount.SuperOptions)
	r.readOnly = diskReadOnly
	if r.fsType, err = filesystem.TypeOf(at.mount.FSType); err != nil {
		return 0, err
	}
	st := stageState{disk: disk, at: at}
	if data, err = s.readMapping(&st, r); err != nil {
		return 0, err
	}
	if st.dataState, err = s.readData(ctx, data, at.path); err != nil {
		return 0, err
	}
	return st.next(r)
}
