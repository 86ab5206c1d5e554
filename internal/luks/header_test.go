package luks

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/blockdev/looptest"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
)

// image is what a disk holds before its data.
type image []byte

// imageOf reads the header of a disk that Format was run on.
func imageOf(t testing.TB, dev *looptest.Device) image {
	t.Helper()
	f, err := os.Open(dev.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	head := make(image, headerSize)
	if _, err := io.ReadFull(f, head); err != nil {
		t.Fatal(err)
	}
	return head
}

func (m image) json() string {
	text, _, _ := bytes.Cut(m[binarySize:copySize], []byte{0})
	return string(text)
}

// with returns the image with other metadata, whose checksums are right.
func (m image) with(t testing.TB, text string) image {
	t.Helper()
	if text == m.json() || len(text) > copySize-binarySize {
		t.Fatalf("%d bytes of JSON, which are no change or too many", len(text))
	}
	other := bytes.Clone(m)
	for at := 0; at < 2*copySize; at += copySize {
		clear(other[at+binarySize : at+copySize])
		copy(other[at+binarySize:], text)
	}
	return image(other).summed(0).summed(copySize)
}

// instead returns the image with part of its metadata replaced.
func (m image) instead(t testing.TB, old, replacement string) image {
	t.Helper()
	if !strings.Contains(m.json(), old) {
		t.Fatalf("%s is not in %s", old, m.json())
	}
	return m.with(t, strings.Replace(m.json(), old, replacement, 1))
}

// at returns the image with other bytes in both copies' binary part, whose checksums
// are right.
func (m image) at(place int, data string) image {
	other := image(bytes.Clone(m))
	copy(other[place:], data)
	copy(other[copySize+place:], data)
	return other.summed(0).summed(copySize)
}

// raw returns the image with other bytes at one place, and no new checksum.
func (m image) raw(place int, data string) image {
	other := image(bytes.Clone(m))
	copy(other[place:], data)
	return other
}

// summed puts the right checksum on one copy.
func (m image) summed(at int) image {
	clear(m[at+checksumAt : at+checksumAt+64])
	sum := sha256.Sum256(m[at : at+copySize])
	copy(m[at+checksumAt:], sum[:])
	return m
}

// TestOnlyAHeaderOfItsOwnMakingIsRead crafts headers that cryptsetup understands
// and that Format can't have written. Whoever has the disk could have.
func TestOnlyAHeaderOfItsOwnMakingIsRead(t *testing.T) {
	dev := formatted(t)
	good := imageOf(t, dev)
	first, _, _ := strings.Cut(good.json(), `,"tokens"`)
	slot := strings.TrimSuffix(strings.TrimPrefix(first, `{"keyslots":{`), "}")
	const aes = `"encryption":"aes-xts-plain64"`
	for name, tt := range map[string]struct {
		crafted image
		said    string
	}{
		"zeros":                              {make(image, headerSize), "there is no LUKS header"},
		"LUKS1":                              {good.at(6, "\x00\x01"), "it is LUKS1"},
		"a disk that ends":                   {good[:100<<10], "the disk ends"},
		"metadata of another size":           {good.at(14, "\x80\x00"), "copy 1 of its metadata: byte 14 "},
		"another checksum":                   {good.at(algorithmAt, "sha512"), "copy 1"},
		"a label":                            {good.at(24, "label"), "copy 1 of its metadata: byte 24 "},
		"a subsystem":                        {good.at(208, "other"), "copy 1 of its metadata: byte 208 "},
		"another place":                      {good.at(placeAt+6, "\x80\x00"), "copy 1"},
		"no UUID":                            {good.at(uuidAt, strings.Repeat("\x00", 40)), "UUID"},
		"something behind the UUID":          {good.at(uuidAt+38, "x"), "copy 1"},
		"something in the padding":           {good.at(1000, "x"), "copy 1 of its metadata: byte 1000 "},
		"something behind the JSON":          {good.at(copySize-1, "x"), "copy 1 of its metadata: byte 16383 "},
		"a first copy that is damaged":       {good.raw(checksumAt, "damaged"), "copy 1 of its metadata: its checksum is wrong"},
		"a second copy that is damaged":      {good.raw(copySize+checksumAt, "damaged"), "copy 2 of its metadata: its checksum is wrong"},
		"no second copy":                     {good.raw(copySize, strings.Repeat("\x00", copySize)), "copy 2"},
		"a second copy that is newer":        {good.raw(copySize+sequenceAt+7, "\x7f").summed(copySize), "copy 2 of its metadata: byte 23 "},
		"a second copy of another UUID":      {good.raw(copySize+uuidAt, "0000000").summed(copySize), "copy 2"},
		"a second copy with another cipher":  {image(append(bytes.Clone(good[:copySize]), good.instead(t, aes, `"encryption":"cipher_null-ecb"`)[copySize:]...)), "copy 2"},
		"a null cipher in the key slot":      {good.instead(t, aes, `"encryption":"cipher_null-ecb"`), "cipher_null-ecb"},
		"a null cipher of the data":          {good.with(t, cutLast(good.json(), aes, `"encryption":"cipher_null-ecb"`)), "cipher_null-ecb"},
		"a null cipher everywhere":           {good.with(t, strings.ReplaceAll(good.json(), aes, `"encryption":"cipher_null-ecb"`)), "cipher_null-ecb"},
		"another cipher of the data":         {good.with(t, cutLast(good.json(), aes, `"encryption":"aes-cbc-plain"`)), "aes-cbc-plain"},
		"a cipher that authenticates":        {good.instead(t, `"sector_size":512`, `"sector_size":512,"integrity":{"type":"hmac(sha256)","journal_encryption":"none","journal_integrity":"none"}`), "integrity"},
		"half of a key":                      {good.instead(t, `"key_size":64`, `"key_size":32`), "key_size"},
		"half of a key in the slot":          {good.with(t, cutLast(good.json(), `"key_size":64`, `"key_size":32`)), "key_size"},
		"no key slot":                        {good.instead(t, slot, ""), "keyslots"},
		"a second key slot":                  {good.instead(t, slot, slot+","+strings.Replace(slot, `"0"`, `"1"`, 1)), `"1":{`},
		"a key slot twice":                   {good.instead(t, slot, slot+","+slot), `"0":{`},
		"key slots twice":                    {good.instead(t, `{"keyslots"`, `{"keyslots":{},"keyslots"`), "keyslots"},
		"key slots in other letters":         {good.instead(t, `{"keyslots"`, `{"Keyslots":{},"keyslots"`), "Keyslots"},
		"a key slot of another number":       {good.instead(t, `"0":{"type":"luks2"`, `"1":{"type":"luks2"`), `"1":{`},
		"a slot that is for encrypting anew": {good.instead(t, `"type":"luks2"`, `"type":"reencrypt"`), "reencrypt"},
		"a slot that is preferred":           {good.instead(t, `"key_size":64,"af"`, `"key_size":64,"priority":2,"af"`), "priority"},
		"a token":                            {good.instead(t, `"tokens":{}`, `"tokens":{"0":{"type":"luks2-keyring","keyslots":["0"],"key_description":"x"}}`), "luks2-keyring"},
		"two segments":                       {good.instead(t, `"segments":{`, `"segments":{"1":{"type":"linear","offset":"16777216","size":"4096"},`), "linear"},
		"no segment":                         {good.instead(t, `"segments":{"0"`, `"segments":{},"x":{"0"`), "segments"},
		"a linear segment":                   {good.instead(t, `"type":"crypt"`, `"type":"linear"`), "linear"},
		"an OPAL segment":                    {good.instead(t, `"type":"crypt"`, `"type":"hw-opal-crypt"`), "hw-opal-crypt"},
		"data of a fixed size":               {good.instead(t, `"dynamic"`, `"4096"`), "dynamic"},
		"data at the start":                  {good.instead(t, `"16777216"`, `"0"`), "begins at byte"},
		"data over the key slot":             {good.instead(t, `"16777216"`, `"32768"`), "begins at byte"},
		"data far away":                      {good.instead(t, `"16777216"`, `"1099511627776"`), "begins at byte"},
		"data at an odd byte":                {good.instead(t, `"16777216"`, `"16777217"`), "begins at byte"},
		"data before the disk":               {good.instead(t, `"16777216"`, `"-16777216"`), "-16777216"},
		"an offset in other digits":          {good.instead(t, `"16777216"`, `"+16777216"`), "begins at byte"},
		"an offset with zeros":               {good.instead(t, `"16777216"`, `"0016777216"`), "begins at byte"},
		"odd sectors":                        {good.instead(t, `"sector_size":512`, `"sector_size":1000`), "sectors"},
		"large sectors":                      {good.instead(t, `"sector_size":512`, `"sector_size":65536`), "sectors"},
		"sectors of another type":            {good.instead(t, `"sector_size":512`, `"sector_size":"4096"`), `"sector_size":"4096"`},
		"another tweak":                      {good.instead(t, `"iv_tweak":"0"`, `"iv_tweak":"1"`), "iv_tweak"},
		"flags of the segment":               {good.instead(t, `"sector_size":512`, `"sector_size":512,"flags":["backup-final"]`), "flags"},
		"a slot over the metadata":           {good.instead(t, `"offset":"32768"`, `"offset":"0"`), "key slot is at byte"},
		"a slot over the data":               {good.instead(t, `"offset":"32768"`, `"offset":"16777216"`), "key slot is at byte"},
		"a slot that reaches into the data":  {good.instead(t, `"offset":"32768"`, `"offset":"16646144"`), "key slot is at byte"},
		"a slot of another size":             {good.instead(t, `"size":"258048"`, `"size":"4096"`), "258048"},
		"another kind of area":               {good.instead(t, `"type":"raw"`, `"type":"journal"`), "journal"},
		"other stripes":                      {good.instead(t, `"stripes":4000`, `"stripes":1`), "stripes"},
		"another hash of the stripes":        {good.instead(t, `"hash":"sha256"}`, `"hash":"sha1"}`), "sha1"},
		"PBKDF2":                             {good.instead(t, `"type":"argon2id","time":4,"memory":32768,"cpus":1`, `"type":"pbkdf2","hash":"sha256","iterations":1000`), "pbkdf2"},
		"argon2i":                            {good.instead(t, `"argon2id"`, `"argon2i"`), "argon2i"},
		"much memory":                        {good.instead(t, `"memory":32768`, `"memory":4194304`), "memory"},
		"little memory":                      {good.instead(t, `"memory":32768`, `"memory":32`), "memory"},
		"memory twice":                       {good.instead(t, `"memory":32768`, `"memory":32768,"memory":4194304`), "memory"},
		"many passes":                        {good.instead(t, `"time":4`, `"time":4294967295`), "time"},
		"many threads":                       {good.instead(t, `"cpus":1`, `"cpus":4`), "cpus"},
		"a short salt":                       {good.instead(t, `"salt":"`, `"salt":"AAAA`), "salt"},
		"a salt that is none":                {good.instead(t, `"cpus":1,"salt":"`, `"cpus":1,"salt":"-`), `"salt":"-`},
		"a foreign digest":                   {good.instead(t, `"type":"pbkdf2"`, `"type":"sha256"`), "pbkdf2"},
		"two digests":                        {good.instead(t, `"digests":{"0"`, `"digests":{"1":{"type":"pbkdf2","keyslots":[],"segments":["0"]},"0"`), "digests"},
		"a digest of another slot":           {good.instead(t, `"keyslots":["0"]`, `"keyslots":["1"]`), "keyslots"},
		"a digest of no segment":             {good.instead(t, `"segments":["0"]`, `"segments":[]`), "segments"},
		"another hash of the digest":         {good.instead(t, `"hash":"sha256","iterations"`, `"hash":"sha1","iterations"`), "sha1"},
		"many rounds of the digest":          {good.instead(t, `"iterations":1000`, `"iterations":4294967295`), "iterations"},
		"one round of the digest":            {good.instead(t, `"iterations":1000`, `"iterations":1`), "iterations"},
		"a requirement":                      {good.instead(t, `"config":{`, `"config":{"requirements":{"mandatory":["online-reencrypt-v2"]},`), "requirements"},
		"flags of the volume":                {good.instead(t, `"config":{`, `"config":{"flags":["allow-discards","same-cpu-crypt"],`), "allow-discards"},
		"more JSON than fits":                {good.instead(t, `"json_size":"12288"`, `"json_size":"61440"`), "json_size"},
		"other room for slots":               {good.instead(t, `"keyslots_size":"16744448"`, `"keyslots_size":"4096"`), "keyslots_size"},
		"an unknown member":                  {good.instead(t, `"tokens"`, `"future":1,"tokens"`), "future"},
		"white space":                        {good.instead(t, `,"tokens"`, `, "tokens"`), "tokens"},
		"JSON that ends early":               {good.with(t, good.json()[:len(good.json())/2]), "its JSON"},
		"JSON that goes on":                  {good.with(t, good.json()+"{}"), "goes on"},
		"no JSON":                            {good.with(t, "x"), "its JSON"},
		"none at all":                        {good.with(t, ""), "its JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := defaultCost().read(bytes.NewReader(tt.crafted))
			if !errors.Is(err, ErrNotLUKS) || !strings.Contains(err.Error(), tt.said) {
				t.Fatalf("got %+v, %v; want it to be refused for %s", h.UUID, err, tt.said)
			}
		})
	}

	// What may differ from disk to disk.
	for name, ours := range map[string]image{
		"as it was made":             good,
		"sectors of 4096 bytes":      good.instead(t, `"sector_size":512`, `"sector_size":4096`),
		"a disk of another geometry": good.instead(t, `"16777216"`, `"17301504"`),
		"a passphrase that was changed": good.instead(t, `"offset":"32768"`, `"offset":"290816"`).
			at(sequenceAt, "\x00\x00\x00\x00\x00\x00\x00\x05"),
	} {
		if _, err := defaultCost().read(bytes.NewReader(ours)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// cutLast replaces the last of the places where old is.
func cutLast(text, old, replacement string) string {
	at := strings.LastIndex(text, old)
	return text[:at] + replacement + text[at+len(old):]
}

// TestWhatTheDocumentsSayAboutPassphrases changes one by hand, and takes the header back
// from a backup.
func TestWhatTheDocumentsSayAboutPassphrases(t *testing.T) {
	dev, c, dir := formatted(t), New(filesystem.New(filesystem.Options{})), t.TempDir()
	if err := os.WriteFile(dir+"/new", []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		args        []string
		right, gone string
	}{
		{[]string{"luksHeaderBackup", dev.Path, "--header-backup-file", dir + "/backup"}, canary, "changed"},
		{[]string{
			"luksChangeKey", "--pbkdf", "argon2id", "--pbkdf-memory", "32768", "--pbkdf-force-iterations", "4", "--pbkdf-parallel", "1",
			"--key-file", "-", dev.Path, dir + "/new",
		}, "changed", canary},
		{[]string{"luksHeaderRestore", dev.Path, "--header-backup-file", dir + "/backup"}, canary, "changed"},
	} {
		cmd := exec.Command("cryptsetup", append(step.args, "--batch-mode", "--disable-locks")...)
		cmd.Stdin = strings.NewReader(canary)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", step.args, err, out)
		}
		h, err := c.Read(t.Context(), dev.Path)
		if err != nil {
			t.Fatalf("%v: %v", step.args, err)
		}
		if err := c.Verify(t.Context(), h, []byte(step.right)); err != nil {
			t.Errorf("%v: %v", step.args, err)
		}
		if err := c.Verify(t.Context(), h, []byte(step.gone)); !errors.Is(err, ErrPassphrase) {
			t.Errorf("%v: got %v, want ErrPassphrase", step.args, err)
		}
	}
}

// TestADiskThatChangesAfterItWasReadChangesNothing swaps the header, of which a copy
// was made, for that of somebody else, and tears it off.
func TestADiskThatChangesAfterItWasReadChangesNothing(t *testing.T) {
	dev, other, c := formatted(t), looptest.New(t, looptest.Options{Size: 64 * mib}), New(filesystem.New(filesystem.Options{}))
	if err := c.Format(t.Context(), filesystem.Device{Path: other.Path}, filesystem.Quick, []byte("forger")); err != nil {
		t.Fatal(err)
	}
	h, err := c.Read(t.Context(), dev.Path)
	if err != nil {
		t.Fatal(err)
	}
	for name, swapped := range map[string]image{"somebody else's": imageOf(t, other), "none": make(image, headerSize)} {
		dev.Write(t, swapped, 0)
		if err := c.Verify(t.Context(), h, []byte(canary)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := c.Verify(t.Context(), h, []byte("forger")); !errors.Is(err, ErrPassphrase) {
			t.Errorf("%s: got %v, want ErrPassphrase", name, err)
		}
	}
}

// TestADiskThatAnswersTwiceDifferentlyIsAskedOnce counts the reads of each byte.
func TestADiskThatAnswersTwiceDifferentlyIsAskedOnce(t *testing.T) {
	asked := &counting{data: imageOf(t, formatted(t)), times: map[int64]int{}}
	if _, err := defaultCost().read(asked); err != nil {
		t.Fatal(err)
	}
	for at, times := range asked.times {
		if times != 1 {
			t.Errorf("sector %d is read %d times", at, times)
		}
	}
	if len(asked.times) != (2*copySize+slotSize)/512 {
		t.Errorf("%d sectors are read", len(asked.times))
	}
}

type counting struct {
	data  image
	times map[int64]int
}

func (c *counting) ReadAt(p []byte, at int64) (int, error) {
	for sector := at / 512; sector < (at+int64(len(p)))/512; sector++ {
		c.times[sector]++
	}
	return bytes.NewReader(c.data).ReadAt(p, at)
}

// TestADiskThatChangesWhileItIsRead races a writer who puts a forged header and the
// right one on the disk, in turns. Whatever is read is the right one, or refused.
func TestADiskThatChangesWhileItIsRead(t *testing.T) {
	dev, c := formatted(t), New(filesystem.New(filesystem.Options{}))
	good := imageOf(t, dev)
	forged := good.instead(t, `"encryption":"aes-xts-plain64"`, `"encryption":"cipher_null-ecb"`)
	var stop atomic.Bool
	var writer sync.WaitGroup
	writer.Go(func() {
		for !stop.Load() {
			dev.Write(t, forged[:2*copySize], 0)
			dev.Write(t, good[:2*copySize], 0)
		}
	})
	read, refused := 0, 0
	for until := time.Now().Add(time.Second); time.Now().Before(until); {
		h, err := c.Read(t.Context(), dev.Path)
		switch {
		case errors.Is(err, ErrNotLUKS):
			refused++
		case err != nil:
			t.Fatal(err)
		case !bytes.Equal(h.copies, good[:2*copySize]):
			t.Fatal("a forged header was taken")
		default:
			read++
		}
	}
	stop.Store(true)
	writer.Wait()
	t.Logf("read %d times, refused %d times", read, refused)
}

// TestAKeyThatFindsNoMemoryGivesUpWithItsCall: as many keys are made as may be, by
// calls on disks that hang.
func TestAKeyThatFindsNoMemoryGivesUpWithItsCall(t *testing.T) {
	dev, c := formatted(t), New(filesystem.New(filesystem.Options{}))
	h, err := c.Read(t.Context(), dev.Path)
	if err != nil {
		t.Fatal(err)
	}
	for range keys {
		c.slots <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Verify(ctx, h, []byte(canary)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := c.Open(ctx, dev.Path, h, title, []byte(canary), Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Read(ctx, dev.Path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	for range keys {
		<-c.slots
	}
	if err := c.Verify(t.Context(), h, []byte(canary)); err != nil {
		t.Error(err)
	}
}

// TestCallsWithDifferentPassphrasesShareNoOutcome has a cryptsetup that takes its time
// and opens the disk by one of them.
func TestCallsWithDifferentPassphrasesShareNoOutcome(t *testing.T) {
	dev, c := formatted(t), New(filesystem.New(filesystem.Options{}))
	h, err := c.Read(t.Context(), dev.Path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := "#!/bin/sh\nread -r said\nsleep 0.3\n[ \"$said\" = right ] || exit 2\n"
	if err := os.WriteFile(dir+"/"+program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	var calls sync.WaitGroup
	for passphrase, want := range map[string]error{"right\n": nil, "wrong\n": ErrPassphrase} {
		for range 3 {
			calls.Go(func() {
				if err := c.Open(t.Context(), dev.Path, h, title, []byte(passphrase), Options{}); !errors.Is(err, want) {
					t.Errorf("%q: got %v, want %v", passphrase, err, want)
				}
			})
		}
	}
	calls.Wait()
}

// TestDisksThatHangKeepNoOtherWaiting has more of them than keys may be made at once.
func TestDisksThatHangKeepNoOtherWaiting(t *testing.T) {
	good, c := formatted(t), New(filesystem.New(filesystem.Options{}))
	c.keyTime = 200 * time.Millisecond
	h, err := c.Read(t.Context(), good.Path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := "#!/bin/sh\nread -r said\n[ \"$said\" = hangs ] || exit 0\nwhile [ ! -e " + dir + "/resumed ]; do sleep 0.1; done\n"
	if err := os.WriteFile(dir+"/"+program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	var hung sync.WaitGroup
	for range 2 * keys {
		dev := looptest.New(t, looptest.Options{Size: 64 * mib})
		hung.Go(func() {
			if err := c.Open(t.Context(), dev.Path, h, title, []byte("hangs\n"), Options{}); err != nil {
				t.Error(err)
			}
		})
	}
	time.Sleep(c.keyTime / 2) // all that can be under way are
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if err := c.Open(ctx, good.Path, h, title, []byte("right\n"), Options{}); err != nil {
			t.Error(err)
		}
		cancel()
	}
	if err := os.WriteFile(dir+"/resumed", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	hung.Wait()
}

func FuzzHeader(f *testing.F) {
	text := strings.NewReplacer("%d", "4").Replace(metadata)
	f.Add(text, uint64(16<<10))
	f.Add(strings.ReplaceAll(text, "*", "32768"), uint64(16<<10))
	f.Fuzz(func(t *testing.T, text string, size uint64) {
		data := make(image, headerSize)
		for i, magic := range []string{"LUKS\xba\xbe\x00\x02", "SKUL\xba\xbe\x00\x02"} {
			at := i * copySize
			copy(data[at:], magic)
			binary.BigEndian.PutUint64(data[at+8:], size)
			copy(data[at+uuidAt:], "00f01abb-5789-4172-871b-dec4409287eb")
			copy(data[at+binarySize:at+copySize], text)
		}
		h, err := Cost{Memory: 4, Passes: 4}.read(bytes.NewReader(data))
		if err != nil {
			return
		}
		if mapped := h.Mapped(1 << 30); h.Offset <= 0 || h.SectorSize < 512 || mapped < 0 || mapped+h.Offset > 1<<30 && mapped != 0 {
			t.Errorf("%+v", h)
		}
	})
}
