package node_test

import (
	"os"
	"testing"
)

const large = 10 << 30

// BenchmarkStageBlank compares the stage of a blank volume with what a person
// would type for it.
func BenchmarkStageBlank(b *testing.B) {
	for _, fsType := range []string{"ext4", "xfs"} {
		b.Run(fsType+"/driver", func(b *testing.B) {
			r := newRig(b)
			for b.Loop() {
				b.StopTimer()
				v := r.attach(large, filesystemOf(fsType))
				b.StartTimer()
				must(b, r.stage(v))
				b.StopTimer()
				must(b, r.unstage(v))
				r.discard(v)
				b.StartTimer()
			}
		})
		b.Run(fsType+"/by hand", func(b *testing.B) {
			r := newRig(b)
			for b.Loop() {
				b.StopTimer()
				v := r.attach(large, filesystemOf(fsType))
				device := r.device(v)
				must(b, os.MkdirAll(v.staging, 0o750))
				b.StartTimer()
				run(b, "mkfs."+fsType, "-q", device)
				run(b, "mount", device, v.staging)
				b.StopTimer()
				run(b, "umount", v.staging)
				r.discard(v)
				b.StartTimer()
			}
		})
	}
}

// BenchmarkStageFormatted is the stage of a volume that has been used before.
func BenchmarkStageFormatted(b *testing.B) {
	for _, fsType := range []string{"ext4", "xfs", "btrfs"} {
		r := newRig(b)
		v := r.attach(large, filesystemOf(fsType))
		must(b, r.stage(v))
		must(b, r.unstage(v))
		b.Run(fsType+"/driver", func(b *testing.B) {
			for b.Loop() {
				must(b, r.stage(v))
				b.StopTimer()
				run(b, "umount", v.staging)
				b.StartTimer()
			}
		})
		b.Run(fsType+"/by hand", func(b *testing.B) {
			device := r.device(v)
			for b.Loop() {
				run(b, "mount", device, v.staging)
				b.StopTimer()
				run(b, "umount", v.staging)
				b.StartTimer()
			}
		})
	}
}

// BenchmarkPublish is a publication beside a plain bind mount.
func BenchmarkPublish(b *testing.B) {
	r := newRig(b)
	v := r.attach(large, filesystemOf("ext4"))
	must(b, r.stage(v))
	b.Run("driver", func(b *testing.B) {
		for b.Loop() {
			must(b, r.publish(v))
			b.StopTimer()
			run(b, "umount", v.target)
			b.StartTimer()
		}
	})
	must(b, os.MkdirAll(v.target, 0o750))
	b.Run("by hand", func(b *testing.B) {
		for b.Loop() {
			run(b, "mount", "--bind", v.staging, v.target)
			b.StopTimer()
			run(b, "umount", v.target)
			b.StartTimer()
		}
	})
}

// BenchmarkExpand grows an xfs by 1 GiB, a long way from the end of its disk.
func BenchmarkExpand(b *testing.B) {
	r := newRig(b)
	v := r.attach(large, filesystemOf("xfs"))
	must(b, r.stage(v))
	must(b, r.publish(v))
	size := int64(large)
	b.Run("driver", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			size += 1 << 30
			r.grow(v, size)
			b.StartTimer()
			_, err := r.expand(v, size)
			must(b, err)
		}
	})
	b.Run("by hand", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			size += 1 << 30
			r.grow(v, size)
			b.StartTimer()
			run(b, "xfs_growfs", v.target)
		}
	})
}

// discard detaches and deletes a volume.
func (r *rig) discard(v volume) {
	r.t.Helper()
	must(r.t, r.store.Detach(r.name, v.id))
	must(r.t, r.store.DeleteVolume(v.id))
}
