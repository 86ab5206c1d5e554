package demo

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// complete is a machine that has everything.
func complete() machine {
	return machine{
		uid:         0,
		look:        func(tool string) (string, error) { return "/sbin/" + tool, nil },
		filesystems: func() (string, error) { return "nodev\tproc\n\text4\n\txfs\n\tbtrfs\n", nil },
		modprobe:    func(string) error { return errors.New("no such module") },
		loopDevices: func() error { return nil },
	}
}

func without(names ...string) func(string) (string, error) {
	return func(tool string) (string, error) {
		for _, n := range names {
			if n == tool {
				return "", errors.New("not found")
			}
		}
		return "/sbin/" + tool, nil
	}
}

func TestPreflight(t *testing.T) {
	tests := []struct {
		name    string
		volumes []string
		change  func(*machine)
		want    []string // in the error; none = no error
	}{
		{"a complete machine passes", Volumes(), func(*machine) {}, nil},
		{"an ordinary user is told to become root", Volumes(), func(m *machine) { m.uid = 1000 }, []string{"as root"}},
		{"missing tools are named with their packages, each package once", Volumes(),
			func(m *machine) { m.look = without("mkfs.xfs", "xfs_growfs", "btrfs") },
			[]string{"missing: mkfs.xfs, xfs_growfs, btrfs;", "apt-get install btrfs-progs xfsprogs"}},
		{"tools of a filesystem that is not chosen are not needed", []string{"ext4", Block},
			func(m *machine) { m.look = without("mkfs.xfs", "mkfs.btrfs") }, nil},
		{"a kernel without a filesystem is told", []string{"btrfs"},
			func(m *machine) { m.filesystems = func() (string, error) { return "\text4\n", nil } }, []string{"kernel has no btrfs", "--fs"}},
		{"a filesystem that is a module is loaded", []string{"btrfs"}, func(m *machine) {
			m.filesystems = func() (string, error) { return "\text4\n", nil }
			m.modprobe = func(string) error { return nil }
		}, nil},
		{"a raw block volume needs no filesystem", []string{Block},
			func(m *machine) { m.filesystems = func() (string, error) { return "", nil } }, nil},
		{"missing loop devices are told", Volumes(),
			func(m *machine) { m.loopDevices = func() error { return os.ErrNotExist } }, []string{"no loop devices", "modprobe loop"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := complete()
			tt.change(&m)
			err := preflight(m, tt.volumes)
			if len(tt.want) == 0 && err != nil {
				t.Fatalf("got %v, want none", err)
			}
			for _, part := range tt.want {
				if err == nil || !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "\n") {
					t.Errorf("got %v, want one line with %q", err, part)
				}
			}
		})
	}
}

func TestMissingBinariesAreNamed(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "devcloud"), []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := findBinaries(dir)
	if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "cinder-csi-plugin")) || !strings.Contains(err.Error(), "--bin") {
		t.Errorf("got %v, want the path of the missing binary and the flag", err)
	}
}

func TestCapabilityIn(t *testing.T) {
	const sysResource = 24
	tests := []struct {
		name, status string
		want, fails  bool
	}{
		{"all capabilities", "Name:\tx\nCapPrm:\t0\nCapEff:\t000001ffffffffff\n", true, false},
		{"all but CAP_SYS_RESOURCE", "CapPrm:\t000001ffffffffff\nCapEff:\t000001fffeffffff\n", false, false},
		{"a status without the line", "Name:\tx\n", false, true},
		{"a status that is no number", "CapEff:\tx\n", false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := capabilityIn([]byte(tt.status), sysResource)
			if got != tt.want || (err != nil) != tt.fails {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}
