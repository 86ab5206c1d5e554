package mkfs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// dialect returns that of a filesystem; the zero value takes no options.
func dialect(fsType string) Dialect {
	switch fsType {
	case "xfs":
		return XFS()
	case "btrfs":
		return Btrfs()
	case "ext2", "ext3", "ext4":
		return Ext(fsType)
	}
	return Dialect{fsType: fsType}
}

// accepted are words as a StorageClass has them, and what is made of them.
func accepted() []struct{ fsType, words, want string } {
	return []struct{ fsType, words, want string }{
		{"ext4", "", ""},
		{"ext4", "-E nodiscard", "-E nodiscard"},
		{"ext4", "-Enodiscard", "-E nodiscard"},
		{"ext4", "-m0 -Enodiscard,lazy_itable_init=1,lazy_journal_init=1", "-m 0 -E nodiscard,lazy_itable_init=1,lazy_journal_init=1"},
		{"ext4", "-m0 -Ediscard -i1024", "-m 0 -E discard -i 1024"},
		{"ext4", "-F", ""},
		{"ext4", "-q -m 1", "-m 1"},
		{"ext4", "-qFm1", "-m 1"},
		{"ext4", "-FqK -vm 0.5", "-m 0.5"},
		{"ext4", "-j", ""},
		{"ext4", "-O ^metadata_csum,^64bit", "-O ^metadata_csum,^64bit"},
		{"ext4", "-O^has_journal", "-O ^has_journal"},
		{"ext4", "-T largefile4", "-T largefile4"},
		{"ext4", "-b4096", "-b 4096"},
		{"ext4", "-b 4k", "-b 4k"},
		{"ext4", "-R stride=16", "-E stride=16"},
		{"ext4", "-E stride=16,stripe-width=64", "-E stride=16,stripe-width=64"},
		{"ext4", "-O bigalloc -C 64k", "-O bigalloc -C 64k"},
		{"ext4", "-O sparse_super2 -E num_backup_sb=2", "-O sparse_super2 -E num_backup_sb=2"},
		{"ext4", "-O quota,project -E quotatype=usrquota:prjquota", "-O quota,project -E quotatype=usrquota:prjquota"},
		{"ext4", "-E root_owner=1000:1000", "-E root_owner=1000:1000"},
		{"ext4", "-L data -N 10000 -I 512 -G 64 -J size=64 -e remount-ro", "-L data -N 10000 -I 512 -G 64 -J size=64 -e remount-ro"},
		{"ext4", "-O casefold -E encoding=utf8,encoding_flags=strict", "-O casefold -E encoding=utf8,encoding_flags=strict"},
		{"ext3", "-O ^resize_inode -b 1024 -j", "-O ^resize_inode -b 1024"},
		{"ext2", "-m0", "-m 0"},
		{"xfs", "-K", ""},
		{"xfs", "-f -q", ""},
		{"xfs", "-Kf", ""},
		{"xfs", "-m reflink=0", "-m reflink=0"},
		{"xfs", "-mreflink=0", "-m reflink=0"},
		{"xfs", "-i size=1024 -K", "-i size=1024"},
		{"xfs", "-d su=64k,sw=4", "-d su=64k,sw=4"},
		{"xfs", "-dsu=64k -d sw=4 -d agcount=8", "-d su=64k,sw=4,agcount=8"},
		{"xfs", "-d sunit=128,swidth=512", "-d sunit=128,swidth=512"},
		{"xfs", "-b size=1024 -s size=512 -l size=64m -n size=8k -L name", "-b size=1024 -s size=512 -l size=64m -n size=8k -L name"},
		{"xfs", "-m crc=0,finobt=0,reflink=0,rmapbt=0,bigtime=0,inobtcount=0", "-m crc=0,finobt=0,reflink=0,rmapbt=0,bigtime=0,inobtcount=0"},
		{"btrfs", "-K -f", ""},
		{"btrfs", "-Kfq", ""},
		{"btrfs", "--nodesize=32768", "-n 32768"},
		{"btrfs", "--nodesize 32k", "-n 32k"},
		{"btrfs", "--nodes 32k", "-n 32k"},
		{"btrfs", "-n32k", "-n 32k"},
		{"btrfs", "-msingle -d single", "-m single -d single"},
		{"btrfs", "--metadata dup --data=dup", "-m dup -d dup"},
		{"btrfs", "--mixed", "-M"},
		{"btrfs", "-O no-holes,^extref", "-O no-holes,^extref"},
		{"btrfs", "--checksum xxhash --label=x", "--csum xxhash -L x"},
		{"btrfs", "-R free-space-tree", "-R free-space-tree"},
	}
}

// refused are words and what the error says about them.
func refused() []struct{ fsType, words, why string } {
	return []struct{ fsType, words, why string }{
		{"ext4", "/dev/sda", "no option"},
		{"ext4", "-m 0 /dev/sda", "no option"},
		{"ext4", "--", "no option"},
		{"ext4", "-", "no option"},
		{"ext4", "-n", dryRun},
		{"ext4", "-qn", dryRun},
		{"ext4", "-S", dryRun},
		{"ext4", "-V", dryRun},
		{"ext4", "-d /etc", otherFiles},
		{"ext4", "-d/etc", otherFiles},
		{"ext4", "-l/etc/passwd", otherFiles},
		{"ext4", "-z undo", otherFiles},
		{"ext4", "-J device=/dev/sda", "letters"},
		{"ext4", "-J device=sda", otherFiles},
		{"ext4", "-t xfs", wrongType},
		{"ext4", "-U random", ownUUID},
		{"ext4", "-g 8192", hidden},
		{"ext4", "-b 65536", "power of two"},
		{"ext4", "-b -65536", "letters"},
		{"ext4", "-b 3000", "power of two"},
		{"ext4", "-I 300", "power of two"},
		{"ext4", "-i 1", "number from"},
		{"ext4", "-m 51", "from 0 to 50"},
		{"ext4", "-m nan", "from 0 to 50"},
		{"ext4", "-m", "value is missing"},
		{"ext4", "-m 1 -m 2", "twice"},
		{"ext4", "-E stride=16,stride=32", "twice"},
		{"ext4", "-E nodiscard -E stride=16", "twice"},
		{"ext4", "-E packed_meta_blocks=1", "looks blank"},
		{"ext4", "-O sparse_super2 -E num_backup_sb=0", "must be one of"},
		{"ext4", "-O sparse_super2 -E num_backup_sb=0,packed_meta_blocks=1", "must be one of"},
		{"ext4", "-E num_backup_sb=2", "needs -O sparse_super2"},
		{"ext4", "-E offset=1048576", wholeDevice},
		{"ext4", "-E nodiscard,-O ^metadata_csum", "must be one of"},
		{"ext4", "-E stride", "number from"},
		{"ext4", "-O journal_dev", "no filesystem"},
		{"ext4", "-O none", "no ext4"},
		{"ext4", "-O FEATURE_I31", "must be one of"},
		{"ext4", "-O ^^extent", "must be one of"},
		{"ext4", "-C 65536", "needs -O bigalloc"},
		{"ext4", "-e panic", "must be one of"},
		{"ext4", "-c", "bad blocks"},
		{"ext4", "-x", "no such option"},
		{"ext4", "--force", "no such option"},
		{"ext4", "-L \"a b\"", "letters"},
		{"ext3", "-O extent", "must be one of"},
		{"ext3", "-O ^has_journal", "tells ext2 from ext3"},
		{"ext2", "-j", "no journal"},
		{"ext2", "-O has_journal", "tells ext2 from ext3"},
		{"ext3", "-O bigalloc -C 64k", "must be one of"},
		{"ext3", "-G 16", "needs -O flex_bg"},
		{"xfs", "-N", dryRun},
		{"xfs", "-KN", dryRun},
		{"xfs", "-d agsize=1000m", "agcount"},
		{"xfs", "-d agcount=12", "power of two"},
		{"xfs", "-d agcount=1", "power of two"},
		{"xfs", "-d agcount=64", "power of two"},
		{"xfs", "-d concurrency=6", "agcount"},
		{"xfs", "-d size=1g", wholeDevice},
		{"xfs", "-d name=/dev/sda", "letters"},
		{"xfs", "-d name=sda", otherFiles},
		{"xfs", "-l logdev=sda", otherFiles},
		{"xfs", "-r rtdev=sda", otherFiles},
		{"xfs", "-p proto", otherFiles},
		{"xfs", "-c options=x", otherFiles},
		{"xfs", "-m uuid=x", ownUUID},
		{"xfs", "-d su=48k,sw=4", "power of two"},
		{"xfs", "-d su=64k", "needs -d sw"},
		{"xfs", "-d sunit=128", "needs -d swidth"},
		{"xfs", "-d su=64k,sw=4,sunit=128,swidth=512", "excludes sunit"},
		{"xfs", "-d su=64k -d su=32k", "twice"},
		{"xfs", "-b size=65536", "power of two"},
		{"xfs", "-b size=512", "power of two"},
		{"xfs", "-m reflink=2", "must be one of"},
		{"xfs", "-L thirteenbytes", "longer"},
		{"btrfs", "-O zoned", "zoned"},
		{"btrfs", "--features=zoned", "zoned"},
		{"btrfs", "-O list-all", dryRun},
		{"btrfs", "-R list-all", dryRun},
		{"btrfs", "-d raid1", "must be one of"},
		{"btrfs", "-b 1g", wholeDevice},
		{"btrfs", "--byte-count=1g", wholeDevice},
		{"btrfs", "-r /etc", otherFiles},
		{"btrfs", "--rootdir=/etc", otherFiles},
		{"btrfs", "--root /etc", otherFiles},
		{"btrfs", "-U x", ownUUID},
		{"btrfs", "-s 65536", "power of two"},
		{"btrfs", "-n 3000", "power of two"},
		{"btrfs", "--m dup", "may mean"},
		{"btrfs", "--mixed=1", "no value"},
		{"btrfs", "--nodesize", "value is missing"},
	}
}

func TestOptionsAreReadInEverySpelling(t *testing.T) {
	for _, c := range accepted() {
		list, err := dialect(c.fsType).Parse(strings.Fields(c.words))
		if got := strings.Join(list.Arguments(), " "); err != nil || got != c.want {
			t.Errorf("%s %q: %q, %v; want %q", c.fsType, c.words, got, err, c.want)
		}
	}
}

func TestWhatIsRefusedIsToldWhy(t *testing.T) {
	for _, c := range refused() {
		list, err := dialect(c.fsType).Parse(strings.Fields(c.words))
		if !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s %q: %q, %v; want it refused since %q", c.fsType, c.words, list, err, c.why)
		}
	}
}

// TestMkfsTakesWhatIsAccepted asks mkfs itself, which makes a filesystem of an empty
// file, or would.
func TestMkfsTakesWhatIsAccepted(t *testing.T) {
	for _, c := range accepted() {
		if slices.Contains(strings.Fields(c.words), "casefold") {
			continue // the tables of mke2fs depend on how it was built
		}
		file := filepath.Join(t.TempDir(), "disk")
		f, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Truncate(10<<30), f.Close()); err != nil {
			t.Fatal(err)
		}
		args := strings.Fields(c.want)
		switch c.fsType {
		case "xfs":
			args = append(args, "-N")
		case "ext2", "ext3", "ext4":
			args = append(args, "-n")
		}
		out, err := exec.Command("mkfs."+c.fsType, append(args, file)...).CombinedOutput()
		if err != nil {
			t.Errorf("%s %q: %v\n%s", c.fsType, c.words, err, out)
		}
		_ = os.Remove(file)
	}
}

func TestAVolumeContextIsTranslated(t *testing.T) {
	for name, c := range map[string]struct {
		fsType  string
		context map[string]string
		want    string // the error where it begins with !
	}{
		"nothing":           {"ext4", nil, ""},
		"other keys":        {"xfs", map[string]string{"a": "b"}, ""},
		"sizes of ext":      {"ext4", map[string]string{BlockSizeKey: "1024", InodeSizeKey: "512", BytesPerInodeKey: "8192"}, "-b 1024 -I 512 -i 8192"},
		"sizes of XFS":      {"xfs", map[string]string{BlockSizeKey: "1024", InodeSizeKey: "512"}, "-b size=1024 -i size=512"},
		"leading zeros":     {"ext4", map[string]string{BlockSizeKey: "01024"}, "-b 1024"},
		"both":              {"xfs", map[string]string{InodeSizeKey: "512", OptionsKey: "-i maxpct=5"}, "-i size=512,maxpct=5"},
		"the reference's":   {"ext4", map[string]string{ReferenceOptionsKey: "-m0"}, "-m 0"},
		"the same in both":  {"ext4", map[string]string{ReferenceOptionsKey: "-m0", OptionsKey: "-m0"}, "-m 0"},
		"another in both":   {"ext4", map[string]string{ReferenceOptionsKey: "-m0", OptionsKey: "-m1"}, "!mkfs-options"},
		"twice":             {"ext4", map[string]string{BlockSizeKey: "1024", OptionsKey: "-b 4096"}, "!twice"},
		"twice of XFS":      {"xfs", map[string]string{BlockSizeKey: "1024", OptionsKey: "-b size=4096"}, "!twice"},
		"no size of it":     {"xfs", map[string]string{BytesPerInodeKey: "8192"}, "!can't be set"},
		"of btrfs":          {"btrfs", map[string]string{BlockSizeKey: "4096"}, "!can't be set"},
		"large blocks":      {"ext4", map[string]string{BlockSizeKey: "65536"}, "!power of two"},
		"odd inodes":        {"ext4", map[string]string{InodeSizeKey: "300"}, "!power of two"},
		"a unit":            {"ext4", map[string]string{BlockSizeKey: "4k"}, "!number of bytes"},
		"a negative size":   {"ext4", map[string]string{BlockSizeKey: "-4096"}, "!number of bytes"},
		"a refused option":  {"ext4", map[string]string{OptionsKey: "-n"}, "!dry"},
		"tabs and newlines": {"ext4", map[string]string{OptionsKey: "\t-m\n0 "}, "-m 0"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := dialect(c.fsType).Options(c.context)
			if why, fails := strings.CutPrefix(c.want, "!"); fails {
				if why == "dry" {
					why = dryRun
				}
				if !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), why) {
					t.Errorf("got %q, %v; want an error about %q", got, err, why)
				}
				return
			}
			if err != nil || strings.Join(got.Arguments(), " ") != c.want {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestDefaultsGiveWayToWhatWasAskedFor(t *testing.T) {
	list, err := dialect("ext4").Parse([]string{"-E", "discard,stride=16", "-m", "5", "-O", "^64bit"})
	if err != nil {
		t.Fatal(err)
	}
	list = list.Default("-m", "0").Default("-I", "256").DefaultSetting("-E", "nodiscard").DefaultSetting("-E", "lazy_itable_init=1").
		DefaultSetting("-O", "64bit").DefaultSetting("-O", "^orphan_file").DefaultSetting("-J", "size=4")
	if got, want := strings.Join(list.Arguments(), " "), "-J size=4 -I 256 -E lazy_itable_init=1,discard,stride=16 -m 5 -O ^orphan_file,^64bit"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// FuzzParse holds that what is accepted stays the same when it is read again, and
// never names a device, a file or a run without an effect.
func FuzzParse(f *testing.F) {
	for _, c := range accepted() {
		f.Add(c.fsType, c.words)
	}
	for _, c := range refused() {
		f.Add(c.fsType, c.words)
	}
	f.Fuzz(func(t *testing.T, fsType, words string) {
		list, err := dialect(fsType).Parse(strings.Fields(words))
		if err != nil {
			if !errors.Is(err, ErrOptions) || len(list) != 0 {
				t.Fatalf("%q and %v", list, err)
			}
			return
		}
		args := list.Arguments()
		again, err := dialect(fsType).Parse(args)
		if err != nil || !slices.Equal(again.Arguments(), args) {
			t.Fatalf("%q was read as %q, and that as %q, %v", words, args, again.Arguments(), err)
		}
		for i, o := range list {
			if len(o.Name) < 2 || o.Name[0] != '-' || strings.HasPrefix(o.Value, "-") || strings.ContainsAny(o.Value, "/ \t\n\x00") {
				t.Fatalf("%q became %q", words, o)
			}
			if slices.ContainsFunc(list[:i], func(p Option) bool { return p.Name == o.Name }) {
				t.Fatalf("%q gives %s twice: %q", words, o.Name, args)
			}
			r := dialect(fsType).rules[o.Name]
			if r.refuse != "" || r.harmless || r.value != (o.Value != "") {
				t.Fatalf("%q became %q", words, o)
			}
		}
	})
}
