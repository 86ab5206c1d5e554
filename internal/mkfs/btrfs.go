package mkfs

// Btrfs is mkfs.btrfs.
func Btrfs() Dialect { return Dialect{fsType: "btrfs", rules: btrfsRules()} }

func btrfsRules() map[string]rule {
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
	return map[string]rule{
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
