package blockdev

import (
	"errors"
	"strings"
	"testing"
)

// mapping makes a device-mapper device upon disks of the tree.
func (tr *tree) mapping(name, number, title, kind string, below ...string) {
	tr.t.Helper()
	tr.disk(name, number, map[string]string{"dm/name": title + "\n", "dm/uuid": kind + "\n", "ro": "0\n"})
	tr.dir("sys/block/" + name + "/slaves")
	for _, disk := range below {
		tr.link("../../"+disk, "sys/block/"+name+"/slaves/"+disk)
		tr.link("../../"+name, "sys/block/"+disk+"/holders/"+name)
	}
}

func luksKind(title string) string {
	return "CRYPT-LUKS2-" + strings.Repeat("0a", 16) + "-" + title
}

func TestAMappingBelongsToTheDiskThatItIsBuiltUpon(t *testing.T) {
	title := MappingTitle(volumeA)
	tests := map[string]struct {
		make func(*tree)
		on   bool
	}{
		"its own": {func(tr *tree) { tr.mapping("dm-0", "253:0", title, luksKind(title), "vdb") }, true},
		"of a disk that has gone, whose name was given to another": {func(tr *tree) {
			tr.mapping("dm-0", "253:0", title, luksKind(title), "vdb")
			tr.remove("sys/block/vdb/holders/dm-0")
		}, false},
		"of another disk": {func(tr *tree) {
			tr.disk("vdc", "252:32", map[string]string{"serial": volumeC[:20]})
			tr.mapping("dm-0", "253:0", title, luksKind(title), "vdc")
		}, false},
		"of two disks": {func(tr *tree) {
			tr.disk("vdc", "252:32", map[string]string{"serial": volumeC[:20]})
			tr.mapping("dm-0", "253:0", title, luksKind(title), "vdb", "vdc")
		}, false},
		"of a disk with the number changed": {func(tr *tree) {
			tr.mapping("dm-0", "253:0", title, luksKind(title), "vdb")
			tr.remove("sys/block/dm-0/slaves/vdb")
			tr.file("sys/block/dm-0/slaves/vdb/dev", "252:99\n")
		}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			tr := newTree(t)
			tr.disk("vdb", "252:16", map[string]string{"serial": volumeA[:20]})
			d, err := tr.system().Find(t.Context(), volumeA)
			if err != nil {
				t.Fatal(err)
			}
			test.make(tr)
			m, found, err := tr.system().Mapping(strings.ToUpper(volumeA))
			if err != nil || !found || m.Path != tr.path("dev/dm-0") || m.Number != 253<<8 || m.Title != title || m.Size != gib {
				t.Fatalf("found %+v, %t, %v", m, found, err)
			}
			if on, err := m.On(d); err != nil || on != test.on {
				t.Errorf("it is on the disk: %t, %v, want %t", on, err, test.on)
			}
			if err := m.Verify(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAVolumesOwnMappingIsNoHolder(t *testing.T) {
	title := MappingTitle(volumeA)
	for name, test := range map[string]struct {
		title, kind string
		safe        bool
	}{
		"its own":                            {title, luksKind(title), true},
		"of LUKS1":                           {title, strings.Replace(luksKind(title), "LUKS2", "LUKS1", 1), false},
		"of another volume":                  {MappingTitle(volumeC), luksKind(MappingTitle(volumeC)), false},
		"with its name, but somebody else's": {title, "LVM-" + title, false},
		"with its name within another":       {title + "-x", luksKind(title + "-x"), false},
		"LVM":                                {"vg-lv", "LVM-0a0b", false},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTree(t)
			tr.disk("vdb", "252:16", map[string]string{"serial": volumeA[:20]})
			tr.mapping("dm-0", "253:0", test.title, test.kind, "vdb")
			d, err := tr.system().Find(t.Context(), volumeA)
			if safe := err == nil; safe != test.safe || !safe && !errors.Is(err, ErrUnsafe) {
				t.Fatalf("found %+v, %v", d, err)
			}
			if test.safe { // to whoever wants to use the disk itself, it is one
				if users, err := Holders(d); err != nil || len(users) != 1 || !users[0].Own || !users[0].InUse {
					t.Errorf("held by %v, %v", users, err)
				}
			}
		})
	}
}

func TestNoMappingAndMappingsThatAreNone(t *testing.T) {
	tr := newTree(t)
	if _, found, err := tr.system().Mapping(volumeA); found || err != nil {
		t.Errorf("found: %t, %v", found, err)
	}
	if _, _, err := tr.system().Mapping("x"); !errors.Is(err, ErrVolumeID) {
		t.Errorf("got %v", err)
	}
	tr.mapping("dm-0", "253:0", MappingTitle(volumeA), "LVM-x")
	if _, _, err := tr.system().Mapping(volumeA); !errors.Is(err, ErrUnsafe) {
		t.Errorf("got %v, want it to be refused", err)
	}
}

func TestAllDisksWithTheSerialAreCandidates(t *testing.T) {
	tr := newTree(t)
	if disks, err := tr.system().Candidates(t.Context(), volumeA); err != nil || len(disks) != 0 {
		t.Errorf("%+v, %v", disks, err)
	}
	for i, name := range []string{"vdb", "vdc", "vdd"} {
		serial := volumeA[:20]
		if name == "vdd" {
			serial = volumeC[:20]
		}
		tr.disk(name, []string{"252:16", "252:32", "252:48"}[i], map[string]string{"serial": serial})
	}
	tr.remove("dev/vdc") // and its node has gone
	disks, err := tr.system().Candidates(t.Context(), volumeA)
	if err != nil || len(disks) != 2 || disks[0].Name != "vdb" || disks[1].Name != "vdc" || disks[1].Number != 252<<8|32 {
		t.Errorf("%+v, %v", disks, err)
	}
	if _, err := tr.system().Candidates(t.Context(), "x"); !errors.Is(err, ErrVolumeID) {
		t.Errorf("got %v", err)
	}
}
