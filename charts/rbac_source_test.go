package charts

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The modules that require the sidecars.
const provisioner, sidecars = "../e2e/tools/provisioner", "../e2e/tools/sidecars"

// sidecarSources returns the code of each sidecar, in the version that the
// end-to-end tests run.
func sidecarSources(t *testing.T) map[string]string {
	t.Helper()
	code := map[string]string{}
	for sidecar, dirs := range map[string][]string{
		"provisioner": {
			module(t, provisioner, "github.com/kubernetes-csi/external-provisioner/v6"),
			module(t, provisioner, "sigs.k8s.io/sig-storage-lib-external-provisioner/v13"),
		},
		"attacher": {
			module(t, sidecars, "github.com/kubernetes-csi/external-attacher/v4"),
			module(t, sidecars, "github.com/kubernetes-csi/csi-lib-utils"), // its events are of the leader election only
		},
		"resizer":     {module(t, sidecars, "github.com/kubernetes-csi/external-resizer/v2")},
		"snapshotter": {module(t, sidecars, "github.com/kubernetes-csi/external-snapshotter/v8")},
	} {
		for _, dir := range dirs {
			code[sidecar] += goFiles(t, dir)
		}
	}
	return code
}

// TestEachRightIsUsed looks for the calls of the API in the sidecars' source.
// When a newer version stops calling, the right can go.
func TestEachRightIsUsed(t *testing.T) {
	code := sidecarSources(t)
	for sidecar, rights := range wanted() {
		for key, verbs := range rights {
			_, resource, found := strings.Cut(key, ":")
			if !found {
				resource = key
			}
			for _, verb := range strings.Fields(verbs) {
				if call := apiCall(t, resource, verb); !call.MatchString(code[sidecar]) {
					t.Errorf("%s: %s of %s: nothing in its source looks like %s", sidecar, verb, resource, call)
				}
			}
		}
	}
	// These are granted by other projects' charts, and nobody asks for them.
	for _, spare := range [][3]string{
		{"provisioner", "persistentvolumeclaims", "get"},
		{"provisioner", "persistentvolumes", "update"},
		{"provisioner", "storage.k8s.io/csistoragecapacities", "patch"},
		{"provisioner", "snapshot.storage.k8s.io/volumesnapshotcontents", "list"},
		{"attacher", "persistentvolumes", "get"},
		{"attacher", "storage.k8s.io/volumeattachments", "update"},
		{"attacher", "nodes", "list"},
		{"resizer", "persistentvolumeclaims", "get"},
		{"resizer", "persistentvolumeclaims/status", "update"},
		{"snapshotter", "snapshot.storage.k8s.io/volumesnapshotcontents", "update"},
		{"snapshotter", "snapshot.storage.k8s.io/volumesnapshotclasses", "get"},
	} {
		if call := apiCall(t, spare[1], spare[2]); call.MatchString(code[spare[0]]) {
			t.Errorf("%s: %s of %s is used after all: it looks like %s", spare[0], spare[2], spare[1], call)
		}
	}
}

// apiCall returns what a call of the API looks like in Go.
func apiCall(t *testing.T, resource, verb string) *regexp.Regexp {
	t.Helper()
	const (
		arguments = `\([^()]*(\([^()]*\)[^()]*)*\)`
		// What is looked up in a cache takes no context.
		asking = `\((ctx|context)\b`
	)
	switch resource {
	case "events":
		return regexp.MustCompile(`StartRecordingToSink\(`) // creates, and patches what happens again
	case "pods", "apps/replicasets":
		return regexp.MustCompile(`c\.Get\(context\.Background\(\), client\.ObjectKey`) // from owner to owner
	}
	if group, rest, _ := strings.Cut(resource, "/"); strings.Contains(group, ".") {
		resource = rest
	}
	plural, sub, _ := strings.Cut(resource, "/")
	client, ok := map[string]string{
		"persistentvolumes": "PersistentVolumes", "persistentvolumeclaims": "PersistentVolumeClaims", "nodes": "Nodes",
		"storageclasses": "StorageClasses", "volumeattributesclasses": "VolumeAttributesClasses", "volumeattachments": "VolumeAttachments",
		"csinodes": "CSINodes", "csistoragecapacities": "CSIStorageCapacities", "volumesnapshots": "VolumeSnapshots",
		"volumesnapshotclasses": "VolumeSnapshotClasses", "volumesnapshotcontents": "VolumeSnapshotContents",
	}[plural]
	if !ok {
		t.Fatalf("no client for %s", resource)
	}
	method := strings.ToUpper(verb[:1]) + verb[1:]
	switch {
	case sub == "status" && verb == "update":
		method = "UpdateStatus"
	case sub == "status" && verb == "patch":
		return regexp.MustCompile(`\b` + client + arguments + ` ?\. ?Patch\([^;]*("status"|subresources)`)
	case verb == "list", verb == "watch":
		// An informer, or the call itself.
		return regexp.MustCompile(`\bV1\(\)\.` + client + `\(\)(\.(Lister|Informer)\(\)|,|\s)|\b` + client + arguments + `\.` + method + asking)
	case plural == "csistoragecapacities" && verb != "create":
		return regexp.MustCompile(`clientFactory` + arguments + `\.` + method + asking)
	}
	return regexp.MustCompile(`\b` + client + arguments + ` ?\. ?` + method + asking)
}

// goFiles returns the code of a module, without its tests and what it vendors,
// with a blank for every line break.
func goFiles(t *testing.T, dir string) string {
	t.Helper()
	var code strings.Builder
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch name := entry.Name(); {
		case err != nil:
			return err
		case entry.IsDir() && (name == "vendor" || name == "client" || name == "test" || name == "snapshot-controller" || name == "common-controller"):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		code.WriteString(strings.Join(strings.Fields(string(text)), " ") + "\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return code.String()
}
