package blockdev

import (
	"errors"
	"strings"
	"testing"
)

func FuzzVolumeID(f *testing.F) {
	for _, seed := range []string{"", volumeA, volumeA[:20], undashed(volumeA), strings.ToUpper(volumeC), "é"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, id string) {
		err := CheckVolumeID(id)
		if err != nil {
			if !errors.Is(err, ErrVolumeID) {
				t.Errorf("%v", err)
			}
			return
		}
		if !fits(id, []identity{{name: strings.ToLower(id)}}) || len(undashed(id)) != 32 {
			t.Errorf("%q isn't like itself", id)
		}
	})
}

func FuzzPages(f *testing.F) {
	f.Add([]byte(page(0x80, volumeA)))
	f.Add([]byte(page(0x83, part(2, 0, volumeA[:20])+part(1, 3, "12345678")+part(2, 1, "QEMU    HARDDISK   "+volumeA))))
	f.Add([]byte(page(0x83, part(3, 8, "naa."+undashed(volumeA))+part(1, 10, "\x10\x001234567890123456"))))
	f.Add([]byte{0, 0x83, 0xFF, 0xFF, 1, 3, 0, 200})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(unitSerial(data)) > len(data) {
			t.Error("longer than its page")
		}
		for _, name := range designators(data) {
			if len(name) > 2*len(data) {
				t.Error("longer than its page")
			}
			fits(volumeA, []identity{{name: tidy(name)}})
		}
	})
}

func FuzzText(f *testing.F) {
	f.Add("252:16")
	f.Add("4294967295:4294967295")
	f.Add("naa.6a4b9c0e3f1d4e579a601f2e3d4c5b6a")
	f.Add("t10.QEMU    HARDDISK   serial")
	f.Add("Filename Type Size\n/dev/vdb partition 8 0 -2\n")
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := parseNumber(text); err == nil && FormatNumber(n) == "" {
			t.Error("no number")
		}
		if len(bare(text)) > len(text) {
			t.Error("grown")
		}
		for _, name := range parseSwaps(text) {
			if strings.Contains(name, "/") && name != "/" {
				t.Errorf("%q isn't a name", name)
			}
		}
	})
}
