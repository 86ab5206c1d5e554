package mkfs

import (
	"slices"
	"strings"
)

// size of something that mkfs bounds by the device's, which it knows.
func anySize(value string) error { return number(1, 1<<60)(value) }

// xfs is mkfs.xfs. Allocation groups are a power of two in number, so that those
// of a volume of whole GiB, which is all that Cinder makes, begin at multiples of 16
// MiB, also after the volume has grown: that is where the proof of blankness looks.
// Stripes are powers of two for the same reason.
func xfs() dialect {
	list := func(settings map[string]check, never map[string]string) rule {
		return rule{value: true, pieces: true, settings: settings, never: never}
	}
	harmless := rule{harmless: true}
	const groups = "groups of any size leave copies of the superblock where a proof that the disk is blank would not look for them; use agcount"
	return dialect{
		"-b": list(map[string]check{"size": power(1<<10, largestBlock)}, nil),
		"-d": list(map[string]check{
			"agcount": power(2, 32), "su": power(4<<10, 4<<20), "sw": number(1, 1<<10),
			"sunit": power(8, 8<<10), "swidth": number(8, 8<<20), "noalign": flag,
		}, map[string]string{
			"agsize": groups, "concurrency": groups, "size": wholeDevice, "file": otherFiles, "name": otherFiles,
			"rtinherit": otherFiles,
		}),
		"-i": list(map[string]check{
			"size": power(256, 2<<10), "perblock": power(2, 16), "maxpct": number(0, 100), "align": flag,
			"attr": number(0, 2), "sparse": flag, "nrext64": flag, "exchange": flag, "projid32bit": flag,
		}, nil),
		"-l": list(map[string]check{
			"size": anySize, "version": number(1, 2), "su": power(4<<10, 256<<10), "sunit": power(8, 512),
			"lazy-count": flag, "concurrency": number(0, 1<<10), "internal": oneOf("", "1"),
		}, map[string]string{"logdev": otherFiles, "file": otherFiles, "name": otherFiles, "agnum": "the log is where mkfs.xfs puts it"}),
		"-m": list(map[string]check{
			"crc": flag, "finobt": flag, "reflink": flag, "rmapbt": flag, "bigtime": flag, "inobtcount": flag,
			"autofsck": flag, "metadir": flag,
		}, map[string]string{"uuid": ownUUID}),
		"-n": list(map[string]check{
			"size": power(1<<10, 64<<10), "version": oneOf("2", "ci"), "ftype": flag, "parent": flag,
		}, nil),
		"-s": list(map[string]check{"size": power(512, largestBlock)}, nil),
		"-L": {value: true, check: label(12)},
		"-q": harmless, "-f": harmless, "-K": harmless,
		"-C": {refuse: "it shapes no filesystem"}, "-N": {refuse: dryRun}, "-V": {refuse: dryRun},
		"-c": {value: true, refuse: otherFiles}, "-p": {value: true, refuse: otherFiles}, "-r": {value: true, refuse: otherFiles},
	}
}

// btrfs is mkfs.btrfs.
func btrfs() dialect {
	const many = "it takes several disks"
	// Their names before version 4, and with a prefix, are those of mkfs too.
	profiles := oneOf("single", "dup", "SINGLE", "DUP")
	features := rule{name: "-O", value: true, features: true, settings: map[string]check{
		"mixed-bg": bare, "extref": bare, "skinny-metadata": bare, "no-holes": bare, "free-space-tree": bare,
		"block-group-tree": bare, "quota": bare, "squota": bare,
	}, never: map[string]string{
		"zoned": "a volume is no zoned disk", "raid56": many, "raid-stripe-tree": many, "list-all": dryRun,
		"extent-tree-v2": "it is an experiment",
	}}
	runtime := features
	runtime.name = "-R"
	node := rule{name: "-n", value: true, check: power(4<<10, 64<<10)}
	sector := rule{name: "-s", value: true, check: power(largestBlock, largestBlock)}
	metadata := rule{name: "-m", value: true, check: profiles}
	data := rule{name: "-d", value: true, check: profiles}
	sum := rule{name: "--csum", value: true, check: oneOf("crc32c", "xxhash", "xxhash64", "sha256", "blake2")}
	name := rule{name: "-L", value: true, check: label(255)}
	mixed := rule{name: "-M"}
	harmless := rule{harmless: true}
	no := func(why string) rule { return rule{refuse: why} }
	noValue := func(why string) rule { return rule{value: true, refuse: why} }
	return dialect{
		"-n": node, "--nodesize": node, "-s": sector, "--sectorsize": sector, "-m": metadata, "--metadata": metadata,
		"-d": data, "--data": data, "--csum": sum, "--checksum": sum, "-L": name, "--label": name,
		"-O": features, "--features": features, "-R": runtime, "--runtime-features": runtime, "-M": mixed, "--mixed": mixed,
		"-K": harmless, "--nodiscard": harmless, "-q": harmless, "--quiet": harmless, "-v": harmless, "--verbose": harmless,
		"-f": harmless, "--force": harmless,
		"-A": noValue("it is no longer used"), "--alloc-start": noValue("it is no longer used"),
		"-l": noValue("it is no longer used: use -n"), "--leafsize": noValue("it is no longer used: use -n"),
		"-b": noValue(wholeDevice), "--byte-count": noValue(wholeDevice), "-r": noValue(otherFiles), "--rootdir": noValue(otherFiles),
		"--shrink": no(wholeDevice), "-U": noValue(ownUUID), "--uuid": noValue(ownUUID), "--device-uuid": noValue(ownUUID),
		"--subvol": noValue(otherFiles), "--compress": noValue(otherFiles),
		"-V": no(dryRun), "--version": no(dryRun), "-h": no(dryRun), "--help": no(dryRun),
	}
}

// label is for a name of so many bytes.
func label(most uint64) check {
	return func(value string) error { return lengthUpTo(value, most) }
}

// together finds options that exclude each other, or need one another, whatever
// the size of the device.
func together(fsType string, l List) error {
	for _, c := range combinations() {
		if !slices.Contains(strings.Fields(c.fsTypes), fsType) || !l.says(c.option, c.setting) {
			continue
		}
		if c.without != "" && l.says(c.option, c.without) {
			return refusal(c.option+" "+c.setting, "it excludes "+c.without)
		}
		if c.needs != "" && !l.says(c.needed, c.needs) {
			return refusal(strings.TrimSpace(c.option+" "+c.setting), "it needs "+c.needed+" "+c.needs)
		}
	}
	return nil
}

// combination is one option that excludes a setting of the same list, or needs one
// of another.
type combination struct {
	fsTypes, option, setting string
	without                  string
	needed, needs            string
}

func combinations() []combination {
	return []combination{
		{fsTypes: "xfs", option: "-d", setting: "su", needed: "-d", needs: "sw"},
		{fsTypes: "xfs", option: "-d", setting: "sw", needed: "-d", needs: "su"},
		{fsTypes: "xfs", option: "-d", setting: "sunit", needed: "-d", needs: "swidth"},
		{fsTypes: "xfs", option: "-d", setting: "swidth", needed: "-d", needs: "sunit"},
		{fsTypes: "xfs", option: "-d", setting: "su", without: "sunit"},
		{fsTypes: "xfs", option: "-d", setting: "su", without: "noalign"},
		{fsTypes: "xfs", option: "-d", setting: "sunit", without: "noalign"},
		{fsTypes: "xfs", option: "-l", setting: "su", without: "sunit"},
		{fsTypes: "ext4", option: "-C", needed: "-O", needs: "bigalloc"},
		{fsTypes: "ext4", option: "-E", setting: "num_backup_sb", needed: "-O", needs: "sparse_super2"},
		{fsTypes: "ext2 ext3", option: "-C", needed: "-O", needs: "bigalloc"},
		{fsTypes: "ext2 ext3", option: "-G", needed: "-O", needs: "flex_bg"},
	}
}

// says tells whether the option is there, with that setting unless that is empty.
func (l List) says(option, setting string) bool {
	for _, o := range l {
		if o.Name != option {
			continue
		}
		if setting == "" {
			return true
		}
		for s := range strings.SplitSeq(o.Value, ",") {
			if key, _, _ := strings.Cut(s, "="); key == setting {
				return true
			}
		}
	}
	return false
}
