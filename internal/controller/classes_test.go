package controller_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/controller"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// classCase is a parameter of a class and what becomes of it: nothing is said of one
// that is accepted; "~" begins words of the log about one that is accepted without
// effect, "!" words of the error for one that is refused.
type classCase struct{ key, value, fsType, want string }

// storageClassCases are parameters of StorageClasses as people have them.
func storageClassCases() []classCase {
	cases := []classCase{
		{"type", "ssd", "", ""},
		{"type", "", "", ""},
		{"availability", "nova", "", ""},
		{"availability", "", "", ""},
		{"appendVolumeMetadata", `{"a": "b"}`, "", ""},
		{"appendVolumeMetadata", "", "", ""},
		{"appendVolumeMetadata", "a=b", "", "!JSON object of strings"},
		{"blockSize", "4096", "ext4", ""},
		{"blockSize", "4096", "btrfs", "!can't be set for this filesystem"},
		{"blockSize", "4k", "ext4", "!number of bytes"},
		{"blockSize", "0", "ext4", "!number of bytes"},
		{"inodeSize", "512", "xfs", ""},
		{"bytesPerInode", "8192", "ext3", ""},
		{"bytesPerInode", "8192", "xfs", "!can't be set for this filesystem"},
		{"encrypted", "luks2", "ext4", ""},
		{"encrypted", "LUKS2", "ext4", ""},
		{"encrypted", "false", "ext4", ""},
		{"encrypted", "False", "ext4", ""},
		{"encrypted", "true", "ext4", "!it must be luks2"},
		{"encrypted", "luks1", "ext4", "!it must be luks2"},
		// The side container has read it and leaves it in.
		{"fstype", "xfs", "xfs", "~csi.storage.k8s.io/fstype"},
		{"fstype", "xfs", "", "~csi.storage.k8s.io/fstype"},
		{"fstype", "", "ext4", "~csi.storage.k8s.io/fstype"},
		{"fstype", "xfs", "ext4", `!"xfs", but the volume capability asks for "ext4"`},
		{"csi.storage.k8s.io/fstype", "ext4", "ext4", "~the volume capability"},
		{"csi.storage.k8s.io/fstype", "ext4", "xfs", "!but the volume capability asks for"},
		// Fields of the class that were put a line too low.
		{"allowVolumeExpansion", "True", "", "~field of the StorageClass"},
		{"allowVolumeExpansion", "false", "", "~field of the StorageClass"},
		{"allowVolumeExpansion", "0", "", "~field of the StorageClass"},
		{"allowVolumeExpansion", "yes", "", "!true or false"},
		{"reclaimPolicy", "Retain", "", "~field of the StorageClass"},
		{"reclaimPolicy", "Keep", "", "!Delete and Retain"},
		{"volumeBindingMode", "waitForFirstConsumer", "", "~field of the StorageClass"},
		{"volumeBindingMode", "Later", "", "!Immediate and WaitForFirstConsumer"},
		{"mountOptions", "noatime", "", "~field of the StorageClass"},
		{"multiattach", "True", "", "~volume type"},
		{"multiattach", "maybe", "", "!true or false"},
		// What the side containers add or keep to themselves.
		{"csi.storage.k8s.io/provisioner-secret-name", "a", "", ""},
		{"csi.storage.k8s.io/anything", "a", "", ""},
		// Words of other drivers, and typing errors.
		{"volumeType", "ssd", "", `!"volumeType" is unknown; there are type, availability|nearest to it is type`},
		{"zone", "nova", "", "!nearest to it is availability"},
		{"tpye", "ssd", "", "!nearest to it is type"},
		{"availabilit", "nova", "", "!nearest to it is availability"},
		{"mkfsOption", "-m1", "", "!nearest to it is mkfsOptions"},
		{"block-size", "4096", "", "!nearest to it is blockSize"},
		{"appendMetadata", "{}", "", "!nearest to it is appendVolumeMetadata"},
		{"iops", "5", "", "!begin with csi.storage.k8s.io/"},
		{"incremental", "true", "", `!"incremental" is unknown`},
		{"migrationPolicy", "never", "", `!"migrationPolicy" is unknown`},
	}
	for _, call := range []string{"Provisioner", "ControllerPublish", "NodeStage", "NodePublish"} {
		for _, half := range []string{"Name", "Namespace"} {
			cases = append(cases, classCase{"csi" + call + "Secret" + half, "a", "", "~-secret-" + strings.ToLower(half)})
		}
	}
	// Options of mkfs in its own spellings, for ext4 unless the words name another.
	for words, want := range map[string]string{
		"-m 0 -E nodiscard": "", "-m0 -Enodiscard,lazy_itable_init=1": "", "-m0 -Ediscard -i1024": "", "-F": "", "-q -m 1": "", "-qFm1": "",
		"-O ^metadata_csum,^64bit": "", "-T largefile4": "", "-b4096": "", "xfs -K": "", "xfs -f -q": "", "xfs -Kf": "", "xfs -mreflink=0": "",
		"xfs -i size=1024 -K": "", "btrfs -K -f": "", "btrfs --nodesize=32768": "", "btrfs -n32k": "", "ext3 -j": "", "ext2 -m0": "",
		"-m": "!value is missing", "-m 51": "!from 0 to 50", "-n": "!it makes no filesystem", "-d /etc": "!a file or a device",
		"/dev/sda": "!no option", "-b 65536": "!power of two", "-U random": "!UUID", "ext2 -j": "!no journal", "xfs -N": "!it makes no filesystem",
		"xfs -d agcount=3": "!power of two", "btrfs -O zoned": "!zoned", "--nodesize=32768": "!no such option", "ntfs -q": "!unsupported filesystem",
	} {
		fsType := "ext4"
		if first, rest, _ := strings.Cut(words, " "); first[0] != '-' && first[0] != '/' {
			fsType, words = first, rest
		}
		cases = append(cases, classCase{"mkfsOptions", words, fsType, want}, classCase{"mkfs-options", words, fsType, want})
	}
	return cases
}

// spellings are a parameter in the ways in which people write it.
func spellings(c classCase) []classCase {
	spelt := []classCase{c}
	if strings.HasPrefix(c.key, "mkfs") && c.value != "-F" {
		return spelt // there are enough of them
	}
	for _, key := range []string{strings.ToLower(c.key), strings.ToUpper(c.key)} {
		if key != c.key && !strings.HasPrefix(c.want, `!"`) {
			spelt = append(spelt, classCase{key, c.value, c.fsType, c.want})
		}
	}
	return append(spelt, classCase{c.key, " " + c.value + "\n", c.fsType, c.want})
}

// judge compares what a call said, in its error or the log, with what was wanted.
func judge(t *testing.T, rpc string, c classCase, err error, warned string) {
	t.Helper()
	words, refused := strings.CutPrefix(c.want, "!")
	note, idle := strings.CutPrefix(c.want, "~")
	switch {
	case refused:
		for word := range strings.SplitSeq(words, "|") {
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), word) {
				t.Errorf("%s with %s=%q: %v, want it refused with %q", rpc, c.key, c.value, err, word)
			}
		}
	case err != nil:
		t.Errorf("%s with %s=%q: %v", rpc, c.key, c.value, err)
	case idle && !strings.Contains(warned, note), !idle && warned != "":
		t.Errorf("%s with %s=%q: the log says %q, want %q", rpc, c.key, c.value, warned, note)
	}
}

// listening returns a context whose log is heard, and what was heard since.
func (w *world) listening() (context.Context, func() string) {
	core, logs := observer.New(zap.WarnLevel)
	return logging.Into(w.within(time.Minute), zap.New(core)), func() string {
		var said []string
		for _, entry := range logs.TakeAll() {
			said = append(said, fmt.Sprint(entry.Message, entry.ContextMap()))
		}
		return strings.Join(said, "\n")
	}
}

func TestParametersOfStorageClasses(t *testing.T) {
	w := newWorld(t, devcloud.Instant())
	ssd := request("existing", 1)
	ssd.Parameters = map[string]string{"type": "ssd"}
	existing := w.create(ssd).GetVolumeId()
	n, made := 0, 1
	for _, row := range storageClassCases() {
		for _, c := range spellings(row) {
			// A server of its own for each: what it has warned of, it doesn't repeat.
			server := controller.New(w.config)
			n++
			use := capability(csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER)
			use.GetMount().FsType = c.fsType
			req := request(fmt.Sprintf("pvc-%d", n), 1)
			req.Parameters, req.VolumeCapabilities = map[string]string{c.key: c.value}, []*csi.VolumeCapability{use}
			ctx, heard := w.listening()
			_, err := server.CreateVolume(ctx, req)
			judge(t, "CreateVolume", c, err, heard())
			if err == nil {
				if _, err := server.CreateVolume(ctx, req); err != nil || heard() != "" {
					t.Errorf("CreateVolume repeated with %s: %v, or it is warned of twice", c.key, err)
				}
				made++
			}

			server = controller.New(w.config)
			resp, err := server.ValidateVolumeCapabilities(ctx, &csi.ValidateVolumeCapabilitiesRequest{
				VolumeId: existing, VolumeCapabilities: req.GetVolumeCapabilities(), Parameters: req.GetParameters(),
			})
			if err != nil || (resp.GetConfirmed() == nil) == (resp.GetMessage() == "") {
				t.Errorf("ValidateVolumeCapabilities with %s=%q: %v, %v", c.key, c.value, resp, err)
			}
			if row.key != "appendVolumeMetadata" { // a volume isn't asked for its metadata
				if resp.GetConfirmed() == nil {
					err = status.Error(codes.InvalidArgument, resp.GetMessage())
				}
				judge(t, "ValidateVolumeCapabilities", c, err, heard())
			}

			if _, err := server.GetCapacity(ctx, &csi.GetCapacityRequest{Parameters: req.GetParameters()}); err != nil || heard() != "" {
				t.Errorf("GetCapacity with %s=%q: %v", c.key, c.value, err)
			}
		}
	}
	if got := len(w.dump().Volumes); got != made {
		t.Errorf("%d volumes were made, want %d", got, made)
	}
}

func TestParametersOfVolumeSnapshotClasses(t *testing.T) {
	w := newWorld(t, devcloud.Instant())
	volume := w.create(request("pvc-1", 1)).GetVolumeId()
	for i, row := range []classCase{
		{"type", "snapshot", "", ""},
		{"type", "Backup", "", ""},
		{"type", "", "", ""},
		{"type", "clone", "", "!there are snapshot and backup"},
		{"availability", "nova", "", "~type is backup"},
		{"availability", "", "", ""},
		{"incremental", "false", "", ""},
		{"incremental", "true", "", "~type is backup"},
		{"incremental", "often", "", "!true or false"},
		{"force-create", "true", "", "~always snapshotted"},
		{"force-create", "false", "", "~always snapshotted"},
		{"force-create", "yes", "", "!true or false"},
		{"backup-max-duration-seconds-per-gb", "30", "", "~however long"},
		{"backup-max-duration-seconds-per-gb", "long", "", "!number of seconds"},
		{"appendVolumeMetadata", `{"a": "b"}`, "", ""},
		{"appendVolumeMetadata", `["a"]`, "", "!JSON object of strings"},
		{"appendVolumeMetadata", `{"a": "${pvc.name}"}`, "", "!${volumesnapshot.name}"},
		{"csiSnapshotterSecretName", "a", "", "~snapshotter-secret-name"},
		{"csiSnapshotterSecretNamespace", "a", "", "~snapshotter-secret-namespace"},
		{"csi.storage.k8s.io/snapshotter-list-secret-name", "a", "", ""},
		{"deletionPolicy", "Retain", "", "~field of the VolumeSnapshotClass"},
		{"deletionPolicy", "Keep", "", "!Delete and Retain"},
		{"increment", "true", "", "!nearest to it is incremental"},
		{"tpye", "backup", "", "!nearest to it is type"},
		{"fstype", "ext4", "", "!is unknown; there are type, availability, incremental"},
	} {
		for j, c := range spellings(row) {
			server := controller.New(w.config)
			ctx, heard := w.listening()
			req := &csi.CreateSnapshotRequest{Name: fmt.Sprintf("s-%d-%d", i, j), SourceVolumeId: volume, Parameters: map[string]string{c.key: c.value}}
			_, err := server.CreateSnapshot(ctx, req)
			judge(t, "CreateSnapshot", c, err, heard())
			if _, again := server.CreateSnapshot(ctx, req); (err == nil) != (again == nil) || heard() != "" {
				t.Errorf("CreateSnapshot repeated with %s: %v, or it is warned of twice", c.key, again)
			}
		}
	}
}

func TestParametersOfVolumeAttributesClasses(t *testing.T) {
	w := newWorld(t, devcloud.Instant())
	volume := w.create(request("pvc-1", 1)).GetVolumeId()
	for i, row := range []classCase{
		{"type", "standard", "", ""},
		{"type", "", "", ""},
		{"migrationPolicy", "never", "", ""},
		{"migrationPolicy", "On-Demand", "", ""},
		{"migrationPolicy", "", "", ""},
		{"migrationPolicy", "maybe", "", "!there are never and on-demand"},
		{"metadata/a", "b", "", ""},
		{"metadata/", "b", "", "!the key of the metadata is empty"},
		{"metadata/cinder.csi.openstack.org/cluster", "b", "", "!driver's own"},
		{"csi.storage.k8s.io/pvc/name", "data", "", ""},
		{"migration-policy", "never", "", "!nearest to it is migrationPolicy"},
		{"volumeType", "ssd", "", `!"volumeType" is unknown; there are type, migrationPolicy|nearest to it is type`},
		{"fstype", "ext4", "", "!is unknown"},
		{"allowVolumeExpansion", "true", "", "!is unknown"},
	} {
		for j, c := range spellings(row) {
			ctx, heard := w.listening()
			mutable := map[string]string{c.key: c.value}
			_, err := w.ControllerModifyVolume(ctx, &csi.ControllerModifyVolumeRequest{VolumeId: volume, MutableParameters: mutable})
			judge(t, "ControllerModifyVolume", c, err, heard())
			req := request(fmt.Sprintf("m-%d-%d", i, j), 1)
			req.MutableParameters = mutable
			_, err = w.CreateVolume(ctx, req)
			judge(t, "CreateVolume", c, err, heard())
			resp, err := w.ValidateVolumeCapabilities(ctx, &csi.ValidateVolumeCapabilitiesRequest{
				VolumeId: volume, VolumeCapabilities: req.GetVolumeCapabilities(), MutableParameters: mutable,
			})
			if err == nil && resp.GetConfirmed() == nil {
				err = status.Error(codes.InvalidArgument, resp.GetMessage())
			}
			judge(t, "ValidateVolumeCapabilities", c, err, heard())
		}
	}
}

// TestEveryDeployersClassMakesAVolume has the classes of the deployers of this driver's
// predecessor, as external-provisioner and external-snapshotter pass them on.
func TestEveryDeployersClassMakesAVolume(t *testing.T) {
	w := newWorld(t, devcloud.Instant())
	named := map[string]string{"csi.storage.k8s.io/pvc/name": "c", "csi.storage.k8s.io/pvc/namespace": "default", "csi.storage.k8s.io/pv/name": "p"}
	for name, c := range map[string]struct {
		fsType             string
		class, snapshotted map[string]string
	}{
		"upstream":   {"ext4", map[string]string{"availability": "nova"}, map[string]string{"force-create": "false"}},
		"gardener":   {"ext4", map[string]string{"type": "standard", "availability": "nova"}, nil},
		"kubeone":    {"ext4", nil, map[string]string{"force-create": "true"}},
		"kubespray":  {"ext4", map[string]string{"availability": "nova", "allowVolumeExpansion": "False"}, map[string]string{"force-create": "true"}},
		"azimuth":    {"xfs", map[string]string{"availability": "nova", "fstype": "xfs"}, nil},
		"deckhouse":  {"ext4", map[string]string{"type": "__DEFAULT__"}, nil},
		"OVH":        {"ext4", map[string]string{"fsType": "ext4", "type": "standard"}, nil},
		"in-tree":    {"ext4", map[string]string{"Type": "ssd", "Availability": "nova"}, nil},
		"reference":  {"ext4", map[string]string{"mkfs-options": "-E nodiscard", "appendVolumeMetadata": `{"team": "a"}`}, map[string]string{"type": "backup", "incremental": "false", "backup-max-duration-seconds-per-gb": "20"}},
		"templated":  {"ext4", map[string]string{"availability": "", "type": ""}, map[string]string{"type": ""}},
		"with blank": {"ext4", map[string]string{"type": "ssd "}, nil},
	} {
		req := request("pvc-"+name, 1)
		req.Parameters = maps.Clone(named)
		maps.Copy(req.Parameters, c.class)
		use := capability(csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER)
		use.GetMount().FsType = c.fsType
		req.VolumeCapabilities = []*csi.VolumeCapability{use}
		created, err := w.CreateVolume(w.within(time.Minute), req)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_, err = w.CreateSnapshot(w.within(time.Minute), &csi.CreateSnapshotRequest{
			Name: "snap-" + name, SourceVolumeId: created.GetVolume().GetVolumeId(), Parameters: c.snapshotted,
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOneClassIsWarnedOfOnce(t *testing.T) {
	w := newWorld(t, devcloud.Instant())
	ctx, heard := w.listening()
	for name, class := range map[string]map[string]string{
		"a": {"allowVolumeExpansion": "true", "type": "ssd"},
		"b": {"allowVolumeExpansion": "true", "type": "standard"},
	} {
		for i := range 3 {
			req := classRequest(fmt.Sprintf("pvc-%s-%d", name, i), class)
			req.Parameters["csi.storage.k8s.io/pvc/name"] = req.GetName()
			if _, err := w.CreateVolume(ctx, req); err != nil {
				t.Fatal(err)
			}
		}
		if said := heard(); strings.Count(said, "allowVolumeExpansion") != 2 || strings.Contains(said, "\n") {
			t.Errorf("class %s: the log says %q", name, said)
		}
	}
}

func TestTwoSpellingsThatContradictAreRefused(t *testing.T) {
	w := newWorld(t, devcloud.Instant())
	for _, class := range []map[string]string{
		{"type": "ssd", "Type": "standard"}, {"mkfsOptions": "-m 1", "mkfs-options": "-m 2"}, {"blockSize": "4096", "BLOCKSIZE": "1024"},
	} {
		_, err := w.CreateVolume(w.within(time.Minute), classRequest("pvc-1", class))
		wantCode(t, err, codes.InvalidArgument)
		if !slices.ContainsFunc([]string{"twice", "two spellings"}, func(s string) bool { return strings.Contains(err.Error(), s) }) {
			t.Errorf("%v: %v", class, err)
		}
	}
	w.create(classRequest("pvc-2", map[string]string{"type": "ssd", "Type": "ssd ", "mkfs-options": "-m 1", "mkfsOptions": "-m 1"}))
}
