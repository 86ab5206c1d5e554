package node_test

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"
)

const large = 10 << 30

// BenchmarkStageBlank compares the stage of a blank volume with what a person
// would type for it, and with the same options that the driver gives to mkfs. A
// machine that others work on is faster at one time and slower at another, so
// the ways take turns; the medians are told in milliseconds.
func BenchmarkStageBlank(b *testing.B) {
	for _, size := range []int64{large, 10 * large} {
		for fsType, same := range map[string][]string{
			"ext4": {"-q", "-m", "0", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=0"},
			"xfs":  {"-q", "-K"},
		} {
			byHand := func(options ...string) func(*rig, volume, string) {
				return func(_ *rig, v volume, device string) {
					run(b, "mkfs."+fsType, append(options, device)...)
					run(b, "mount", device, v.staging)
				}
			}
			b.Run(fmt.Sprintf("%s/%d GiB", fsType, size>>30), func(b *testing.B) {
				took := benchStages(b, size, fsType,
					func(r *rig, v volume, _ string) { must(b, r.stage(v)) }, byHand("-q"), byHand(same...))
				for i, name := range []string{"driver-ms", "hand-ms", "same-options-ms"} {
					b.ReportMetric(1000*took[i].Seconds(), name)
				}
				b.ReportMetric(took[0].Seconds()/took[1].Seconds(), "driver/hand")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// benchStages returns how long each way takes to stage a fresh volume, the
// median of all turns.
func benchStages(b *testing.B, size int64, fsType string, ways ...func(r *rig, v volume, device string)) []time.Duration {
	r := newRig(b)
	turns := make([][]time.Duration, len(ways))
	for b.Loop() {
		for i, way := range ways {
			v := r.attach(size, filesystemOf(fsType))
			device := r.device(v)
			must(b, os.MkdirAll(v.staging, 0o750))
			start := time.Now()
			way(r, v, device)
			turns[i] = append(turns[i], time.Since(start))
			must(b, r.unstage(v))
			r.discard(v)
		}
	}
	medians := make([]time.Duration, len(ways))
	for i, took := range turns {
		slices.Sort(took)
		medians[i] = took[len(took)/2]
	}
	return medians
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
