package inside

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/bench/report"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/guest/wire"
)

// TestExt4GrowthBesideResize2fs tells what growth costs, by turns with what it
// costs by hand: the machine that the other benchmarks run on may not be allowed
// to grow ext4 in use. What it tells is not judged here, since the processor may
// be emulated.
func TestExt4GrowthBesideResize2fs(t *testing.T) {
	const step, rounds = 64 * mib, 9
	v := newVolume(t, wire.VirtioBlk, step, filesystemOf("ext4"))
	disk := v.attach(t)
	v.use(t)
	size := int64(step)
	grow := func(do func()) time.Duration {
		size += step
		resize(t, v.disk.Image, size, 0)
		waitForSize(t, filepath.Base(disk.Path), size)
		run(t, "udevadm", "settle") // it looks at the disk too
		start := time.Now()
		do()
		took := time.Since(start)
		v.wantSize(t, size)
		return took
	}
	plugin := server() // it starts once, not with each call
	var driver, hand []time.Duration
	for range rounds {
		driver = append(driver, grow(func() {
			_, err := plugin.NodeExpandVolume(patient(t), v.expandRequest(size))
			must(t, err)
		}))
		hand = append(hand, grow(func() { run(t, "resize2fs", disk.Path) }))
	}
	v.release(t)
	d, h := report.Median(driver), report.Median(hand)
	t.Logf("NodeExpandVolume %.1f ms, resize2fs by hand %.1f ms: %.2f times", ms(d), ms(h), ms(d)/ms(h))
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// waitForSize waits until the kernel knows how large a disk is now.
func waitForSize(t testing.TB, disk string, size int64) {
	t.Helper()
	for ctx := patient(t); ; time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile("/sys/block/" + disk + "/size")
		must(t, err)
		if sectors, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && sectors*512 == size {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%s has %s sectors, not %d bytes", disk, text, size)
		}
	}
}

// TestTheLatencyOfADiskCountsFewTimes: a hundred places of a blank disk are read,
// and a network disk may take milliseconds for each. They are asked for at once, so
// that all of them take about as long as a few.
func TestTheLatencyOfADiskCountsFewTimes(t *testing.T) {
	const latency, most = 100, 5000 // ms; one after the other they would take 10 s
	v := newVolume(t, wire.VirtioBlk, 10<<30, rawBlock())
	disk := v.attach(t)
	const title = "far-away"
	run(t, "dmsetup", "create", title, "--table", fmt.Sprintf("0 %d delay %s 0 %d", disk.Size/512, disk.Path, latency))
	t.Cleanup(func() { run(t, "dmsetup", "remove", title) })
	start := time.Now()
	content, err := filesystem.New(filesystem.Options{}).Probe(patient(t), filesystem.Device{Path: "/dev/mapper/" + title})
	took := ms(time.Since(start))
	if err != nil || content.Kind != filesystem.Blank {
		t.Errorf("%+v, %v", content, err)
	}
	if took < latency || took > most {
		t.Errorf("it took %.0f ms, of a disk that takes %d ms for each request", took, latency)
	}
	t.Logf("%.0f ms, of a disk that takes %d ms for each request", took, latency)
}
