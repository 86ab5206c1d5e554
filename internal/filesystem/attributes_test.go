package filesystem

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestBindsAreTheSameInOneStepAndInTwo(t *testing.T) {
	f := New(Options{})
	_, staged := mounted(t, f, ext4, "noatime", "nodev")
	for _, options := range []string{
		"", "ro", "noexec", "nosuid,noexec,ro", "relatime", "strictatime,ro", "atime", "nodiratime", "dev", "nosymfollow", "discard",
	} {
		var got [2][]string
		for i := range got {
			target := mountDir(t)
			list := strings.Split(options, ",")
			a, own := bindAttributes(slices.Contains(list, "ro"), list)
			err := kernelBind(staged, target, a)
			if i == 1 {
				err = errors.Join(f.Unmount(soon(t), target), f.bindInSteps(staged, target, own))
			}
			if err != nil {
				t.Fatalf("%s: %v", options, err)
			}
			m, _, err := f.Lookup(target)
			if err != nil {
				t.Fatal(err)
			}
			got[i] = m.Options
		}
		clears := slices.Contains([]string{"relatime", "atime", "dev"}, options) // what staging has
		if slices.Equal(got[0], got[1]) == clears || clears && !slices.Equal(got[1], []string{"rw", "nodev", "noatime"}) {
			t.Errorf("%q: %v in one step, %v in two", options, got[0], got[1])
		}
	}
}

func TestAMountIsTheSameWithMountAndWithoutIt(t *testing.T) {
	f := New(Options{})
	for _, fsType := range append(kinds(), ext2) {
		for _, options := range []string{"", "ro", "noatime,nodev", "discard,noexec", "rw,strictatime", "nosymfollow,ro"} {
			d := formattedDisk(t, f, fsType)
			all := typed(fsType).mountOptions(strings.Split(options, ","))
			if options == "" {
				all = typed(fsType).mountOptions(nil)
			}
			var got [2]MountPoint
			for i := range got {
				target := mountDir(t)
				attr, plain, ok := typed(fsType).plainOptions(all, false)
				if !ok {
					t.Fatalf("%v is not plain", all)
				}
				mount := func() error { return kernelMount(d.Path, target, fsType, attr, plain) }
				if i == 1 {
					mount = func() error { return f.mounter.Mount(d.Path, target, fsType, all) }
				}
				err := mount()
				if err != nil {
					t.Fatalf("%s %s: %v", fsType, options, err)
				}
				got[i], _, err = f.Lookup(target)
				if err != nil {
					t.Fatal(err)
				}
				if err := f.Unmount(soon(t), target); err != nil {
					t.Fatal(err)
				}
			}
			if !slices.Equal(got[0].Options, got[1].Options) || !slices.Equal(got[0].SuperOptions, got[1].SuperOptions) ||
				got[0].Source != got[1].Source || got[0].FSType != got[1].FSType {
				t.Errorf("%s %q:\n%+v\n%+v", fsType, options, got[0], got[1])
			}
		}
	}
}

func TestASELinuxLabelIsForAKernelThatKnowsIt(t *testing.T) {
	const label = `context="system_u:object_r:container_file_t:s0:c1,c2"`
	for selinux, want := range map[bool][]string{
		true:  {"nouuid", "context=system_u:object_r:container_file_t:s0:c1,c2"},
		false: {"nouuid"},
	} {
		if _, got, ok := typed(xfs).plainOptions([]string{"nouuid", label}, selinux); !ok || !slices.Equal(got, want) {
			t.Errorf("with SELinux %t: %q, %t, want %q", selinux, got, ok, want)
		}
	}
	if hasSELinux() {
		return // which may know no such label
	}
	f := New(Options{})
	_, target := mounted(t, f, xfs, label)
	if m, _, err := f.Lookup(target); err != nil || m.FSType != xfs {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestOptionsThatMountHasToReadAreLeftToIt(t *testing.T) {
	for _, options := range []string{"_netdev", "nofail", "x-systemd.automount", `rootcontext=@target`, "context=", "commit=5", "defaults", "user", "sync"} {
		if _, _, ok := typed(xfs).plainOptions([]string{"noatime", options}, true); ok {
			t.Errorf("%s was taken", options)
		}
	}
	f := New(Options{})
	_, target := mounted(t, f, ext4, "defaults,commit=7", "_netdev", "x-test=1")
	if m, _, err := f.Lookup(target); err != nil || !slices.Contains(m.SuperOptions, "commit=7") {
		t.Errorf("%+v, %v", m, err)
	}
}
