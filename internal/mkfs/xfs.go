package mkfs

// size of something that mkfs bounds by the device's, which it knows.
func anySize(value string) error { return number(1, 1<<60)(value) }

// XFS is mkfs.xfs. Allocation groups are a power of two in number, so that those
// of a volume of whole GiB, which is all that Cinder makes, begin at multiples of 16
// MiB, also after the volume has grown: that is where the proof of blankness looks.
// Stripes are powers of two for the same reason.
func XFS() Dialect {
	return Dialect{
		fsType: "xfs", rules: xfsRules(),
		sizes: map[string]string{BlockSizeKey: "-b size=", InodeSizeKey: "-i size="},
		combinations: []combination{
			{option: "-d", setting: "su", needed: "-d", needs: "sw"},
			{option: "-d", setting: "sw", needed: "-d", needs: "su"},
			{option: "-d", setting: "sunit", needed: "-d", needs: "swidth"},
			{option: "-d", setting: "swidth", needed: "-d", needs: "sunit"},
			{option: "-d", setting: "su", without: "sunit"},
			{option: "-d", setting: "su", without: "noalign"},
			{option: "-d", setting: "sunit", without: "noalign"},
			{option: "-l", setting: "su", without: "sunit"},
		},
	}
}

func xfsRules() map[string]rule {
	list := func(settings map[string]check, never map[string]string) rule {
		return rule{value: true, pieces: true, settings: settings, never: never}
	}
	harmless := rule{harmless: true}
	const groups = "groups of any size leave copies of the superblock where a proof that the disk is blank would not look for them; use agcount"
	return map[string]rule{
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
