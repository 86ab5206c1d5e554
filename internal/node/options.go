package node

import (
	"slices"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/filesystem"
)

// splitFlags splits mount flags at commas, but for those within double quotes:
// the context that SELinux wants for a volume has some.
func splitFlags(group string) []string {
	quoted := false
	return strings.FieldsFunc(group, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ',' && !quoted
	})
}

// forbidden reports mount flags that would make mount do something else than to
// mount this disk: another kind of mount, a loop device of its own, a helper,
// another disk besides.
func forbidden(flag string) bool {
	name, _, _ := strings.Cut(flag, "=")
	switch name {
	case "bind", "rbind", "move", "remount",
		"shared", "rshared", "private", "rprivate", "slave", "rslave", "unbindable", "runbindable",
		"loop", "offset", "sizelimit", "helper", "uhelper",
		"journal_dev", "journal_path", "logdev", "rtdev", "device":
		return true
	}
	return strings.ContainsRune(flag, 0) || strings.HasPrefix(strings.ToLower(name), "x-mount.")
}

// stageOptions returns the options with which the filesystem itself is mounted.
// What each kind of filesystem needs besides, such as nouuid and to leave the
// journal of a read-only volume alone, FS.Mount knows.
func (u use) stageOptions() []string {
	if u.readOnly {
		return append(slices.Clone(u.flags), "ro")
	}
	return u.flags
}

// perMount are the flags that belong to a mount rather than to the filesystem:
// those that a bind mount can have of its own.
func perMount() []string {
	return []string{
		"nosuid", "nodev", "noexec", "nosymfollow",
		"noatime", "nodiratime", "relatime", "strictatime",
	}
}

// bindOptions returns the flags of a bind mount.
func (u use) bindOptions() []string {
	var options []string
	for _, flag := range u.flags {
		if slices.Contains(perMount(), flag) {
			options = append(options, flag)
		}
	}
	return options
}

// difference tells in what a mount that exists differs from what is asked for,
// empty if in nothing that matters to a workload. Flags that the staging mount
// has too are no difference: a bind mount inherits them.
func (u use) difference(mount, staging filesystem.MountPoint) string {
	if mount.ReadOnly != (u.readOnly || staging.ReadOnly) {
		if !mount.Writable() {
			return "it is read-only"
		}
		return "it is writable"
	}
	for _, flag := range []string{"nosuid", "nodev", "noexec", "nosymfollow"} {
		has := slices.Contains(mount.Options, flag)
		wants := slices.Contains(u.flags, flag)
		inherits := slices.Contains(staging.Options, flag)
		switch {
		case wants && !has:
			return "it lacks " + flag
		case has && !wants && !inherits:
			return "it has " + flag
		}
	}
	return ""
}

// discards tells whether the disk is to be told what is free as soon as it is.
func (u use) discards() bool {
	return slices.ContainsFunc(u.flags, func(flag string) bool {
		return flag == "discard" || strings.HasPrefix(flag, "discard=")
	})
}
