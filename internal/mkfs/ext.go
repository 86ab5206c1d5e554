package mkfs

// Why options are refused.
const (
	dryRun      = "it makes no filesystem"
	otherFiles  = "it names a file or a device of the node"
	wholeDevice = "the filesystem covers the device from its first byte to its last"
	ownUUID     = "a filesystem gets a UUID of its own"
	wrongType   = "the type of the filesystem comes from the StorageClass"
	hidden      = "it leaves copies of the superblock where a proof that the disk is blank would not look for them"
)

// Ext is mke2fs, by its name for ext2, ext3 or ext4.
func Ext(fsType string) Dialect {
	d := Dialect{
		fsType: fsType, rules: extRules(fsType),
		sizes:        map[string]string{BlockSizeKey: "-b", InodeSizeKey: "-I", BytesPerInodeKey: "-i"},
		combinations: []combination{{option: "-C", needed: "-O", needs: "bigalloc"}},
	}
	if fsType == "ext4" {
		d.combinations = append(d.combinations, combination{option: "-E", setting: "num_backup_sb", needed: "-O", needs: "sparse_super2"})
	} else {
		d.combinations = append(d.combinations, combination{option: "-G", needed: "-O", needs: "flex_bg"})
	}
	return d
}

func extRules(fsType string) map[string]rule {
	block := rule{value: true, check: power(1<<10, largestBlock)}
	no := func(why string) rule { return rule{refuse: why} }
	noValue := func(why string) rule { return rule{refuse: why, value: true} }
	harmless := rule{harmless: true}
	extended := rule{name: "-E", value: true, settings: extendedOptions(), never: map[string]string{
		"packed_meta_blocks": "with all of its metadata at its head, a filesystem without its head looks blank",
		"offset":             wholeDevice, "desc_size": "it is no longer used",
		"assume_storage_prezeroed": "a disk that is proven blank has not been read in full",
	}}
	return map[string]rule{
		"-b": block, "-C": {value: true, check: power(2<<10, 512<<20)}, "-G": {value: true, check: power(1, 1<<20)},
		"-i": {value: true, check: number(1<<10, 64<<20)}, "-I": {value: true, check: power(128, largestBlock)},
		"-N": {value: true, check: number(1, 1<<32-1)}, "-m": {value: true, check: percent(50)},
		"-L": {value: true, check: anything}, "-e": {value: true, check: oneOf("continue", "remount-ro")},
		"-J": {value: true, settings: map[string]check{"size": number(1, 10<<20), "fast_commit_size": number(1, 10<<20)},
			never: map[string]string{"device": otherFiles, "location": hidden}},
		"-T": {value: true, settings: map[string]check{
			"default": bare, "small": bare, "big": bare, "huge": bare, "news": bare, "largefile": bare, "largefile4": bare}},
		"-O": {value: true, features: true, settings: extFeatures(fsType), never: extFeaturesRefused(fsType)},
		"-E": extended, "-R": extended,
		"-q": harmless, "-v": harmless, "-F": harmless, "-K": harmless, "-j": journal(fsType),
		"-g": noValue(hidden), "-c": no("a blank volume is not searched for bad blocks"), "-l": noValue(otherFiles),
		"-d": noValue(otherFiles), "-z": noValue(otherFiles), "-D": no("it shapes no filesystem"),
		"-M": noValue("the kernel writes it when it mounts"), "-o": noValue("it shapes no filesystem"),
		"-n": no(dryRun), "-V": no(dryRun), "-S": no(dryRun), "-r": noValue("it is no longer used"),
		"-t": noValue(wrongType), "-U": noValue(ownUUID),
	}
}

// journal is -j, which says no more than the type does.
func journal(fsType string) rule {
	if fsType == "ext2" {
		return rule{refuse: "ext2 has no journal"}
	}
	return rule{harmless: true}
}

// extendedOptions are mke2fs's -E.
func extendedOptions() map[string]check {
	return map[string]check{
		"stride": number(1, 1<<20), "stripe_width": number(1, 1<<30), "stripe-width": number(1, 1<<30),
		"resize": number(1, 1<<60), "lazy_itable_init": flag, "lazy_journal_init": flag,
		"num_backup_sb": func(value string) error { return oneOf("2")(value) },
		"root_owner":    ids, "discard": bare, "nodiscard": bare,
		"quotatype": each(oneOf("usrquota", "grpquota", "prjquota")), "encoding": oneOf("utf8", "utf8-12.1"),
		"encoding_flags": oneOf("strict", "no_strict"), "hash_seed": hashSeed,
		"mmp_update_interval": number(0, 300), "orphan_file_size": number(32<<10, 512<<20),
	}
}

// extFeatures are mke2fs's -O that leave the filesystem of its type: libblkid calls
// an ext3 with extents ext4, and would be believed.
func extFeatures(fsType string) map[string]check {
	features := map[string]check{
		"ext_attr": bare, "resize_inode": bare, "dir_index": bare, "filetype": bare, "sparse_super": bare, "large_file": bare,
	}
	if fsType != "ext4" {
		return features
	}
	for _, f := range []string{
		"has_journal", "sparse_super2", "huge_file", "uninit_bg", "gdt_csum", "dir_nlink", "extra_isize", "metadata_csum",
		"metadata_csum_seed", "extent", "extents", "flex_bg", "64bit", "meta_bg", "bigalloc", "quota", "project", "encrypt",
		"casefold", "verity", "inline_data", "ea_inode", "large_dir", "mmp", "orphan_file", "fast_commit", "stable_inodes",
	} {
		features[f] = bare
	}
	return features
}

func extFeaturesRefused(fsType string) map[string]string {
	refused := map[string]string{
		"journal_dev": "it makes a journal and no filesystem", "none": "what it makes is no " + fsType,
		"read-only": "it could not be written to", "shared_blocks": "it could not be written to",
	}
	if fsType != "ext4" {
		refused["has_journal"] = "whether there is a journal is what tells ext2 from ext3"
	}
	return refused
}
