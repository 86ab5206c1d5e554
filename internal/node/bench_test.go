package node_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/bench/report"
)

const (
	gib   = 1 << 30
	large = 10 * gib
	// rounds of one row: enough that its median stays where it is on a machine
	// that others work on, few enough for a row to take seconds.
	rounds = 61
)

// BenchmarkNode prints what the node's calls take, by turns with what a person
// would type in their place. What is within its budget is the median.
func BenchmarkNode(b *testing.B) {
	t := &report.Table{Columns: "call\tbudget\tdriver\tby hand\tratio\t"}
	stagingBlank(b, t)
	stagingFormatted(b, t)
	publishing(b, t)
	expanding(b, t)
	t.Remark("NodeExpand in use, ext4\t1.15 × by hand\ttold by make test-guest: a host may not let ext4 grow in use")
	t.Print(b)
}

// stagingBlank is the stage of a blank volume beside mkfs and mount, and beside
// the same with the options that the driver gives to mkfs, which is not judged.
func stagingBlank(b *testing.B, t *report.Table) {
	b.Helper()
	for _, kind := range []struct {
		fsType string
		same   []string
	}{
		{"ext4", []string{"-q", "-m", "0", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=0"}},
		{"xfs", []string{"-q", "-K"}},
	} {
		r := newRig(b)
		fresh := func(work func(v volume, device string)) func() time.Duration {
			return func() time.Duration {
				v := r.attach(large, filesystemOf(kind.fsType))
				v.first = now()
				device := r.device(v)
				must(b, os.MkdirAll(v.staging, 0o750))
				took := report.Timed(func() { work(v, device) })
				must(b, r.unstage(v))
				r.discard(v)
				return took
			}
		}
		byHand := func(options ...string) func() time.Duration {
			return fresh(func(v volume, device string) {
				run(b, "mkfs."+kind.fsType, append(options, device)...)
				run(b, "mount", device, v.staging)
			})
		}
		took := report.ByTurns(rounds, fresh(func(v volume, _ string) { must(b, r.stage(v)) }), byHand("-q"), byHand(kind.same...))
		ratio := timesByHand(took)
		t.Add(ratio <= 1.15, "NodeStage, blank 10 GiB %s\t1.15 × by hand\t%s\t%s, with the driver's options %s\t%.2f",
			kind.fsType, ms(took[0]), ms(took[1]), ms(took[2]), ratio)
	}
}

// stagingFormatted is the stage of a volume that has been used before.
func stagingFormatted(b *testing.B, t *report.Table) {
	b.Helper()
	const most = 50 * time.Millisecond
	for _, fsType := range []string{"ext4", "xfs", "btrfs"} {
		r := newRig(b)
		v := r.attach(large, filesystemOf(fsType))
		must(b, r.stage(v))
		must(b, r.unstage(v))
		must(b, os.MkdirAll(v.staging, 0o750))
		device := r.device(v)
		staged := func(work func()) func() time.Duration {
			return func() time.Duration {
				took := report.Timed(work)
				run(b, "umount", v.staging)
				return took
			}
		}
		took := report.ByTurns(rounds,
			staged(func() { must(b, r.stage(v)) }),
			staged(func() { run(b, "mount", device, v.staging) }))
		t.Add(took[0] <= most, "NodeStage, formatted %s\t%v\t%s\t%s\t%.2f", fsType, most, ms(took[0]), ms(took[1]), timesByHand(took))
	}
}

// publishing is a publication beside a plain bind mount.
func publishing(b *testing.B, t *report.Table) {
	b.Helper()
	const most = 15 * time.Millisecond
	r := newRig(b)
	v := r.attach(large, filesystemOf("ext4"))
	must(b, r.stage(v))
	published := func(work func()) time.Duration {
		took := report.Timed(work)
		run(b, "umount", v.target)
		must(b, os.Remove(v.target))
		return took
	}
	took := report.ByTurns(rounds,
		func() time.Duration { return published(func() { must(b, r.publish(v)) }) },
		func() time.Duration {
			must(b, os.MkdirAll(v.target, 0o750))
			return published(func() { run(b, "mount", "--bind", v.staging, v.target) })
		})
	t.Add(took[0]-took[1] <= most, "NodePublish\t%v over by hand\t%s\t%s\t%.2f", most, ms(took[0]), ms(took[1]), timesByHand(took))
}

// expanding grows an xfs in use by an allocation group at a time, so that every
// turn has the same to do.
func expanding(b *testing.B, t *report.Table) {
	b.Helper()
	r := newRig(b)
	v := r.attach(large, filesystemOf("xfs"))
	must(b, r.stage(v))
	must(b, r.publish(v))
	size := int64(large)
	grown := func(work func()) func() time.Duration {
		return func() time.Duration {
			size += large / 4
			r.grow(v, size)
			return report.Timed(work)
		}
	}
	took := report.ByTurns(rounds,
		grown(func() {
			_, err := r.expand(v, size)
			must(b, err)
		}),
		grown(func() { run(b, "xfs_growfs", v.target) }))
	ratio := timesByHand(took)
	t.Add(ratio <= 1.15, "NodeExpand in use, xfs\t1.15 × by hand\t%s\t%s\t%.2f", ms(took[0]), ms(took[1]), ratio)
}

// timesByHand is how many times as long as by hand the driver has taken.
func timesByHand(took []time.Duration) float64 { return took[0].Seconds() / took[1].Seconds() }

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", 1000*d.Seconds()) }

// discard detaches and deletes a volume.
func (r *rig) discard(v volume) {
	r.t.Helper()
	must(r.t, r.store.Detach(r.name, v.id))
	must(r.t, r.store.DeleteVolume(v.id))
}
