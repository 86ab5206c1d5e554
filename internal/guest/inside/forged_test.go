package inside

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/guest/wire"
	"github.com/cinder-csi/cinder-csi/internal/luks"
)

// Whoever has the disk of an encrypted volume, writes to it whatever he likes.

// TestAForgedHeaderIsNotOpened puts a header on a new disk, and in place of a volume's
// own, whose key slot any passphrase opens and whose key the forger knows.
func TestAForgedHeaderIsNotOpened(t *testing.T) {
	for name, segment := range map[string]string{"null data": "cipher_null-ecb", "null slot": ""} {
		t.Run(name, func(t *testing.T) {
			v := newVolume(t, wire.VirtioBlk, 64*mib, filesystemOf("ext4")).encrypted(t)
			disk := v.attach(t)
			forge(t, disk.Path, segment)
			wantNullOpens(t, disk.Path)
			refused := func() {
				v.wantUntouched(t, func() {
					wantCode(t, v.stage(patient(t)), codes.FailedPrecondition, "cipher_null-ecb", "luksHeaderRestore", v.id)
					v.wantClosed(t)
				})
			}
			refused()
			put(t, disk.Path, make([]byte, header))
			v.use(t)
			content := v.write(t)
			v.release(t)
			own := head(t, disk.Path)
			forge(t, disk.Path, segment)
			refused()
			put(t, disk.Path, own)
			v.use(t)
			v.wantContent(t, content)
			v.release(t)
		})
	}
}

// wantNullOpens proves that cryptsetup by itself takes any passphrase for a forged
// header; newer ones refuse it.
func wantNullOpens(t testing.TB, path string) {
	t.Helper()
	cmd := exec.Command("cryptsetup", "open", "--test-passphrase", "--key-file", "-", "--disable-locks", path)
	cmd.Env = append(os.Environ(), "DM_DISABLE_UDEV=1")
	cmd.Stdin = strings.NewReader("any passphrase")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Logf("cryptsetup refuses the forged header: %v %s", err, out)
	}
}

// TestADiskWhoseHeaderIsSwappedAfterItWasRead shows a forged header to whoever reads
// the disk a second time.
func TestADiskWhoseHeaderIsSwappedAfterItWasRead(t *testing.T) {
	v := newVolume(t, wire.VirtioBlk, 64*mib, rawBlock()).encrypted(t)
	disk := v.attach(t)
	forge(t, disk.Path, "cipher_null-ecb")
	forged := head(t, disk.Path)
	put(t, disk.Path, make([]byte, header))
	v.use(t)
	own, key := head(t, disk.Path), v.tableKey(t)
	v.release(t)

	crypt := luks.NewWithCost(filesystem.New(filesystem.Options{}), cost())
	title := blockdev.MappingTitle(v.id)
	h, err := crypt.Read(patient(t), disk.Path)
	must(t, err)
	put(t, disk.Path, forged)
	must(t, crypt.Open(patient(t), disk.Path, h, title, []byte(passphrase), luks.Options{}))
	if got := v.tableKey(t); got != key {
		t.Errorf("the mapping has the table %s, want %s", got, key)
	}
	must(t, crypt.Verify(patient(t), h, []byte(passphrase)))
	resize(t, v.disk.Image, 96*mib, 0)
	must(t, crypt.Resize(patient(t), disk.Path, h, title))
	if got := v.tableKey(t); got != key {
		t.Errorf("the grown mapping has the table %s, want %s", got, key)
	}
	must(t, crypt.Close(patient(t), title))
	v.wantClosed(t)
	put(t, disk.Path, own)
}

// TestADiskWhoseHeaderChangesAllTheTime is staged while somebody swaps its header for
// a forged one and back.
func TestADiskWhoseHeaderChangesAllTheTime(t *testing.T) {
	v := newVolume(t, wire.VirtioBlk, 64*mib, rawBlock()).encrypted(t)
	disk := v.attach(t)
	forge(t, disk.Path, "cipher_null-ecb")
	forged := head(t, disk.Path)
	put(t, disk.Path, make([]byte, header))
	v.use(t)
	own, key := head(t, disk.Path), v.tableKey(t)
	v.release(t)

	var stop atomic.Bool
	var forger sync.WaitGroup
	forger.Go(func() {
		for !stop.Load() {
			put(t, disk.Path, forged[:512<<10])
			time.Sleep(5 * time.Millisecond)
			put(t, disk.Path, own[:512<<10])
			time.Sleep(50 * time.Millisecond)
		}
	})
	staged, refused := 0, 0
	for until := time.Now().Add(12 * time.Second); time.Now().Before(until) && (staged < 4 || refused < 4); {
		if err := v.stage(patient(t)); err != nil {
			refused++
			continue
		}
		staged++
		if got := v.tableKey(t); got != key {
			t.Errorf("the mapping has the table %s, want %s", got, key)
		}
		must(t, v.unstage(patient(t)))
	}
	stop.Store(true)
	forger.Wait()
	t.Logf("staged %d times, refused %d times", staged, refused)
	put(t, disk.Path, own)
	v.use(t)
	v.release(t)
}

// TestTheHeaderOfADiskThatHangsIsLeftBehind: calls that would read it end with their
// contexts, and the volume works on once its disk answers again.
func TestTheHeaderOfADiskThatHangsIsLeftBehind(t *testing.T) {
	v := newVolume(t, wire.VirtioBlk, 64*mib, rawBlock()).encrypted(t)
	v.disk.CanHang = true
	disk := v.attach(t)
	v.use(t)
	content := v.write(t)
	crypt, node := luks.NewWithCost(filesystem.New(filesystem.Options{}), cost()), server()
	forget := func() { // what the kernel remembers of the disk
		f, err := os.Open(disk.Path)
		must(t, err)
		must(t, errors.Join(unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close()))
	}
	forget()
	hang(t, v.id)
	before := runtime.NumGoroutine()
	for range 5 {
		for name, call := range map[string]func(context.Context) error{
			"Read": func(ctx context.Context) error { _, err := crypt.Read(ctx, disk.Path); return err },
			"NodeStageVolume": func(ctx context.Context) error {
				_, err := node.NodeStageVolume(ctx, v.stageRequest())
				return err
			},
			"NodeExpandVolume": func(ctx context.Context) error {
				_, err := node.NodeExpandVolume(ctx, v.expandRequest(64*mib))
				return err
			},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			began := time.Now()
			err := call(ctx)
			cancel()
			if took := time.Since(began); err == nil || took > 10*time.Second {
				t.Errorf("%s ends after %v with %v", name, took.Round(time.Millisecond), err)
			}
		}
	}
	if left := runtime.NumGoroutine() - before; left > 4 {
		t.Errorf("%d goroutines are left behind", left)
	}
	resume(t, v.id)
	eventually(t, "the header is read again", func() bool {
		_, err := crypt.Read(patient(t), disk.Path)
		return err == nil
	})
	v.use(t)
	v.wantContent(t, content)
	v.release(t)
}

// tableKey returns the cipher and the key of the volume's mapping.
func (v *volume) tableKey(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("dmsetup", "table", "--showkeys", blockdev.MappingTitle(v.id)).CombinedOutput()
	must(t, err)
	fields := strings.Fields(string(out))
	if len(fields) < 5 || fields[2] != "crypt" || fields[3] != "aes-xts-plain64" || len(fields[4]) != hex.EncodedLen(64) {
		t.Fatalf("the table is %s", out)
	}
	return fields[4]
}

// head returns what a disk holds before its data.
func head(t testing.TB, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	head := make([]byte, header)
	_, err = io.ReadFull(f, head)
	must(t, errors.Join(err, f.Close()))
	return head
}

// put writes to the beginning of a disk.
func put(t testing.TB, path string, data []byte) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt(data, 0)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		t.Error(err)
	}
}

// split is LUKS's anti-forensic splitter, which is no encryption.
func split(key []byte, stripes int) []byte {
	diffuse := func(b []byte) []byte {
		var out []byte
		for i := 0; i*32 < len(b); i++ {
			part := b[i*32 : min((i+1)*32, len(b))]
			sum := sha256.Sum256(append(binary.BigEndian.AppendUint32(nil, uint32(i)), part...))
			out = append(out, sum[:len(part)]...)
		}
		return out
	}
	xor := func(a, b []byte) []byte {
		c := make([]byte, len(a))
		for i := range a {
			c[i] = a[i] ^ b[i]
		}
		return c
	}
	buf, out := make([]byte, len(key)), []byte(nil)
	for range stripes - 1 {
		stripe := make([]byte, len(key))
		_, _ = rand.Read(stripe)
		out = append(out, stripe...)
		buf = diffuse(xor(buf, stripe))
	}
	return append(out, xor(buf, key)...)
}

// forge puts a LUKS2 header on a disk, by somebody who has the disk but not the
// passphrase: the key slot is "encrypted" by the null cipher, so that any passphrase
// opens it; and so is the data, if segment says so.
func forge(t testing.TB, path, segment string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "volume.key")
	for _, args := range [][]string{
		{"luksFormat", "--batch-mode", "--type", "luks2", "--cipher", "aes-xts-plain64", "--key-size", "512", "--hash", "sha256",
			"--pbkdf", "argon2id", "--pbkdf-parallel", "1", "--pbkdf-memory", strconv.Itoa(cost().Memory),
			"--pbkdf-force-iterations", strconv.Itoa(cost().Passes), "--key-file", "-", path},
		{"luksDump", "--batch-mode", "--dump-volume-key", "--volume-key-file", file, "--key-file", "-", path},
	} {
		cmd := exec.Command("cryptsetup", append(args, "--disable-locks")...)
		cmd.Env = append(os.Environ(), "DM_DISABLE_UDEV=1")
		cmd.Stdin = strings.NewReader("forger")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("cryptsetup %v: %v %s", args, err, out)
		}
	}
	key, err := os.ReadFile(file)
	must(t, err)
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_SYNC, 0)
	must(t, err)
	defer func() { _ = f.Close() }()
	const copySize, binarySize = 16 << 10, 4 << 10
	for _, at := range []int64{0, copySize} {
		whole := make([]byte, copySize)
		_, err := f.ReadAt(whole, at)
		must(t, err)
		text, _, _ := bytes.Cut(whole[binarySize:], []byte{0})
		if !json.Valid(text) {
			t.Fatalf("no JSON: %s", text)
		}
		const aes = `"encryption":"aes-xts-plain64"`
		crafted := strings.Replace(string(text), aes, `"encryption":"cipher_null-ecb"`, 1)
		if segment != "" {
			crafted = strings.Replace(crafted, aes, `"encryption":"`+segment+`"`, 1)
		}
		clear(whole[binarySize:])
		copy(whole[binarySize:], crafted)
		clear(whole[448:512])
		sum := sha256.Sum256(whole)
		copy(whole[448:], sum[:])
		_, err = f.WriteAt(whole, at)
		must(t, err)
	}
	_, err = f.WriteAt(split(key, 4000), 2*copySize)
	must(t, err)
}
