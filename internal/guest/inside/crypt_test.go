package inside

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/guest/wire"
	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// canary is what TestThePassphraseIsNowhereToBeSeen looks for.
const canary = "canary-7Q2mX"

// passphrase is every byte of a secret.
const passphrase = canary + "\n with a line end, \x00 and ÿ"

// header is what LUKS2 takes of a disk.
const header = 16 * mib

// encrypted makes a volume one that the node encrypts.
func (v *volume) encrypted(t testing.TB) *volume {
	t.Helper()
	v.context = map[string]string{"cinder.csi.openstack.org/encrypted": "luks2"}
	v.secrets = map[string]string{"encryptionPassphrase": passphrase}
	t.Cleanup(func() {
		v.unmount(t)
		if v.mapping() != "" {
			out, err := exec.Command("cryptsetup", "close", blockdev.MappingTitle(v.id)).CombinedOutput()
			t.Logf("the mapping was left open; closed: %v %s", err, out)
		}
	})
	return v
}

// mapping returns the name of the volume's mapping, empty where there is none.
func (v *volume) mapping() string {
	titles, err := filepath.Glob("/sys/block/dm-*/dm/name")
	if err != nil {
		return ""
	}
	for _, path := range titles {
		title, err := os.ReadFile(path)
		if err == nil && strings.TrimSpace(string(title)) == blockdev.MappingTitle(v.id) {
			return strings.Split(path, "/")[3]
		}
	}
	return ""
}

func (v *volume) wantClosed(t testing.TB) {
	t.Helper()
	if name := v.mapping(); name != "" {
		t.Errorf("%s is left open", name)
	}
}

// holds tells whether a disk holds words anywhere, as the kernel reads it past
// its caches.
func holds(t testing.TB, path, words string) bool {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer func() { _ = f.Close() }()
	must(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
	buf := make([]byte, mib+len(words))
	for at := int64(0); ; at += mib {
		n, err := f.ReadAt(buf, at)
		if bytes.Contains(buf[:n], []byte(words)) {
			return true
		}
		if errors.Is(err, io.EOF) {
			return false
		}
		must(t, err)
	}
}

// Each kind of encrypted volume goes through every call, the online growth
// included.

func TestAnEncryptedExt4LivesItsWholeLife(t *testing.T) {
	v := newVolume(t, wire.VirtioBlk, 64*mib, filesystemOf("ext4")).encrypted(t)
	disk := v.attach(t)
	content := v.liveEncrypted(t, disk)
	if holds(t, disk.Path, content) {
		t.Error("the disk holds what was written, so that it is not encrypted")
	}
	resize(t, v.disk.Image, 192*mib, 0) // while it is away
	v.use(t)
	v.wantContent(t, content)
	v.wantUsage(t, 192*mib-header)
	v.release(t)
	v.wantClosed(t)
}

func TestAnEncryptedExt3LivesItsWholeLife(t *testing.T) {
	v := newVolume(t, wire.VirtioSCSI, 64*mib, filesystemOf("ext3")).encrypted(t)
	v.liveEncrypted(t, v.attach(t))
}

func TestAnEncryptedXFSLivesItsWholeLife(t *testing.T) {
	v := newVolume(t, wire.VirtioBlk, 320*mib, filesystemOf("xfs")).encrypted(t)
	content := v.liveEncrypted(t, v.attach(t))
	resize(t, v.disk.Image, 960*mib, 0)
	v.use(t)
	v.wantContent(t, content)
	v.wantUsage(t, 960*mib-header)
	v.release(t)
}

func TestAnEncryptedBtrfsLivesItsWholeLife(t *testing.T) {
	v := newVolume(t, wire.VirtioBlk, 160*mib, filesystemOf("btrfs")).encrypted(t)
	v.liveEncrypted(t, v.attach(t))
}

func TestAnEncryptedBlockVolumeLivesItsWholeLife(t *testing.T) {
	v := newVolume(t, wire.VirtioBlk, 32*mib, rawBlock()).encrypted(t)
	disk := v.attach(t)
	if content := v.liveEncrypted(t, disk); holds(t, disk.Path, content) {
		t.Error("the disk holds what was written, so that it is not encrypted")
	}
}

// liveEncrypted takes a blank volume through its life, and returns what it holds
// at the end.
func (v *volume) liveEncrypted(t testing.TB, disk blockdev.Disk) (content string) {
	t.Helper()
	size := disk.Size
	for range 2 {
		v.use(t)
	}
	content = v.write(t)
	v.wantOpen(t, disk)
	v.wantUsage(t, size-header)

	resize(t, v.disk.Image, 2*size, 0)
	grown, err := v.expand(patient(t), 2*size)
	must(t, err)
	if grown != 2*size {
		t.Errorf("expanded to %d bytes, want those of the disk, %d", grown, 2*size)
	}
	v.wantUsage(t, 2*size-header)
	v.wantContent(t, content)
	for range 2 {
		v.release(t)
	}
	v.wantClosed(t)
	return content
}

// wantOpen checks that the mapping is what cryptsetup says it is.
func (v *volume) wantOpen(t testing.TB, disk blockdev.Disk) {
	t.Helper()
	m, found, err := (&blockdev.System{}).Mapping(v.id)
	must(t, err)
	if !found {
		t.Fatal("the volume has no mapping")
	}
	if on, err := m.On(disk); err != nil || !on {
		t.Errorf("the mapping %s is not on %s: %v", m.Name, disk.Path, err)
	}
	out, err := exec.Command("cryptsetup", "status", m.Title).CombinedOutput()
	must(t, err)
	for _, word := range []string{"is active", "LUKS2", "aes-xts-plain64", disk.Path} {
		if !strings.Contains(string(out), word) {
			t.Errorf("cryptsetup does not say %q: %s", word, out)
		}
	}
}

// wantUsage asks for the stats of the volume.
func (v *volume) wantUsage(t testing.TB, size int64) {
	t.Helper()
	resp, err := server().NodeGetVolumeStats(patient(t), &csi.NodeGetVolumeStatsRequest{VolumeId: v.id, VolumePath: v.target})
	must(t, err)
	got := resp.GetUsage()[0].GetTotal()
	if v.capability.GetBlock() != nil && got != size || got > size || got < size*7/10 {
		t.Errorf("the volume has %d MiB, want about %d", got/mib, size/mib)
	}
}

// TestAWrongPassphraseChangesNothing has one for a disk that has another.
func TestAWrongPassphraseChangesNothing(t *testing.T) {
	v := newVolume(t, wire.VirtioBlk, 64*mib, filesystemOf("ext4")).encrypted(t)
	v.attach(t)
	v.use(t)
	content := v.write(t)
	v.release(t)
	v.wantUntouched(t, func() {
		for _, wrong := range []string{"wrong", passphrase + "\n", strings.TrimSpace(passphrase[:8])} {
			v.secrets = map[string]string{"encryptionPassphrase": wrong}
			wantCode(t, v.stage(patient(t)), codes.InvalidArgument, "passphrase", v.id)
			v.wantClosed(t)
		}
		v.secrets = nil
		wantCode(t, v.stage(patient(t)), codes.InvalidArgument, "encryptionPassphrase", "node-stage-secret-name")
		v.context = nil // as if it were not encrypted
		wantCode(t, v.stage(patient(t)), codes.FailedPrecondition, "crypto_LUKS", "left as it is")
	})
	v.encrypted(t)
	v.use(t)
	v.wantContent(t, content)
	v.release(t)
}

// TestWhatIsNotBlankIsNotEncrypted has a filesystem where nothing should be,
// inside of the encryption too.
func TestWhatIsNotBlankIsNotEncrypted(t *testing.T) {
	v := newVolume(t, wire.VirtioBlk, 64*mib, filesystemOf("ext4"))
	v.attach(t)
	v.use(t)
	content := v.write(t)
	v.release(t)
	v.encrypted(t)
	v.wantUntouched(t, func() {
		wantCode(t, v.stage(patient(t)), codes.FailedPrecondition, "is to be encrypted, but holds ext4")
		v.wantClosed(t)
	})
	v.context, v.secrets = nil, nil
	v.use(t)
	v.wantContent(t, content)
	v.release(t)

	other := newVolume(t, wire.VirtioBlk, 64*mib, filesystemOf("ext4")).encrypted(t)
	other.attach(t)
	other.use(t)
	other.write(t)
	other.release(t)
	other.capability = filesystemOf("ext3")
	other.wantUntouched(t, func() {
		wantCode(t, other.stage(patient(t)), codes.FailedPrecondition, "holds ext4, but ext3 is asked for")
		other.wantClosed(t)
	})
	// The superblock in the mapping is gone, but not what is beneath.
	other.capability = rawBlock()
	other.use(t)
	f, err := os.OpenFile(other.target, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.Write(make([]byte, 2*mib))
	must(t, errors.Join(err, f.Sync(), f.Close()))
	other.release(t)
	other.capability = filesystemOf("ext4")
	other.wantUntouched(t, func() {
		wantCode(t, other.stage(patient(t)), codes.FailedPrecondition, "no filesystem that the driver supports", "left as it is")
	})
}

// TestACloneOfAnEncryptedVolumeOnOneNode has the same UUID of LUKS, of the
// filesystem, and the same key; it is larger.
func TestACloneOfAnEncryptedVolumeOnOneNode(t *testing.T) {
	v := newVolume(t, wire.VirtioBlk, small, filesystemOf("xfs")).encrypted(t)
	clone := newVolume(t, wire.VirtioBlk, small+64*mib, v.capability).encrypted(t)
	from := v.attach(t)
	v.use(t)
	content := v.write(t)
	v.release(t)
	to := clone.attach(t)
	duplicate(t, from.Path, to.Path)
	if a, b := uuidOf(t, from.Path), uuidOf(t, to.Path); a != b || a == "" {
		t.Fatalf("the headers have the UUIDs %q and %q, so that this test shows nothing", a, b)
	}

	v.use(t)
	clone.use(t)
	v.wantOpen(t, from)
	clone.wantOpen(t, to)
	clone.wantContent(t, content)
	clone.wantUsage(t, small+64*mib-header)
	other := clone.write(t)
	v.wantContent(t, content)
	v.release(t)
	clone.wantContent(t, other)
	clone.release(t)
	v.wantClosed(t)
	clone.wantClosed(t)
}

// uuidOf returns the UUID of LUKS.
func uuidOf(t testing.TB, path string) string {
	t.Helper()
	out, err := exec.Command("cryptsetup", "luksUUID", path).Output()
	must(t, err)
	return strings.TrimSpace(string(out))
}

// duplicate copies a disk as a cloud does, what is zero left out.
func duplicate(t testing.TB, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	must(t, err)
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_WRONLY, 0)
	must(t, err)
	buf := make([]byte, mib)
	for at := int64(0); ; at += mib {
		n, err := in.ReadAt(buf, at)
		if strings.Trim(string(buf[:n]), "\x00") != "" {
			_, err := out.WriteAt(buf[:n], at)
			must(t, err)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
	}
	must(t, errors.Join(out.Sync(), out.Close()))
}

// TestAnEncryptedDiskPulledWhileItIsUsed loses its disk under an open mapping,
// which has to go before the disk can be opened again.
func TestAnEncryptedDiskPulledWhileItIsUsed(t *testing.T) {
	for _, kind := range []string{"ext4", "block"} {
		t.Run(kind, func(t *testing.T) {
			capability := rawBlock()
			if kind != "block" {
				capability = filesystemOf(kind)
			}
			v := newVolume(t, wire.VirtioBlk, 64*mib, capability).encrypted(t)
			v.attach(t)
			v.use(t)
			content := v.write(t)
			v.detach(t)
			v.release(t)
			wantNotMounted(t, v)
			v.wantClosed(t)

			v.attach(t)
			v.use(t)
			v.wantContent(t, content)
			v.detach(t)
			disk := v.attach(t) // and nobody has released it meanwhile
			wantCode(t, v.publish(patient(t)), codes.FailedPrecondition, "not open")
			if kind == "block" {
				wantCode(t, v.stage(patient(t)), codes.Unavailable, "is staged", v.target)
			}
			must(t, v.unpublish(patient(t)))
			v.use(t)
			v.wantOpen(t, disk)
			v.wantContent(t, content)
			v.release(t)
			v.wantClosed(t)
		})
	}
}

// TestAnEncryptedVolumeInUseStaysOpen has what else may use a mapping.
func TestAnEncryptedVolumeInUseStaysOpen(t *testing.T) {
	v := newVolume(t, wire.VirtioBlk, 64*mib, rawBlock()).encrypted(t)
	v.attach(t)
	v.use(t)
	wantCode(t, v.unstage(patient(t)), codes.FailedPrecondition, v.target)
	f, err := os.OpenFile("/dev/"+v.mapping(), os.O_RDONLY|unix.O_EXCL, 0)
	must(t, err)
	must(t, v.unpublish(patient(t)))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	wantCode(t, v.unstage(ctx), codes.FailedPrecondition, "the kernel holds")
	must(t, f.Close())

	// As a plain volume it is refused while it is open.
	volumeContext, secrets := v.context, v.secrets
	v.context, v.secrets = nil, nil
	wantCode(t, v.stage(patient(t)), codes.Unavailable, "is staged", blockdev.MappingTitle(v.id))
	wantCode(t, v.publish(patient(t)), codes.FailedPrecondition, blockdev.MappingTitle(v.id))
	v.context, v.secrets = volumeContext, secrets
	v.release(t)
	v.wantClosed(t)
}

// TestAMappingThatWasNeverFinished is what a cryptsetup leaves that was killed
// together with its container: a name, or a table that has not come to life.
func TestAMappingThatWasNeverFinished(t *testing.T) {
	v := newVolume(t, wire.VirtioBlk, 64*mib, filesystemOf("ext4")).encrypted(t)
	disk := v.attach(t)
	v.use(t)
	content := v.write(t)
	v.release(t)
	title := blockdev.MappingTitle(v.id)
	for _, begin := range [][][]string{
		{{"create", "--notable", title, "--uuid", "CRYPT-LUKS2-00112233445566778899aabbccddeeff-" + title}},
		{{"create", "--notable", title, "--uuid", "CRYPT-LUKS2-00112233445566778899aabbccddeeff-" + title},
			{"load", title, "--table", "0 8192 linear " + disk.Path + " 32768"}},
	} {
		unfinished := func() {
			for _, words := range begin {
				run(t, "dmsetup", words...)
			}
		}
		unfinished()
		v.use(t)
		v.wantOpen(t, disk)
		v.wantContent(t, content)
		v.release(t)
		v.wantClosed(t)
		unfinished()
		v.release(t)
		v.wantClosed(t)
		v.use(t)
		v.release(t)
	}

	// What something else has made under the name is left alone.
	run(t, "dmsetup", "create", "--notable", title, "--uuid", "LVM-x")
	wantCode(t, v.stage(patient(t)), codes.Aborted, "already exists")
	run(t, "dmsetup", "remove", title)
}

// TestAReadOnlyEncryptedDisk is opened without being written to.
func TestAReadOnlyEncryptedDisk(t *testing.T) {
	v := newVolume(t, wire.VirtioBlk, 64*mib, readOnly("ext4")).encrypted(t)
	v.attach(t)
	v.wantUntouched(t, func() {
		wantCode(t, v.stage(patient(t)), codes.FailedPrecondition, "blank", "not encrypted")
	})
	v.capability = filesystemOf("ext4")
	v.use(t)
	content := v.write(t)
	v.release(t)
	v.detach(t)
	v.disk.ReadOnly = true
	v.attach(t)
	v.capability = readOnly("ext4")
	v.wantUntouched(t, func() {
		v.use(t)
		v.wantContent(t, content)
		v.release(t)
	})
	v.wantClosed(t)
}

// TestAnEncryptedVolumeThatIsOpenStaysAsItIs stages it again by another passphrase and
// with the other read-only flag, while a workload has it.
func TestAnEncryptedVolumeThatIsOpenStaysAsItIs(t *testing.T) {
	for name, capability := range map[string]*csi.VolumeCapability{"ext4": filesystemOf("ext4"), "block": rawBlock()} {
		t.Run(name, func(t *testing.T) {
			v := newVolume(t, wire.VirtioBlk, 64*mib, capability).encrypted(t)
			disk := v.attach(t)
			v.use(t)
			content := v.write(t)

			v.secrets = map[string]string{"encryptionPassphrase": "another"}
			wantCode(t, v.stage(patient(t)), codes.AlreadyExists, "passphrase", v.id)
			v.encrypted(t)
			v.capability = readersOf(capability)
			wantCode(t, v.stage(patient(t)), codes.AlreadyExists, "read-only", v.id)
			v.capability = capability
			wantReadOnly(t, v, false)
			v.wantOpen(t, disk)
			v.use(t)
			v.wantContent(t, content)
			v.write(t)
			v.release(t)

			v.capability = readersOf(capability)
			v.use(t)
			wantReadOnly(t, v, true)
			v.capability = capability
			wantCode(t, v.stage(patient(t)), codes.AlreadyExists, "read-only", v.id)
			wantReadOnly(t, v, true)
			v.capability = readersOf(capability)
			v.release(t)
			v.wantClosed(t)
			v.capability = capability
			v.use(t)
			v.write(t)
			v.release(t)
		})
	}
}

// readersOf returns the capability of those who only read.
func readersOf(c *csi.VolumeCapability) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY},
		AccessType: c.GetAccessType(),
	}
}

func wantReadOnly(t testing.TB, v *volume, want bool) {
	t.Helper()
	m, found, err := (&blockdev.System{}).Mapping(v.id)
	if err != nil || !found {
		t.Fatalf("the mapping is there: %t, %v", found, err)
	}
	flag, err := os.ReadFile("/sys/block/" + m.Name + "/ro")
	if readOnly := string(flag) == "1\n"; err != nil || readOnly != want {
		t.Errorf("the mapping is read-only: %t, want %t; %v", readOnly, want, err)
	}
}

// TestThePassphraseIsNowhereToBeSeen looks for it in every process, every
// environment and the log while a volume lives its life, and on the disk.
func TestThePassphraseIsNowhereToBeSeen(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	ctx := logging.Into(patient(t), zap.New(core))
	v := newVolume(t, wire.VirtioBlk, 64*mib, filesystemOf("ext4")).encrypted(t)
	disk := v.attach(t)
	looked := make(chan int)
	stop := make(chan struct{})
	go func() {
		count := 0
		for {
			select {
			case <-stop:
				looked <- count
				return
			default:
			}
			count += lookForCanary(t)
			time.Sleep(10 * time.Millisecond)
		}
	}()
	must(t, v.stage(ctx))
	must(t, v.publish(ctx))
	must(t, v.unpublish(ctx))
	must(t, v.unstage(ctx))
	v.secrets["encryptionPassphrase"] += "wrong"
	if err := v.stage(ctx); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("a wrong passphrase ends in %v", err)
	}
	close(stop)
	if count := <-looked; count == 0 {
		t.Error("cryptsetup was never seen to run, so that this test shows nothing")
	}
	for _, entry := range logs.All() {
		line, err := zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "m"}).EncodeEntry(entry.Entry, entry.Context)
		must(t, err)
		if strings.Contains(line.String(), canary) {
			t.Errorf("the log says %s", line)
		}
	}
	if logs.Len() == 0 {
		t.Error("nothing was logged, so that this test shows less")
	}
	if holds(t, disk.Path, canary) {
		t.Error("the passphrase is on the disk")
	}
}

// lookForCanary looks at all processes, and returns how many cryptsetup there are.
func lookForCanary(t testing.TB) (count int) {
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Error(err)
	}
	for _, process := range processes {
		for _, name := range []string{"cmdline", "environ"} {
			data, err := os.ReadFile(filepath.Join(process, name))
			if err != nil {
				continue // it has ended
			}
			if strings.Contains(string(data), canary) {
				t.Errorf("%s of %s tells it", name, process)
			}
			if name == "cmdline" && strings.HasPrefix(string(data), "cryptsetup\x00") {
				count++
			}
		}
	}
	return count
}
