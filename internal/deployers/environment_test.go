package deployers

import (
	"context"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumetypes"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/keystone"
)

// node is the server that the containers run on.
const node = "worker"

// environment is what a deployer finds: a cloud, the metadata service of a server,
// the API server of a cluster.
type environment struct {
	cloud        *devcloud.Cloud
	blockStorage *gophercloud.ServiceClient // of the cloud's administrator
	claims       *atomic.Int64              // the number of claims that were read
	// files and variables are what the kubelet gives to each container.
	files, variables map[string]string
	placeholders     *strings.Replacer
}

func newEnvironment(t *testing.T, d deployer) *environment {
	t.Helper()
	servers := []devcloud.Server{{Name: node, Zone: d.Zones[0]}}
	for _, zone := range d.Zones[1:] {
		servers = append(servers, devcloud.Server{Name: "other-" + zone, Zone: zone})
	}
	cloud, err := devcloud.Start(t.Context(), devcloud.Config{StateDir: t.TempDir(), Disks: devcloud.DisksNone, Servers: servers})
	must(t, err)
	t.Cleanup(func() { _ = cloud.Close() })
	accounts, err := cloud.Admin().Accounts(t.Context())
	must(t, err)
	e := &environment{cloud: cloud, claims: new(atomic.Int64)}
	authority := e.serveClaims(t)
	for _, a := range accounts {
		switch a.User {
		case "demo":
			e.placeholders = strings.NewReplacer(
				"@auth-url@", cloud.AuthURL(), "@region@", keystone.Region, "@username@", a.User, "@user-id@", a.UserID, "@password@", a.Password,
				"@project@", a.Project, "@project-id@", a.ProjectID, "@credential-id@", a.CredentialID, "@credential-secret@", a.CredentialSecret,
				"@ca@", authority)
		case "admin":
			e.administrate(t, a)
		}
	}
	for _, name := range d.Types {
		_, err := volumetypes.Create(t.Context(), e.blockStorage, volumetypes.CreateOpts{Name: name, ExtraSpecs: map[string]string{"volume_backend_name": "file"}}).Extract()
		must(t, err)
	}
	e.serveMetadata(t)
	return e
}

// administrate logs the administrator in.
func (e *environment) administrate(t *testing.T, account admin.Account) {
	t.Helper()
	provider, err := openstack.AuthenticatedClient(t.Context(), gophercloud.AuthOptions{
		IdentityEndpoint: e.cloud.AuthURL(), Username: account.User, Password: account.Password, TenantID: account.ProjectID, DomainName: "Default",
	})
	must(t, err)
	t.Cleanup(provider.HTTPClient.CloseIdleConnections)
	e.blockStorage, err = openstack.NewBlockStorageV3(provider, gophercloud.EndpointOpts{})
	must(t, err)
}

// serveMetadata serves the node's metadata where servers look for it.
func (e *environment) serveMetadata(t *testing.T) {
	t.Helper()
	target, err := url.Parse(e.cloud.MetadataURL(node))
	must(t, err)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", metadataAddress+":80")
	must(t, err)
	server := &http.Server{Handler: httputil.NewSingleHostReverseProxy(target), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
}

// serveClaims is as much of an API server as the plugin asks for: claims without
// annotations. It returns the certificate of its authority.
func (e *environment) serveClaims(t *testing.T) (authority string) {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/namespaces/"+namespace+"/persistentvolumeclaims/"+claim {
			http.NotFound(w, r)
			return
		}
		e.claims.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "` + claim + `", "namespace": "` + namespace + `"}}`))
	}))
	t.Cleanup(server.Close)
	authority = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	host, port, err := net.SplitHostPort(server.Listener.Addr().String())
	must(t, err)
	const account = "/var/run/secrets/kubernetes.io/serviceaccount/"
	e.files = map[string]string{account + "token": "token", account + "ca.crt": authority, account + "namespace": "kube-system"}
	e.variables = map[string]string{"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
	return authority
}

// get is the status of an HTTP request.
func get(ctx context.Context, address string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}
