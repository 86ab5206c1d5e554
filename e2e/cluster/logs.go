package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// questionTimeout bounds each question to a cluster that may be ill.
const questionTimeout = 20 * time.Second

// CollectLogs copies the logs of every component and container, and what the API
// has to say, into a new folder below Logs, and returns it. It takes what it can
// get, from a cluster that is half dead too.
func CollectLogs(ctx context.Context) (string, error) {
	p, err := NewPaths()
	if err != nil {
		return "", err
	}
	if !exists(p.run()) {
		return "", ErrNotUp
	}
	target := filepath.Join(p.Logs(), time.Now().Format("20060102-150405"))
	if err := os.MkdirAll(target, 0o755); err != nil { // #nosec G301 -- logs are for everyone
		return "", err
	}
	failed := []error{copyTree(p.run("log"), filepath.Join(target, "host"))}
	for _, s := range specs() {
		failed = append(failed,
			copyTree(p.node(s.name, "log"), filepath.Join(target, s.name)),
			copyTree(p.node(s.name, "pods"), filepath.Join(target, s.name, "pods")))
	}
	if c, err := load(p); err == nil {
		c.collectAPI(ctx, target)
	}
	return target, errors.Join(failed...)
}

// collectAPI writes what the API tells; what it doesn't is told in its place.
func (c *Cluster) collectAPI(ctx context.Context, target string) {
	for file, args := range map[string][]string{
		"events.txt": {"get", "events", "--all-namespaces", "--sort-by=.lastTimestamp", "-o", "wide"},
		"objects.txt": {
			"get", "nodes,pods,persistentvolumeclaims,persistentvolumes,storageclasses,volumeattachments,csinodes,csidrivers,leases",
			"--all-namespaces", "-o", "wide",
		},
		"volumes.yaml":  {"get", "persistentvolumeclaims,persistentvolumes,volumeattachments,csinodes", "--all-namespaces", "-o", "yaml"},
		"snapshots.txt": {"get", "volumesnapshots,volumesnapshotcontents", "--all-namespaces", "-o", "yaml"},
		"pods.txt":      {"describe", "pods", "--all-namespaces"},
		"nodes.txt":     {"describe", "nodes"},
	} {
		ctx, cancel := context.WithTimeout(ctx, questionTimeout)
		out, err := c.Kubectl(ctx, append(args, "--request-timeout=15s")...)
		cancel()
		if err != nil {
			out = fmt.Appendf(out, "\n%v\n", err)
		}
		// Logs that can't be written are missed by nobody more than by whoever reads the others.
		_ = os.WriteFile(filepath.Join(target, file), out, 0o644) // #nosec G306 -- logs are for everyone
	}
}

// copyTree copies the plain files below a folder, if it is there.
func copyTree(from, to string) error {
	if !exists(from) {
		return nil
	}
	root, err := os.OpenRoot(from)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	return fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := root.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // rotated meanwhile
		}
		if err != nil {
			return err
		}
		return writeFile(filepath.Join(to, name), data, 0o644)
	})
}
