package main

import (
	"io"
	"time"

	"github.com/spf13/pflag"

	"github.com/cinder-csi/cinder-csi/internal/driver"
)

// options are what the command line says to a plugin that serves. It has every flag of
// the reference driver.
type options struct {
	driver        driver.Config
	verbosity     int
	logFormat     string
	showVersion   bool
	withoutEffect []string
}

// group is a part of the flags, as --help tells them.
type group struct {
	title string
	flags *pflag.FlagSet
}

func driverFlags(cfg *driver.Config) []group {
	return []group{
		{"Roles", rolesFlags(cfg)},
		{"Clouds", cloudsFlags(cfg)},
		{"Controller role", controllerFlags(cfg)},
		{"Node role", nodeFlags(cfg)},
	}
}

func rolesFlags(cfg *driver.Config) *pflag.FlagSet {
	fs := newFlags()
	fs.StringVar(&cfg.Endpoint, "endpoint", "", "where to listen: unix://PATH or tcp://HOST:PORT (required)")
	fs.BoolVar(&cfg.Controller, "provide-controller-service", true, "serve the controller role")
	fs.BoolVar(&cfg.Node, "provide-node-service", true, "serve the node role")
	fs.StringVar(&cfg.HTTPEndpoint, "http-endpoint", "", "host:port to serve /metrics, /healthz and /readyz on; empty for none")
	fs.StringVar(&cfg.AdminEndpoint, "admin-endpoint", "", "unix://PATH of a socket for the commands log-level and profile, which only the plugin's own user may connect to; if empty, admin.sock beside the socket of --endpoint; none for none")
	fs.BoolVar(&cfg.Tracing, "tracing", false, "send OpenTelemetry traces by OTLP over HTTP, to where the variables OTEL_EXPORTER_OTLP_* say; the variables OTEL_TRACES_SAMPLER* say which calls are traced")
	fs.BoolVar(&cfg.Topology, "with-topology", true, "bind volumes to availability zones")
	fs.BoolVar(&cfg.WellKnownZone, "well-known-zone", false, "also report zones as topology.kubernetes.io/zone, and make new volumes usable from nodes that have only that label, such as those that an autoscaler plans (both roles). If something else sets that label, it has to be to the same zone")
	return fs
}

func cloudsFlags(cfg *driver.Config) *pflag.FlagSet {
	fs := newFlags()
	fs.StringSliceVar(&cfg.CloudConfig, "cloud-config", nil, "cloud.conf to read, may be repeated, later files overwrite (required for the controller role)")
	fs.StringSliceVar(&cfg.CloudNames, "cloud-name", []string{""}, `clouds of cloud.conf to use: the names of its [Global "name"] sections`)
	fs.StringSliceVar(&cfg.SecretAuthURLs, "secret-auth-urls", nil, "addresses that credentials in the secrets of classes may lead to, as https://keystone.example.com:5000/v3, https://*.example.com, or * for all; the endpoints of their clouds have to be on these hosts, too. Empty: secrets with credentials are refused")
	fs.IntVar(&cfg.MaxSecretClouds, "max-secret-clouds", 100, "most sets of credentials from secrets in use at a time")
	fs.DurationVar(&cfg.LoginTimeout, "cloud-login-timeout", 2*time.Minute, "longest time for a login at a cloud; calls wait for it no longer than their own time")
	fs.Float64Var(&cfg.Limits.Reads, "cloud-reads-per-second", 0, "most requests per second to each cloud that change nothing, the driver's polls among them; 0 for no limit")
	fs.Float64Var(&cfg.Limits.Writes, "cloud-writes-per-second", 0, "most requests per second to each cloud that change something; 0 for no limit")
	fs.IntVar(&cfg.Limits.Burst, "cloud-request-burst", 20, "requests that may come at once within those limits")
	fs.StringArrayVar(&cfg.UserAgent, "user-agent", nil, "added to the HTTP user agent, may be repeated")
	return fs
}

func controllerFlags(cfg *driver.Config) *pflag.FlagSet {
	fs := newFlags()
	fs.StringVar(&cfg.Cluster, "cluster", "", "name of the cluster; volumes and snapshots are tagged with it, and without it none are created")
	fs.BoolVar(&cfg.AllowUnknownParameters, "allow-unknown-parameters", false, "warn about unknown parameters of classes instead of refusing them")
	fs.BoolVar(&cfg.PVCAnnotations, "pvc-annotations", false, "read the affinity of volumes from the annotations of claims (controller role; the provisioner needs --extra-create-metadata)")
	fs.StringToStringVar(&cfg.ExtraTags, "extra-tags", nil, "metadata in Cinder of all volumes, snapshots and backups that are made, as in team=a,cost-centre=42; a class may set a key to another value")
	fs.StringVar(&cfg.TagAnnotationPrefix, "tag-annotation-prefix", "", "annotations of claims and VolumeSnapshots that begin with this are recorded as metadata in Cinder, as in tags.example.com/: tags.example.com/team=a is team=a there; needs --pvc-annotations, and the account the verb get for volumesnapshots; empty for none")
	fs.BoolVar(&cfg.CountOrphans, "count-orphans", false, "count the volumes, snapshots, backups and attachments of this cluster that Kubernetes has no object of (metric cinder_csi_orphans); needs the verb list for persistentvolumes, persistentvolumeclaims, volumeattachments, csinodes and volumesnapshotcontents")
	fs.BoolVar(&cfg.Events, "events", false, "tell in Kubernetes' events that a cloud can't be used, or that a credential or a certificate ends soon (controller role): of the pod that POD_NAME, POD_NAMESPACE and POD_UID in the environment name, else of the CSIDriver; needs the verbs create and patch for events")
	fs.StringVar(&cfg.StartupTaint, "startup-taint", "", "key of the taint that new nodes join with, as cinder.csi.openstack.org/agent-not-ready: it is removed once the driver is registered on the node and its limit of volumes known; needs the verbs list and watch for nodes and csinodes, and patch for nodes. Empty: none is removed")
	fs.StringVar(&cfg.Kubernetes.Kubeconfig, "kubeconfig", "", "kubeconfig to reach Kubernetes with, instead of the service account of the pod; the variable KUBECONFIG goes first")
	fs.StringVar(&cfg.Kubernetes.Master, "master", "", "address of the apiserver, instead of the one of the kubeconfig")
	fs.Float64Var(&cfg.Kubernetes.QPS, "kube-api-qps", 50, "most requests per second to the apiserver")
	fs.IntVar(&cfg.Kubernetes.Burst, "kube-api-burst", 100, "most requests at once to the apiserver")
	return fs
}

func nodeFlags(cfg *driver.Config) *pflag.FlagSet {
	fs := newFlags()
	fs.StringVar(&cfg.KubeletRegistrationPath, "kubelet-registration-path", "", "path of the CSI socket on the node; when set, the node role registers itself with the kubelet")
	fs.StringVar(&cfg.PluginRegistrationPath, "plugin-registration-path", "/registration", "the kubelet's directory plugins_registry, as it is mounted here")
	fs.StringVar(&cfg.NodeID, "nodeid", "", "UUID of this server, where neither config drive nor metadata service tell it")
	fs.StringVar(&cfg.NodeName, "node-name", "", "name of this server's Node, for the log; the hostname if empty")
	fs.StringVar(&cfg.MetadataURL, "metadata-url", "http://169.254.169.254", "the metadata service")
	fs.Func("zone-fallback", "`zone` for a server whose zone neither config drive nor metadata service tell; empty for an empty label, as the reference driver gives, which fits volumes only with ignore-volume-az in cloud.conf. Without this flag, the kubelet doesn't register the driver on such a server", func(zone string) error {
		cfg.ZoneFallback = &zone
		return nil
	})
	fs.Int64Var(&cfg.ReservedAttachments, "reserved-volume-attachments", 0, "volumes that something else than the driver attaches to this server, now or later: so many fewer are announced to Kubernetes. Disks that are no volumes, as the root disk, are counted without it")
	fs.StringToStringVar(&cfg.AdditionalTopology, "additional-topology", nil, "more topology of this node, as in topology.kubernetes.io/region=R1")
	fs.StringVar(&cfg.DefaultFSType, "default-fstype", "ext4", "filesystem of volumes whose StorageClass names none")
	fs.StringVar(&cfg.DevelopmentDeviceDir, "development-device-dir", "", "accept loop devices, and the config drive, below this directory; for development only")
	return fs
}

func logFlags(opts *options) *pflag.FlagSet {
	fs := newFlags()
	fs.IntVarP(&opts.verbosity, "v", "v", 1, "log verbosity; 4 and more log requests and answers, without secrets")
	fs.StringVar(&opts.logFormat, "log-format", "json", "json or console")
	fs.BoolVar(&opts.showVersion, "version", false, "print the version and exit")
	return fs
}

// unusedFlags are accepted without effect: those of the reference driver that this one
// needs not, and those of klog and of Kubernetes' component-base, which manifests for
// older releases have.
func unusedFlags() *pflag.FlagSet {
	fs := newFlags()
	for _, name := range []string{
		"node-service-no-os-client", "logtostderr", "alsologtostderr", "add-dir-header", "skip-headers", "skip-log-headers",
		"one-output", "legacy-stderr-threshold-behavior", "log-json-split-stream", "log-text-split-stream",
	} {
		fs.String(name, "", "")
		fs.Lookup(name).NoOptDefVal = "true"
	}
	for _, name := range []string{
		"min-resync-period", "vmodule", "log-flush-frequency", "log-dir", "log-file", "log-file-max-size", "log-backtrace-at",
		"stderrthreshold", "logging-format", "log-json-info-buffer-size", "log-text-info-buffer-size", "feature-gates",
	} {
		fs.String(name, "", "")
	}
	return fs
}

func newFlags() *pflag.FlagSet {
	fs := pflag.NewFlagSet("cinder-csi-plugin", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.SortFlags = false
	return fs
}
