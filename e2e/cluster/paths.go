package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// DefaultDir is where everything lives unless DirVariable names another place.
const (
	DefaultDir  = "/var/tmp/cinder-csi-e2e"
	DirVariable = "CINDER_E2E_DIR"
)

// maxDir is the longest directory whose sockets still have a name that the
// kernel takes (108 bytes).
const maxDir = 70

// Paths are the places below the state directory.
type Paths struct{ Dir string }

// NewPaths returns the paths below DirVariable's directory.
func NewPaths() (Paths, error) {
	dir := os.Getenv(DirVariable)
	if dir == "" {
		dir = DefaultDir
	}
	if !filepath.IsAbs(dir) || len(dir) > maxDir {
		return Paths{}, fmt.Errorf("%s=%s: use an absolute path of at most %d characters", DirVariable, dir, maxDir)
	}
	return Paths{Dir: filepath.Clean(dir)}, nil
}

// Bin is a program.
func (p Paths) Bin(name string) string { return filepath.Join(p.Dir, "bin", name) }

// Images is where the image archives are.
func (p Paths) Images() string { return filepath.Join(p.Dir, "images") }

// Logs is where the logs of failed runs are kept.
func (p Paths) Logs() string { return filepath.Join(p.Dir, "logs") }

func (p Paths) lock() string { return filepath.Join(p.Dir, "lock") }
func (p Paths) run(parts ...string) string {
	return filepath.Join(append([]string{p.Dir, "run"}, parts...)...)
}

// Kubeconfig is the administrator's.
func (p Paths) Kubeconfig() string          { return p.run("admin.kubeconfig") }
func (p Paths) record() string              { return p.run("cluster.json") }
func (p Paths) pki(name string) string      { return p.run("pki", name) }
func (p Paths) log(component string) string { return p.run("log", component+".log") }

// node is the directory of a node's own state.
func (p Paths) node(name string, parts ...string) string {
	return p.run(append([]string{"nodes", name}, parts...)...)
}

// cloudState is devcloud's state directory, device the /dev of a node's server.
func (p Paths) cloudState() string { return p.run("devcloud") }
func (p Paths) cloudConf() string  { return p.run("cloud.conf") }
func (p Paths) devices(node string) string {
	return filepath.Join(p.cloudState(), "disks", "servers", node, "dev")
}

// ErrNoSource says that the program was started outside of a checkout.
var ErrNoSource = errors.New("not in a checkout of cinder-csi: run this from its e2e folder")

// Source finds the checkout that contains the working directory.
func Source() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "e2e", "tools", "kube", "go.mod")); err == nil {
			return dir, nil
		}
		if dir == "/" {
			return "", ErrNoSource
		}
	}
}
