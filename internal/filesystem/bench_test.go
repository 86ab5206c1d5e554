package filesystem

import (
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/blockdev/looptest"
)

// BenchmarkFormat measures probing, formatting and mounting a blank volume of
// 10 GiB, beside mkfs and mount by hand.
func BenchmarkFormat(b *testing.B) {
	f := New(Options{})
	for _, fsType := range kinds() {
		b.Run(fsType+"/driver", func(b *testing.B) {
			bench(b, func(d *looptest.Device, target string) {
				if c, err := f.Probe(b.Context(), owned(d)); err != nil || c.Kind != Blank {
					b.Fatal(c, err)
				}
				if err := f.Format(b.Context(), owned(d), Quick, typed(fsType), nil); err != nil {
					b.Fatal(err)
				}
				if err := f.Mount(b.Context(), d.Path, target, typed(fsType), nil); err != nil {
					b.Fatal(err)
				}
			})
		})
		b.Run(fsType+"/by hand", func(b *testing.B) {
			bench(b, func(d *looptest.Device, target string) {
				run(b, "mkfs."+fsType, "-q", d.Path)
				run(b, "mount", "-t", fsType, d.Path, target)
			})
		})
	}
}

// bench times work on a fresh device each time.
func bench(b *testing.B, work func(*looptest.Device, string)) {
	f := New(Options{})
	for b.Loop() {
		b.StopTimer()
		d := looptest.New(b, looptest.Options{Size: 10 * gib})
		target := mountDir(b)
		b.StartTimer()
		work(d, target)
		b.StopTimer()
		if err := f.Unmount(b.Context(), target); err != nil {
			b.Fatal(err)
		}
		d.Close()
		b.StartTimer()
	}
}

// BenchmarkProbe measures what proving a device blank costs.
func BenchmarkProbe(b *testing.B) {
	f := New(Options{})
	for name, size := range map[string]int64{"1 GiB": gib, "10 GiB": 10 * gib, "1 TiB": 1 << 40, "4 TiB": 4 << 40} {
		b.Run(name, func(b *testing.B) {
			d := looptest.New(b, looptest.Options{Size: size})
			for b.Loop() {
				if c, err := f.Probe(b.Context(), owned(d)); err != nil || c.Kind != Blank {
					b.Fatal(c, err)
				}
			}
		})
	}
}

// BenchmarkBind measures a bind mount, its proof and its removal.
func BenchmarkBind(b *testing.B) {
	f := New(Options{})
	source, target := b.TempDir(), mountDir(b)
	for b.Loop() {
		if err := f.Bind(b.Context(), source, target, true, nil); err != nil {
			b.Fatal(err)
		}
		if err := f.Unmount(b.Context(), target); err != nil {
			b.Fatal(err)
		}
	}
}
