// Package driver wires the plugin together: configuration, cloud, services,
// gRPC server, metrics; and starts and stops it.
package driver

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/cinder-csi/cinder-csi/internal/admin"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/kube"
	"github.com/cinder-csi/cinder-csi/internal/node"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
	"github.com/cinder-csi/cinder-csi/internal/rpc"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
	"github.com/cinder-csi/cinder-csi/internal/zone"
)

// Registry takes metrics and gives them out; *prometheus.Registry is one.
type Registry interface {
	prometheus.Registerer
	prometheus.Gatherer
}

// Config is what the command line says.
type Config struct {
	// Version of the plugin, and the revision of the source that it was built from.
	Version, Revision string
	// Endpoint is where the CSI services listen; see rpc.ParseEndpoint.
	Endpoint string
	// CloudConfig are the paths of cloud.conf files, later ones overwriting.
	CloudConfig []string
	// CloudNames are the clouds of CloudConfig to use; "" is the one of the
	// section without a name.
	CloudNames []string
	// Cluster is the name that volumes are tagged with.
	Cluster string
	// Controller and Node are the roles to serve.
	Controller, Node bool
	// Topology binds volumes to availability zones.
	Topology bool
	// AllowUnknownParameters turns the refusal of parameters of a StorageClass
	// or VolumeSnapshotClass that are unknown into a warning.
	AllowUnknownParameters bool
	// PVCAnnotations has the controller read the annotations of claims, from
	// the cluster that Kubernetes describes.
	PVCAnnotations bool
	Kubernetes     kube.Options
	// Events has the controller tell in events of its pod what is wrong with clouds and
	// credentials.
	Events bool
	// StartupTaint is the key of the taint that new nodes join with, which the controller
	// removes once the driver is registered on them; empty: none is removed.
	StartupTaint string
	// CountOrphans has the controller count what is in the clouds and Kubernetes has no
	// object of; CountOrphansEvery is the pause between, 10 min where it is 0.
	CountOrphans      bool
	CountOrphansEvery time.Duration
	// TagAnnotationPrefix begins the annotations of claims and VolumeSnapshots that are
	// recorded as metadata: what follows is the key. Empty: none are.
	TagAnnotationPrefix string
	// ExtraTags are recorded as metadata of all volumes, snapshots and backups.
	ExtraTags map[string]string
	// ZoneFallback is the zone of a server of which nothing tells one, "" for an empty
	// label; nil: the kubelet doesn't register the driver on it.
	ZoneFallback *string
	// WellKnownZone makes nodes tell their zone as topology.kubernetes.io/zone besides, and
	// volumes usable from nodes that have just that label.
	WellKnownZone bool
	// AdditionalTopology is reported by the node besides its zone.
	AdditionalTopology map[string]string
	// HTTPEndpoint is where /metrics, /healthz and /readyz listen; empty for none.
	HTTPEndpoint string
	// AdminEndpoint is the unix socket of the admin package; see rpc.ParseEndpoint. Empty:
	// admin.sock beside the one of Endpoint, if that is a unix socket. NoAdmin: none.
	AdminEndpoint string
	// LogLevel is the level of the logger, which the admin socket changes; nil: there is no
	// such socket.
	LogLevel *zap.AtomicLevel
	// Metrics takes the metrics, and is what /metrics shows; a registry of the plugin's own
	// where it is nil.
	Metrics Registry
	// Tracing sends spans; see the tracing package for where they go.
	Tracing bool
	// KubeletRegistrationPath is the CSI socket as the kubelet sees it. Where it
	// is set, the node role registers itself with the kubelet.
	KubeletRegistrationPath string
	// PluginRegistrationPath is the kubelet's directory of registration sockets.
	PluginRegistrationPath string
	// SecretAuthURLs are the addresses that the credentials of secrets may lead to; see
	// openstack.ParseAddresses. None: such secrets are refused.
	SecretAuthURLs []string
	// MaxSecretClouds is the largest number of sets of such credentials in use; 100
	// where it is 0.
	MaxSecretClouds int
	// LoginTimeout bounds one attempt to log in at a cloud; 2 min where it is 0.
	LoginTimeout time.Duration
	// Limits hold the requests to each cloud back.
	Limits openstack.Limits
	// UserAgent is added to the HTTP user agent.
	UserAgent []string
	// NodeID is this server's UUID, used where the cloud does not tell it.
	NodeID string
	// NodeName is the name of this server's Node, for the log; its hostname where it is
	// empty.
	NodeName string
	// ReservedAttachments is how many volumes something else than the driver attaches to the
	// server, 0 to 255: so many fewer are announced to Kubernetes.
	ReservedAttachments int64
	// DefaultFSType is the filesystem of volumes that ask for none.
	DefaultFSType string
	// MetadataURL is the metadata service.
	MetadataURL string
	// ReloadEvery is how often the files of CloudConfig, and those that they
	// name, are looked at for changes; 30 s where it is 0.
	ReloadEvery time.Duration
	// DevelopmentDeviceDir makes the node role accept loop devices below it.
	DevelopmentDeviceDir string
}

// roles are the names of those that are served.
func (c *Config) roles() (roles []string) {
	if c.Controller {
		roles = append(roles, "controller")
	}
	if c.Node {
		roles = append(roles, "node")
	}
	return roles
}

// NoAdmin is the AdminEndpoint of a plugin without one.
const NoAdmin = "none"

// adminSocket returns the path of the admin socket, empty for none. Only of a valid Config.
func (c *Config) adminSocket() string {
	endpoint, err := rpc.ParseEndpoint(cmp.Or(c.AdminEndpoint, c.Endpoint))
	switch {
	case err != nil || endpoint.Network != "unix":
		return ""
	case c.AdminEndpoint == "":
		return filepath.Join(filepath.Dir(endpoint.Address), admin.Socket)
	}
	return endpoint.Address
}

func (c *Config) validateAdmin() error {
	if c.AdminEndpoint == "" || c.AdminEndpoint == NoAdmin {
		return nil
	}
	endpoint, err := rpc.ParseEndpoint(c.AdminEndpoint)
	switch own, _ := rpc.ParseEndpoint(c.Endpoint); {
	case err != nil:
		return fmt.Errorf("--admin-endpoint: %w", err)
	case endpoint.Network != "unix":
		return fmt.Errorf("--admin-endpoint=%s: want unix://PATH or %s: whoever can open a TCP port, on a node also one of the loopback, could read profiles of the plugin", c.AdminEndpoint, NoAdmin)
	case endpoint == own:
		return fmt.Errorf("--admin-endpoint=%s is --endpoint, too: choose another path", c.AdminEndpoint)
	}
	return nil
}

// Validate checks what can be checked without looking anywhere. Errors name
// the flag.
func (c *Config) Validate() error {
	if c.Endpoint == "" {
		return errors.New("--endpoint is missing")
	}
	if _, err := rpc.ParseEndpoint(c.Endpoint); err != nil {
		return fmt.Errorf("--endpoint: %w", err)
	}
	if err := c.validateAdmin(); err != nil {
		return err
	}
	if !c.Controller && !c.Node {
		return errors.New("--provide-controller-service=false and --provide-node-service=false leave nothing to do")
	}
	if c.Controller && len(c.CloudConfig) == 0 {
		return errors.New("--cloud-config is missing: the controller role needs a cloud.conf")
	}
	if _, err := filesystem.TypeOf(c.DefaultFSType); err != nil {
		return fmt.Errorf("--default-fstype: %w", err)
	}
	if _, err := openstack.ParseAddresses(c.SecretAuthURLs); err != nil {
		return fmt.Errorf("--secret-auth-urls: %w", err)
	}
	if min(float64(c.LoginTimeout), float64(c.MaxSecretClouds), c.Limits.Reads, c.Limits.Writes, float64(c.Limits.Burst)) < 0 {
		return errors.New("--cloud-login-timeout, --max-secret-clouds, --cloud-reads-per-second, --cloud-writes-per-second and --cloud-request-burst can't be negative")
	}
	if err := volumes.CheckMetadata(c.ExtraTags); err != nil {
		return fmt.Errorf("--extra-tags: %w", err)
	}
	switch prefix := c.TagAnnotationPrefix; {
	case prefix == "":
	case !c.PVCAnnotations:
		return errors.New("--tag-annotation-prefix needs --pvc-annotations, with which annotations are read")
	case strings.HasPrefix(volumes.ReservedPrefix, prefix):
		return fmt.Errorf("--tag-annotation-prefix=%s: the driver's own annotations begin with %s", prefix, volumes.ReservedPrefix)
	}
	if err := checkStartupTaint(c.StartupTaint); err != nil {
		return fmt.Errorf("--startup-taint=%s: %w", c.StartupTaint, err)
	}
	return c.validateNode()
}

// checkStartupTaint refuses taints that are Kubernetes' own: a node that isn't ready, for
// example, must not become so by a typing error.
func checkStartupTaint(key string) error {
	domain, _, _ := strings.Cut(key, "/")
	switch wrong := validation.IsQualifiedName(key); {
	case key == "":
		return nil
	case len(wrong) > 0:
		return errors.New("as the key of a taint, " + strings.Join(wrong, "; "))
	case domain == "kubernetes.io", strings.HasSuffix(domain, ".kubernetes.io"), strings.HasSuffix(domain, ".k8s.io"):
		return errors.New("this taint is Kubernetes' own; take one that only your nodes' set-up knows, as cinder.csi.openstack.org/agent-not-ready")
	}
	return nil
}

func (c *Config) validateNode() error {
	if c.ZoneFallback != nil && *c.ZoneFallback != "" && zone.Label(*c.ZoneFallback) == "" {
		return fmt.Errorf("--zone-fallback=%s: nothing of it can be the value of a label", *c.ZoneFallback)
	}
	if c.ReservedAttachments < 0 || c.ReservedAttachments >= node.MaxAttachLimit {
		return fmt.Errorf("--reserved-volume-attachments=%d: want the number of volumes that something else attaches to this server, 0 to %d",
			c.ReservedAttachments, node.MaxAttachLimit-1)
	}
	if c.KubeletRegistrationPath == "" {
		return nil
	}
	if !c.Node {
		return errors.New("--kubelet-registration-path is for the node role: remove it, or --provide-node-service=false")
	}
	if !filepath.IsAbs(c.KubeletRegistrationPath) {
		return fmt.Errorf("--kubelet-registration-path=%s: want the absolute path of the CSI socket on the node", c.KubeletRegistrationPath)
	}
	if endpoint, err := rpc.ParseEndpoint(c.Endpoint); err != nil || endpoint.Network != "unix" {
		return fmt.Errorf("--endpoint=%s: the kubelet, which --kubelet-registration-path is for, only speaks to unix sockets", c.Endpoint)
	}
	if c.PluginRegistrationPath == "" {
		return errors.New("--plugin-registration-path is empty: it names the directory where the kubelet looks for --kubelet-registration-path")
	}
	return nil
}
