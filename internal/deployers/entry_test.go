package deployers

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v2"
)

// deployer is a file of testdata. Texts may have the placeholders of
// environment.placeholders, as in @auth-url@.
type deployer struct {
	name string

	// Source is where this is from, Commit or Date its state there.
	Source, Commit, Date string
	// Note says what a reader of the table may want to know.
	Note string
	// Zones are those of the cloud, by default nova; the node is in the first.
	Zones []string
	// Types are volume types of the cloud, besides standard and __DEFAULT__.
	Types []string
	// Files are in each container, by their paths.
	Files map[string]string
	// Containers are those of the plugin, one for each pod that has one.
	Containers []container
	// StorageClasses and VolumeSnapshotClasses are the parameters of each.
	StorageClasses        []map[string]string `yaml:"storageClasses"`
	VolumeSnapshotClasses []map[string]string `yaml:"volumeSnapshotClasses"`
	// Secrets are those that the classes name.
	Secrets map[string]string
	// ExtraCreateMetadata is the provisioner's flag of that name.
	ExtraCreateMetadata bool `yaml:"extraCreateMetadata"`
}

// container is the plugin's container of a pod.
type container struct {
	// Role is what the pod is for, "controller" or "node". Many manifests let each
	// pod serve both.
	Role  string
	Args  []string
	Env   map[string]string
	Files map[string]string
	// ReadOnlyRoot is readOnlyRootFilesystem of the security context.
	ReadOnlyRoot bool `yaml:"readOnlyRootFilesystem"`
	// Fails is a part of the error that is to come, with the reason why that is
	// right in Because.
	Fails, Because string
}

// readDeployers reads testdata, in the order of the names.
func readDeployers() ([]deployer, error) {
	paths, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(paths) == 0 {
		return nil, cmp.Or(err, fs.ErrNotExist)
	}
	var all []deployer
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		d := deployer{name: strings.TrimSuffix(filepath.Base(path), ".yaml")}
		if err = yaml.UnmarshalStrict(content, &d); err == nil {
			err = d.complete()
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, d)
	}
	return all, nil
}

// complete sets what is left out, and refuses what makes no test.
func (d *deployer) complete() error {
	if len(d.Zones) == 0 {
		d.Zones = []string{"nova"}
	}
	switch {
	case d.Source == "" || d.Commit == "" && d.Date == "":
		return errors.New("the source is missing, or its commit and date")
	case len(d.Containers) == 0:
		return errors.New("there is no container")
	case slices.ContainsFunc(d.Containers, container.makesVolumes) && (len(d.StorageClasses) == 0 || len(d.VolumeSnapshotClasses) == 0):
		return errors.New("there is a controller, but no StorageClass or no VolumeSnapshotClass; one without parameters is {}")
	}
	for _, c := range d.Containers {
		switch {
		case c.Role == "controller" && !c.controls(), c.Role == "node" && !c.isNode(), c.Role != "controller" && c.Role != "node":
			return fmt.Errorf("role %q: it is neither controller nor node, or the arguments say that it isn't served", c.Role)
		case c.socket() == "/":
			return fmt.Errorf("role %s: the arguments have no --endpoint", c.Role)
		case (c.Fails == "") != (c.Because == ""):
			return fmt.Errorf("role %s: fails goes with because", c.Role)
		}
	}
	return nil
}

// flag is the value of a flag, with variables in their place; "true" for one
// without a value, "" when it isn't given.
func (c container) flag(name string) string {
	for _, arg := range c.arguments() {
		if key, value, given := strings.Cut(strings.TrimLeft(arg, "-"), "="); key == name && strings.HasPrefix(arg, "-") {
			if !given {
				value = "true"
			}
			return value
		}
	}
	return ""
}

// arguments have the environment's values in the place of $(NAME), as the kubelet
// puts them there.
func (c container) arguments() []string {
	variable := regexp.MustCompile(`\$\((\w+)\)`)
	args := slices.Clone(c.Args)
	for i, arg := range args {
		args[i] = variable.ReplaceAllStringFunc(arg, func(s string) string {
			if value, known := c.Env[s[2:len(s)-1]]; known {
				return value
			}
			return s
		})
	}
	return args
}

// socket is the path of the CSI socket; the working directory is the root.
func (c container) socket() string {
	return filepath.Join("/", strings.TrimPrefix(c.flag("endpoint"), "unix://"))
}

func (c container) controls() bool     { return c.flag("provide-controller-service") != "false" }
func (c container) isNode() bool       { return c.flag("provide-node-service") != "false" }
func (c container) makesVolumes() bool { return c.Role == "controller" }
func (c container) topology() bool     { return c.flag("with-topology") != "false" }
