package inside

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/guest/wire"
)

// TestAFirstPublicationIsOneUntilTheDiskIsWrittenTo: the kubelet stages a volume anew by
// the publication that was its first, after a workload has used it and all of the
// filesystem but a part was lost that the quick proof doesn't read.
func TestAFirstPublicationIsOneUntilTheDiskIsWrittenTo(t *testing.T) {
	const hidden = 33*mib + 12345
	for name, v := range map[string]*volume{
		"plain":     newVolume(t, wire.VirtioBlk, 64*mib, filesystemOf("ext4")),
		"SCSI":      newVolume(t, wire.VirtioSCSI, 64*mib, filesystemOf("ext4")),
		"encrypted": newVolume(t, wire.VirtioBlk, 64*mib, filesystemOf("ext4")).encrypted(t),
	} {
		t.Run(name, func(t *testing.T) {
			v.first = true
			disk := v.attach(t)
			v.use(t)
			v.write(t)
			v.release(t)
			f, err := os.OpenFile(disk.Path, os.O_WRONLY, 0)
			must(t, err)
			_, err = f.WriteAt(make([]byte, 64*mib), 0)
			must(t, err)
			_, err = f.WriteAt([]byte("precious"), hidden)
			must(t, errors.Join(err, f.Sync(), f.Close()))
			v.wantUntouched(t, func() {
				wantCode(t, v.stage(patient(t)), codes.FailedPrecondition, "left as it is")
			})
		})
	}
}

// TestAnEncryptedVolumeIsProvenBlankOnce: what was proven before its header was made
// isn't read again behind it.
func TestAnEncryptedVolumeIsProvenBlankOnce(t *testing.T) {
	v := newVolume(t, wire.VirtioBlk, 256*mib, filesystemOf("ext4")).encrypted(t)
	disk := v.attach(t)
	before := readOf(t, disk.Name)
	v.use(t)
	if read := readOf(t, disk.Name) - before; read < 256*mib || read > 256*mib+128*mib {
		t.Errorf("%d MiB were read, want all of the disk once", read/mib)
	}
	v.release(t)
}

// readOf returns how many bytes the kernel has read from a disk.
func readOf(t testing.TB, disk string) int64 {
	t.Helper()
	stat, err := os.ReadFile("/sys/block/" + disk + "/stat")
	must(t, err)
	sectors, err := strconv.ParseInt(strings.Fields(string(stat))[2], 10, 64)
	must(t, err)
	return sectors * 512
}
