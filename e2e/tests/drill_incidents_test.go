package tests

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	gopherstack "github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/attachments"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
)

type podOf = corev1.Pod

// conf is the argument by which a command finds the cloud.
const conf = "--cloud-config=cloud.conf"

// faults has the cloud go wrong until the end of the incident.
func (d *drill) faults(faults ...admin.Fault) {
	d.Helper()
	d.afterwards("ending the faults of the cloud", d.cloud.ClearFaults)
	d.must(d.cloud.SetFaults(d.Context(), faults...), "having the cloud go wrong")
}

// behave changes how the cloud behaves until the end of the incident.
func (d *drill) behave(change func(*admin.Behaviour)) {
	d.Helper()
	usual, err := d.cloud.Behaviour(d.Context())
	d.must(err, "asking how the cloud behaves")
	d.afterwards("having the cloud behave as usual", func(ctx context.Context) error { return d.cloud.SetBehaviour(ctx, usual) })
	other := usual
	change(&other)
	d.must(d.cloud.SetBehaviour(d.Context(), other), "changing how the cloud behaves")
}

// works wants a claim that waited to be bound.
func (d *drill) works(claim string) {
	d.Helper()
	d.bound(claim)
	d.tell("Claim %s, which waited, is bound.", claim)
}

func cloudIsDown(d *drill) {
	d.tell("All connections to the cloud are cut. A claim waits for its volume.")
	d.faults(admin.Fault{DropBefore: true})
	d.claim("data", immediate)
	d.fires("CinderCloudUnreachable", nil)
	d.says(2, []string{"login unseen", "host unseen"}, "check-config", "--brief", conf)
	d.cure("The people who run the cloud bring it back. Nothing is to be cleaned up.", func() {
		d.must(d.cloud.ClearFaults(d.Context()), "bringing the cloud back")
	})
	d.works("data")
	d.calm("CinderCloudUnreachable", nil)
	d.says(0, nil, "check-config", "--brief", conf)
}

func credentialIsRevoked(d *drill) {
	d.tell("The password in `cloud.conf` is no longer accepted, and neither are the tokens that were made with it. A claim waits for its volume.")
	accounts, err := d.cloud.Accounts(d.Context())
	d.must(err, "asking who may log in")
	old := d.cloudConf()
	d.behave(func(b *admin.Behaviour) { b.PasswordsExpire = time.Now() })
	d.must(d.cloud.ExpireTokens(d.Context()), "ending all tokens")
	d.claim("data", immediate)
	d.fires("CinderCloudUnreachable", nil)
	d.says(1, []string{"login wrong", "credentials refused"}, "check-config", "--brief", conf)
	d.cure("An application credential takes the password's place in the Secret. The driver takes it up without a restart.", func() {
		d.afterwards("putting the password back", func(ctx context.Context) error { return d.putCloudConf(ctx, old) })
		d.must(d.putCloudConf(d.Context(), d.withCredential(old, accounts)), "changing the Secret")
	})
	d.works("data")
	d.calm("CinderCloudUnreachable", nil)
	d.says(0, nil, "check-config", "--brief", conf)
}

// cloudSecret is the name of the Secret with cloud.conf, by the chart.
const cloudSecret = "cloud-config"

func (d *drill) cloudConf() string {
	d.Helper()
	secret, err := d.kube.CoreV1().Secrets(driverNamespace).Get(d.Context(), cloudSecret, metav1.GetOptions{})
	d.must(err, "reading the Secret with cloud.conf")
	return string(secret.Data["cloud.conf"])
}

func (d *drill) putCloudConf(ctx context.Context, content string) error {
	patch := fmt.Sprintf(`{"stringData": {"cloud.conf": %q}}`, content)
	_, err := d.kube.CoreV1().Secrets(driverNamespace).Patch(ctx, cloudSecret, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	if err == nil {
		err = os.WriteFile(filepath.Join(d.dir, "cloud.conf"), []byte(content), 0o600)
	}
	return err
}

// withCredential returns a cloud.conf that logs in by the application credential of the
// user who has logged in by a password.
func (d *drill) withCredential(conf string, accounts []admin.Account) string {
	d.Helper()
	for _, a := range accounts {
		if !strings.Contains(conf, "username="+a.User+"\n") {
			continue
		}
		var lines []string
		for line := range strings.Lines(conf) {
			switch key, _, _ := strings.Cut(line, "="); strings.TrimSpace(key) {
			case "username", "tenant-name", "domain-name", "tenant-domain-name":
			case "password":
				lines = append(lines, fmt.Sprintf("application-credential-id=%s\napplication-credential-secret=%s\n", a.CredentialID, a.CredentialSecret))
			default:
				lines = append(lines, line)
			}
		}
		return strings.Join(lines, "")
	}
	d.Fatal("cloud.conf has no user of the cloud's")
	return ""
}

func quotaIsUsedUp(d *drill) {
	d.tell("The project may have no more volumes than it has. A claim waits for its volume.")
	d.claim("first", immediate)
	d.bound("first")
	all, err := d.cloud.Volumes(d.Context())
	d.must(err, "counting volumes")
	d.afterwards("raising the quota", d.raiseQuota)
	d.must(d.cloud.SetQuotas(d.Context(), map[string]int64{"volumes": int64(len(all))}), "lowering the quota")
	d.claim("data", immediate)
	d.fires("CinderQuotaNearlyUsed", model.LabelSet{"resource": "volumes"})
	d.eventually("the user to be told", func(ctx context.Context) error {
		return d.told(ctx, d.namespace, "data", "ProvisioningFailed", "quota")
	})
	d.says(1, []string{"quota wrong volumes"}, "check-config", "--brief", conf)
	d.cure("The people who run the cloud raise the quota.", func() { d.must(d.raiseQuota(d.Context()), "raising the quota") })
	d.works("data")
	d.calm("CinderQuotaNearlyUsed", model.LabelSet{"resource": "volumes"})
}

func (d *drill) raiseQuota(ctx context.Context) error {
	return d.cloud.SetQuotas(ctx, map[string]int64{"volumes": 100000})
}

func volumeIsInError(d *drill) {
	d.tell("The back end refuses to grow a volume that is in use, and leaves it in `error_extending`.")
	d.running("pod", withClaim(d.claim("data", xfs)))
	pv := d.bound("data")
	d.faults(admin.Fault{Operation: "volume.extend", EndIn: "error_extending", Times: 1})
	patch := `{"spec": {"resources": {"requests": {"storage": "2Gi"}}}}`
	_, err := d.claims().Patch(d.Context(), "data", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	d.must(err, "growing the claim")
	d.fires("CinderVolumesInError", model.LabelSet{"status": "error_extending"})
	d.says(1, []string{"error_extending", "volume set --state in-use"}, "inspect", "volume", d.namespace+"/data", conf)
	d.cure("The people who run the cloud mend the back end, and an administrator resets the status: `openstack volume set --state in-use VOLUME`.", func() {
		d.must(d.resetStatus(d.Context(), handleOf(*pv), "in-use"), "resetting the status")
	})
	d.capacity("data", "2Gi")
	d.tell("The claim has grown to 2Gi.")
	d.calm("CinderVolumesInError", nil)
}

// resetStatus is `openstack volume set --state`, which is an administrator's.
func (d *drill) resetStatus(ctx context.Context, id, status string) error {
	client, err := d.cinderAs(ctx, "admin")
	if err != nil {
		return err
	}
	return volumes.ResetStatus(ctx, client, id, volumes.ResetStatusOpts{Status: status}).ExtractErr()
}

// cinderAs returns Cinder as a user has it.
func (d *drill) cinderAs(ctx context.Context, user string) (*gophercloud.ServiceClient, error) {
	accounts, err := d.cloud.Accounts(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(accounts, func(a admin.Account) bool { return a.User == user })
	if i < 0 {
		return nil, fmt.Errorf("the cloud has no user %s", user)
	}
	provider, err := gopherstack.AuthenticatedClient(ctx, gophercloud.AuthOptions{
		IdentityEndpoint: d.cluster.CloudURL + "/identity/v3", Username: user, Password: accounts[i].Password, TenantName: accounts[i].Project, DomainName: "Default",
	})
	if err != nil {
		return nil, err
	}
	return gopherstack.NewBlockStorageV3(provider, gophercloud.EndpointOpts{})
}

func serverHangs(d *drill) {
	node, other, err := d.twins()
	d.must(err, "choosing two nodes")
	d.tell("The nova-compute of node %s hangs. A pod there is deleted, and another on node %s waits for its volume.", node, other)
	d.pod("pod", idle, withClaim(d.claim("data", xfs)), onNode(node))
	d.ready("pod")
	d.afterwards("waking the compute", func(ctx context.Context) error { return d.cloud.WakeCompute(ctx, node) })
	d.must(d.cloud.HangCompute(d.Context(), node), "having the compute hang")
	d.deletePod("pod")
	d.pod("next", idle, withClaim("data"), onNode(other))
	stuck := model.LabelSet{"volume_id": model.LabelValue(handleOf(*d.bound("data"))), "operation": "volume_detach"}
	d.fires("CinderVolumeStuck", stuck)
	d.says(1, []string{"Cinder is detaching", "openstack server event list"}, "inspect", "volume", d.namespace+"/data", conf)
	d.cure("The people who run the cloud restart nova-compute on the host of the server. The driver takes up what has happened meanwhile.", func() {
		d.must(d.cloud.WakeCompute(d.Context(), node), "waking the compute")
	})
	d.ready("next")
	d.tell("Pod next runs.")
	d.calm("CinderVolumeStuck", stuck)
	d.says(0, []string{"All sides agree."}, "inspect", "volume", d.namespace+"/data", conf)
}

func ghostAttachment(d *drill) {
	d.tell("Nova lists a volume on a node, and Cinder does not know of it: nova-compute had hung, and gone on when the cloud had given up. A pod waits for the volume.")
	d.claim("data", immediate)
	pv := d.bound("data")
	d.faults(admin.Fault{Operation: "attachment.create", Resource: handleOf(*pv), Async: "ghost", Times: 1})
	d.pod("pod", idle, withClaim("data"))
	stuck := model.LabelSet{"volume_id": model.LabelValue(handleOf(*pv))}
	d.fires("CinderVolumeStuck", stuck)
	d.says(1, []string{"Cinder has not", "volume attachment create", "server remove volume"}, "inspect", "volume", d.namespace+"/data", conf)
	pod, err := d.pods().Get(d.Context(), "pod", metav1.GetOptions{})
	d.must(err, "reading the pod")
	server := d.serverOf(pod.Spec.NodeName)
	d.cure("As `inspect volume` says, the attachment is recorded in Cinder, and Nova detaches it: the pod does not use it yet. The driver attaches the volume again.", func() {
		d.must(d.recordAttachment(d.Context(), handleOf(*pv), server), "recording the attachment")
		d.must(d.client().DetachVolume(d.Context(), server, handleOf(*pv)), "detaching the volume")
	})
	d.ready("pod")
	d.tell("The pod runs.")
	d.calm("CinderVolumeStuck", stuck)
	d.says(0, []string{"All sides agree."}, "inspect", "volume", d.namespace+"/data", conf)
}

func (d *drill) serverOf(node string) string {
	for _, n := range d.cluster.Nodes {
		if n.Name == node {
			return n.ServerID
		}
	}
	return ""
}

// recordAttachment has Cinder record an attachment that Nova has made already.
func (d *drill) recordAttachment(ctx context.Context, volume, server string) error {
	client, err := d.cinderAs(ctx, "demo")
	if err != nil {
		return err
	}
	client.Microversion = "3.44"
	made, err := attachments.Create(ctx, client, attachments.CreateOpts{VolumeUUID: volume, InstanceUUID: server, Connector: map[string]any{"host": "compute"}}).Extract()
	if err != nil {
		return err
	}
	return attachments.Complete(ctx, client, made.ID).ExtractErr()
}

// dirty writes what is no filesystem into a volume, as a block device of a pod.
func (d *drill) dirty(claim string) {
	d.Helper()
	d.running("writer", withBlock(claim))
	d.run("writer", "dd if=/dev/urandom of="+dataDevice+" bs=1M count=4 conv=fsync")
	d.deletePod("writer")
}

func diskIsRefused(d *drill) {
	d.tell("A PersistentVolume that was written by hand says that a volume with data of another program has a filesystem.")
	d.claim("raw", immediate, asBlock)
	raw := d.bound("raw")
	d.dirty("raw")
	mode, keep := corev1.PersistentVolumeFilesystem, corev1.PersistentVolumeReclaimRetain
	static := &corev1.PersistentVolume{
		ObjectMeta: d.marked("static"),
		Spec: corev1.PersistentVolumeSpec{
			Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			VolumeMode: &mode, PersistentVolumeReclaimPolicy: keep, NodeAffinity: raw.Spec.NodeAffinity,
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: driverName, VolumeHandle: handleOf(*raw), FSType: "xfs"}},
			ClaimRef:               &corev1.ObjectReference{Namespace: d.namespace, Name: "data"},
		},
	}
	pvs := d.kube.CoreV1().PersistentVolumes()
	d.afterwards("deleting the PersistentVolume", func(ctx context.Context) error {
		return pvs.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{FieldSelector: "metadata.name=" + static.Name})
	})
	_, err := pvs.Create(d.Context(), static, metav1.CreateOptions{})
	d.must(err, "making a PersistentVolume")
	none := ""
	d.claim("data", immediate, func(spec *corev1.PersistentVolumeClaimSpec) {
		spec.StorageClassName, spec.VolumeName = &none, static.Name
	})
	d.pod("pod", idle, withClaim("data"))
	d.eventually("the user to be told", func(ctx context.Context) error {
		return d.told(ctx, d.namespace, "pod", "FailedMount", "")
	})
	d.fires("CinderNodeRefusesDisk", model.LabelSet{"reason": "not_blank"})
	d.says(1, []string{"a node doesn't give the volume", "inspect node"}, "inspect", "volume", d.namespace+"/data", conf)
	pod, err := d.pods().Get(d.Context(), "pod", metav1.GetOptions{})
	d.must(err, "reading the pod")
	d.saysOnNode(pod.Spec.NodeName, looked, []string{"data without a known signature", "not_blank", "the disk that the plugin has refused"}, "inspect", "node")
	d.cure("Whoever wrote the PersistentVolume finds out whose data they are, and deletes it: the volume is a raw block volume.", func() {
		d.deletePod("pod")
		d.deleteClaim("data")
		d.must(pvs.Delete(d.Context(), static.Name, metav1.DeleteOptions{}), "deleting the PersistentVolume")
		untilGone[corev1.PersistentVolume](d.scenario, pvs, static.Name)
	})
	d.running("reader", withBlock("raw"))
	d.tell("A pod uses the raw block volume again. CinderNodeRefusesDisk ends when no disk has been refused for a quarter of an hour.")
}

func nodeIsFull(d *drill) {
	const limit = 2
	node, err := d.abroad()
	d.must(err, "choosing a node")
	d.tell("Nodes can have %d volumes, and pods on node %s have them.", limit, node)
	again := func(ctx context.Context, args ...string) error {
		_, err := d.cluster.Prometheus(ctx, withDrillAlerts(args...)...)
		if err == nil {
			err = d.driverReady(ctx)
		}
		return err
	}
	d.afterwards("taking back the limit", func(ctx context.Context) error { return again(ctx) })
	d.must(again(d.Context(), "--set", fmt.Sprintf("node.config.BlockStorage.node-volume-attach-limit=%d", limit)), "limiting the nodes to %d volumes", limit)
	for i := range limit {
		d.running(fmt.Sprintf("pod-%d", i), withClaim(d.claim(fmt.Sprintf("data-%d", i), xfs)), onNode(node))
	}
	d.pod("one-more", idle, withClaim(d.claim("one-more", xfs)), onNode(node))
	d.unschedulable("one-more", "exceed max volume count")
	d.fires("CinderNodeNearlyFull", model.LabelSet{"node": model.LabelValue(node)})
	d.saysOnNode(node, looked, []string{"limit: the server is full"}, "inspect", "node")
	d.cure("There is another node, or one volume less here: a pod is deleted.", func() { d.deletePod("pod-0") })
	d.ready("one-more")
	d.tell("The pod that waited runs.")
}

// client logs in as the driver does.
func (d *drill) client() *openstack.Client {
	d.Helper()
	config, err := openstack.ReadConfig(filepath.Join(d.dir, "cloud.conf"))
	d.must(err, "reading cloud.conf")
	section, err := config.Cloud("")
	d.must(err, "reading cloud.conf")
	client, err := openstack.Connect(d.Context(), section, openstack.Options{})
	d.must(err, "logging in")
	d.Cleanup(client.Close)
	return client
}

// long ago: orphans are told when they are a day old.
func (d *drill) longAgo() {
	d.Helper()
	d.behave(func(b *admin.Behaviour) { b.MadeEarlier = state.Span(25 * time.Hour) })
}

// orphans wants inspect orphans to say words and end with a status.
func (d *drill) orphans(status int, words ...string) {
	d.Helper()
	d.says(status, words, "inspect", "orphans", "--cluster=e2e", conf)
}

func twinVolume(d *drill) {
	d.tell("A day ago a proxy before the cloud sent the creation of a volume again, when the claim was bound already: there are two of one name.")
	d.longAgo()
	d.claim("data", immediate)
	pv := d.bound("data")
	d.must(d.createAgain(d.Context(), handleOf(*pv)), "making a volume once more")
	d.fires("CinderOrphans", model.LabelSet{"kind": "twin"})
	d.orphans(1, "twin", "openstack volume delete")
	d.cure("The one that no PersistentVolume has is deleted, as `inspect orphans` says.", func() { d.deleteOthers(pv.Name, handleOf(*pv)) })
	d.calm("CinderOrphans", model.LabelSet{"kind": "twin"})
	d.orphans(0)
}

// createAgain asks for a volume as the driver has asked for one that there is.
func (d *drill) createAgain(ctx context.Context, id string) error {
	client, err := d.cinderAs(ctx, "demo")
	if err != nil {
		return err
	}
	first, err := volumes.Get(ctx, client, id).Extract()
	if err != nil {
		return err
	}
	_, err = volumes.Create(ctx, client, volumes.CreateOpts{
		Name: first.Name, Size: first.Size, VolumeType: first.VolumeType, AvailabilityZone: first.AvailabilityZone, Metadata: first.Metadata,
	}, nil).Extract()
	return err
}

// deleteOthers deletes all volumes of a name but one.
func (d *drill) deleteOthers(name, id string) {
	d.Helper()
	client := d.client()
	listed, _, err := client.ListVolumes(d.Context(), cloud.VolumeFilter{Name: name}, cloud.Page{})
	d.must(err, "listing volumes")
	for _, v := range listed {
		if v.ID != id {
			d.must(client.DeleteVolume(d.Context(), v.ID), "deleting volume %s", v.ID)
		}
	}
}

func orphan(d *drill) {
	d.tell("A PersistentVolume with the reclaim policy Retain was deleted by hand. Its volume has stayed in the cloud for a day.")
	d.longAgo()
	d.claim("used", immediate) // a cluster that knows none of its volumes may be another one
	d.bound("used")
	d.claim("data", retain)
	d.running("pod", withClaim("data"))
	pv := d.bound("data")
	d.deletePod("pod")
	d.deleteClaim("data")
	until(d.scenario, d.kube.CoreV1().PersistentVolumes(), pv.Name, "to be released", phase(corev1.VolumeReleased))
	d.must(d.kube.CoreV1().PersistentVolumes().Delete(d.Context(), pv.Name, metav1.DeleteOptions{}), "deleting the PersistentVolume")
	untilGone[corev1.PersistentVolume](d.scenario, d.kube.CoreV1().PersistentVolumes(), pv.Name)
	d.fires("CinderOrphans", model.LabelSet{"kind": "volume"})
	d.orphans(1, handleOf(*pv), "openstack volume delete")
	d.cure("Nobody needs the volume, and it is deleted, as `inspect orphans` says.", func() { d.deleteOthers(pv.Name, "") })
	d.calm("CinderOrphans", model.LabelSet{"kind": "volume"})
	d.orphans(0)
}
