package cluster

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
)

// snapshotModule has the definitions of the snapshot API, at the version that
// the snapshotter is built with.
const snapshotModule = "github.com/kubernetes-csi/external-snapshotter/client/v8"

func (p Paths) snapshotController() process {
	return p.component("snapshot-controller", "--kubeconfig="+p.pki("admin.kubeconfig"), "--leader-election=false",
		"--http-endpoint="+controlIP+":9809", "--v=2")
}

// startSnapshots installs the snapshot API and its controller, which a cluster
// has once, whatever its drivers.
func (c *Cluster) startSnapshots(ctx context.Context, g groups) error {
	p := c.paths()
	find := command(ctx, "go", "list", "-m", "-f", "{{.Dir}}", snapshotModule)
	find.Dir = filepath.Join(c.Source, "e2e", "tools", "sidecars")
	dir, err := output(find)
	if err != nil {
		return err
	}
	// Those of group snapshots too: the controller waits half a minute for them.
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "config", "crd", "*snapshot.storage.k8s.io_*.yaml"))
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("no definitions of the snapshot API in %s", dir)
	}
	if err != nil {
		return err
	}
	apply := []string{"apply", "--server-side", "--force-conflicts"}
	established := []string{"wait", "--for=condition=Established", "--timeout=60s"}
	for _, file := range files {
		apply = append(apply, "--filename="+file)
		established = append(established, "--filename="+file)
	}
	for _, args := range [][]string{apply, established} {
		if _, err := c.Kubectl(ctx, args...); err != nil {
			return err
		}
	}
	return g.ensure(ctx, p.snapshotController(), componentPatience, httpOK("http://"+controlIP+":9809/metrics"))
}
