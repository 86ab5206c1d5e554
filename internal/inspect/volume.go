package inspect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/identity"
	"github.com/cinder-csi/cinder-csi/internal/kube"
)

// Volume is what all sides know of a volume.
type Volume struct {
	// Asked is what was asked for.
	Asked string `json:"asked"`
	// ID is the volume's in Cinder; empty where nothing names it.
	ID               string            `json:"volumeID,omitempty"`
	Claim            *Claim            `json:"claim,omitempty"`
	PersistentVolume *PersistentVolume `json:"persistentVolume,omitempty"`
	Attachments      []Attachment      `json:"volumeAttachments"`
	Pods             []Pod             `json:"pods"`
	Nodes            []Node            `json:"nodes"`
	Snapshots        []Snapshot        `json:"snapshots"`
	Events           []Event           `json:"events"`
	Cinder           *Cinder           `json:"cinder,omitempty"`
	Servers          []Server          `json:"servers"`
	Findings         []Finding         `json:"findings"`
	// Unseen is what could not be looked at.
	Unseen Unseen `json:"unseen"`

	// sawKubernetes and sawClouds tell that all of them answered: what they don't know is not
	// there.
	sawKubernetes, sawClouds bool
}

// Claim is a PersistentVolumeClaim.
type Claim struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Missing tells that there is none of that name, although something names it.
	Missing  bool   `json:"missing,omitempty"`
	Phase    string `json:"phase,omitempty"`
	PV       string `json:"pv,omitempty"`
	Class    string `json:"storageClass,omitempty"`
	Deleting bool   `json:"deleting,omitempty"`
	// Requested and Capacity are sizes as Kubernetes writes them.
	Requested string `json:"requested,omitempty"`
	Capacity  string `json:"capacity,omitempty"`
	// Resize are the conditions of a growth that is not finished.
	Resize []string `json:"resize,omitempty"`
	uid    string
	grows  bool
}

// PersistentVolume is a PersistentVolume.
type PersistentVolume struct {
	Name     string `json:"name"`
	Phase    string `json:"phase"`
	Message  string `json:"message,omitempty"`
	Reclaim  string `json:"reclaimPolicy,omitempty"`
	Capacity string `json:"capacity"`
	Driver   string `json:"driver"`
	Deleting bool   `json:"deleting,omitempty"`
	// gib is the capacity in GiB, rounded up as Cinder has it.
	gib    int64
	shared bool
	// secret is the Secret whose cloud has the volume, empty for none.
	secret string
}

// Attachment is a VolumeAttachment.
type Attachment struct {
	Name     string `json:"name"`
	Node     string `json:"node"`
	Attached bool   `json:"attached"`
	Deleting bool   `json:"deleting,omitempty"`
	// AttachError and DetachError are what went wrong last.
	AttachError string `json:"attachError,omitempty"`
	DetachError string `json:"detachError,omitempty"`
}

// Pod is a pod that uses the claim.
type Pod struct {
	Name     string `json:"name"`
	Phase    string `json:"phase"`
	Node     string `json:"node,omitempty"`
	Deleting bool   `json:"deleting,omitempty"`
}

func (p Pod) ended() bool { return p.Phase == "Succeeded" || p.Phase == "Failed" }

// Node is a node that has to do with the volume.
type Node struct {
	Name string `json:"name"`
	// Missing tells that there is no such Node.
	Missing bool `json:"missing,omitempty"`
	Ready   bool `json:"ready"`
	// OutOfService tells that the node has the taint of that name.
	OutOfService bool `json:"outOfService,omitempty"`
	// Registered tells whether the driver has registered there, and ServerID as which
	// server.
	Registered bool   `json:"registered"`
	ServerID   string `json:"serverID,omitempty"`
}

// Snapshot is a VolumeSnapshotContent of the volume.
type Snapshot struct {
	Content   string `json:"content"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	ID        string `json:"snapshotID,omitempty"`
	Ready     bool   `json:"ready"`
	Error     string `json:"error,omitempty"`
}

// Event is a warning of Kubernetes.
type Event struct {
	Object  string    `json:"object"`
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	At      time.Time `json:"at"`
}

// Cinder is what Cinder knows.
type Cinder struct {
	Cloud     string             `json:"cloud"`
	Missing   bool               `json:"missing,omitempty"`
	Name      string             `json:"name,omitempty"`
	Status    cloud.VolumeStatus `json:"status,omitempty"`
	SizeGiB   int64              `json:"sizeGiB,omitempty"`
	Type      string             `json:"type,omitempty"`
	Zone      string             `json:"zone,omitempty"`
	Cluster   string             `json:"cluster,omitempty"`
	Shared    bool               `json:"multiattach,omitempty"`
	CreatedAt time.Time          `json:"createdAt,omitzero"`
	UpdatedAt time.Time          `json:"updatedAt,omitzero"`
	// AttachedTo are servers.
	AttachedTo []string `json:"attachedTo"`
	// Records are those of the attachments API; of a cloud without one, those that the
	// volume tells.
	Records   []Record  `json:"attachments"`
	Snapshots []Stored  `json:"snapshots"`
	Backups   []Stored  `json:"backups"`
	Messages  []Message `json:"messages"`
}

// Record is an attachment as Cinder keeps it.
type Record struct {
	ID       string `json:"id"`
	ServerID string `json:"serverID,omitempty"`
	Status   string `json:"status"`
}

// Stored is a snapshot or a backup in Cinder.
type Stored struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Status string `json:"status"`
}

// Message is one of Cinder's to users.
type Message struct {
	At        time.Time `json:"at,omitzero"`
	Text      string    `json:"text"`
	RequestID string    `json:"openstackRequestID,omitempty"`
}

// Server is what Nova knows of a server.
type Server struct {
	ID   string `json:"serverID"`
	Name string `json:"name,omitempty"`
	// Missing tells that Nova has no such server.
	Missing bool   `json:"missing,omitempty"`
	Status  string `json:"status,omitempty"`
	Task    string `json:"task,omitempty"`
	Locked  bool   `json:"locked,omitempty"`
	Fault   string `json:"fault,omitempty"`
	// HasVolume tells whether Nova lists the volume; nil where that is unknown.
	HasVolume *bool    `json:"hasVolume,omitempty"`
	Actions   []Action `json:"actions,omitempty"`
}

// Action is an attachment or detachment that was asked of a server.
type Action struct {
	Name      string    `json:"name"`
	At        time.Time `json:"at"`
	Failed    bool      `json:"failed,omitempty"`
	RequestID string    `json:"openstackRequestID"`
	// Events are its parts with their results.
	Events []string `json:"events,omitempty"`
}

// Wrong tells whether somebody has to mend something.
func (v *Volume) Wrong() bool {
	return slices.ContainsFunc(v.Findings, func(f Finding) bool { return !f.Note })
}

// ErrUnknown tells that there is nothing of the name that was asked for.
var ErrUnknown = errors.New("nothing of that name is known")

// LookAtVolume tells what all sides know of a volume at a time. It is named by its claim
// as namespace/name, by its PersistentVolume, or by its id in Cinder. The error is about
// the name; what could not be looked at is in Unseen.
func LookAtVolume(ctx context.Context, from Sources, asked string, now time.Time) (*Volume, error) {
	for attempt := 1; ; attempt++ {
		v, moved, err := look(ctx, from, asked)
		if err != nil {
			return nil, err
		}
		if moved && attempt < attempts {
			continue // what was read before and after doesn't belong together
		}
		v.judge(now)
		return v, nil
	}
}

// attempts is how often a volume is looked at that changes meanwhile.
const attempts = 3

// look reads all sides once. moved tells that the volume changed in Cinder meanwhile.
func look(ctx context.Context, from Sources, asked string) (v *Volume, moved bool, err error) {
	v = &Volume{
		Asked: asked, Attachments: []Attachment{}, Pods: []Pod{}, Nodes: []Node{}, Snapshots: []Snapshot{}, Events: []Event{},
		Servers: []Server{}, Findings: []Finding{}, Unseen: Unseen{}, sawKubernetes: true, sawClouds: true,
	}
	k := kubernetesSide{v: v, c: from.Kubernetes}
	if from.Kubernetes == nil {
		v.sawKubernetes = false
		v.Unseen.add("Kubernetes", cmp.Or(from.KubernetesErr, errors.New("no way to it is known")))
	}
	if err := k.find(ctx, asked); err != nil {
		return nil, false, err
	}
	c := cloudSide{v: v, clouds: from.Clouds}
	c.findVolume(ctx)
	k.findWaiting(ctx)
	k.around(ctx)
	c.around(ctx)
	if v.Claim == nil && v.PersistentVolume == nil && (v.Cinder == nil || v.Cinder.Missing) && v.Unseen.Err() == nil {
		return nil, false, fmt.Errorf("%q is no claim (namespace/name), no PersistentVolume, and no volume of the clouds: %w", plain(asked), ErrUnknown)
	}
	return v, c.moved(ctx), nil
}

// kubernetesSide reads Kubernetes.
type kubernetesSide struct {
	v *Volume
	c *kube.Client
}

// failed records that Kubernetes could not be asked. It reports whether that is so.
func (k kubernetesSide) failed(err error) bool {
	if err == nil {
		return false
	}
	k.v.sawKubernetes = false
	k.v.Unseen.add("Kubernetes", err)
	return true
}

// find finds the claim and the PersistentVolume that were asked for.
func (k kubernetesSide) find(ctx context.Context, asked string) error {
	namespace, name, isClaim := strings.Cut(asked, "/")
	byID := len(asked) == 36 && uuid.Validate(asked) == nil
	switch {
	case isClaim && (namespace == "" || name == "" || strings.Contains(name, "/")):
		return fmt.Errorf("%q names no claim: want namespace/name", plain(asked))
	case byID:
		k.v.ID = strings.ToLower(asked)
	}
	if k.c == nil {
		return nil
	}
	if isClaim {
		return k.findClaim(ctx, namespace, name)
	}
	if pv, err := kube.Get[kube.PersistentVolume](ctx, k.c, kube.PersistentVolumes, "", asked); k.failed(err) || pv != nil {
		return k.take(ctx, pv)
	}
	if !byID {
		return nil
	}
	return k.findPV(ctx, func(pv *kube.PersistentVolume) bool { return strings.EqualFold(handle(pv), asked) })
}

// findPV looks for a PersistentVolume among all.
func (k kubernetesSide) findPV(ctx context.Context, wanted func(*kube.PersistentVolume) bool) error {
	all, err := kube.List[kube.PersistentVolume](ctx, k.c, kube.PersistentVolumes, "")
	if k.failed(err) {
		return nil
	}
	for i := range all {
		if wanted(&all[i]) {
			return k.take(ctx, &all[i])
		}
	}
	return nil
}

func (k kubernetesSide) findClaim(ctx context.Context, namespace, name string) error {
	k.v.Claim = &Claim{Namespace: namespace, Name: name}
	claim, err := kube.Get[kube.PersistentVolumeClaim](ctx, k.c, kube.Claims, namespace, name)
	switch {
	case k.failed(err):
		return nil
	case claim == nil:
		k.v.Claim.Missing = true
		err := k.findPV(ctx, func(pv *kube.PersistentVolume) bool {
			of := pv.Spec.ClaimRef
			return handle(pv) != "" && of != nil && of.Namespace == namespace && of.Name == name
		})
		if err == nil && k.v.PersistentVolume == nil && k.v.sawKubernetes {
			err = fmt.Errorf("there is no claim %s/%s, and no PersistentVolume that was its: %w", namespace, name, ErrUnknown)
		}
		return err
	}
	k.v.Claim = claimOf(claim)
	if claim.Spec.VolumeName == "" {
		return nil
	}
	pv, err := kube.Get[kube.PersistentVolume](ctx, k.c, kube.PersistentVolumes, "", claim.Spec.VolumeName)
	if k.failed(err) {
		return nil
	}
	return k.take(ctx, pv)
}

// findWaiting finds the claim that a volume without a PersistentVolume is made for: a slow
// copy has none until it is finished.
func (k kubernetesSide) findWaiting(ctx context.Context) {
	of := k.v.Cinder
	if k.c == nil || k.v.Claim != nil || k.v.PersistentVolume != nil || of == nil || of.Name == "" {
		return
	}
	all, err := kube.List[kube.PersistentVolumeClaim](ctx, k.c, kube.Claims, "")
	if k.failed(err) {
		return
	}
	for i := range all {
		if uid := string(all[i].UID); uid != "" && all[i].Spec.VolumeName == "" && strings.HasSuffix(of.Name, "-"+uid) {
			k.v.Claim = claimOf(&all[i])
		}
	}
}

func claimOf(c *kube.PersistentVolumeClaim) *Claim {
	claim := &Claim{
		Namespace: c.Namespace, Name: c.Name, Phase: c.Status.Phase, PV: c.Spec.VolumeName, Class: c.Spec.StorageClassName,
		Deleting: c.DeletionTimestamp != nil, Requested: c.Spec.Resources.Requests.Storage.String(), uid: string(c.UID),
	}
	if !c.Status.Capacity.Storage.IsZero() {
		claim.Capacity = c.Status.Capacity.Storage.String()
		claim.grows = c.Spec.Resources.Requests.Storage.Cmp(c.Status.Capacity.Storage) > 0
	}
	for _, condition := range c.Status.Conditions {
		if condition.Status == "True" && strings.Contains(condition.Type, "Resiz") {
			claim.Resize = append(claim.Resize, strings.TrimSuffix(plain(condition.Type+": "+condition.Message), ":"))
		}
	}
	if status := c.Status.AllocatedResourceStatuses["storage"]; status != "" {
		claim.Resize = append(claim.Resize, plain(status))
	}
	return claim
}

// handle is the id of a PersistentVolume's volume in Cinder, empty for another driver's.
func handle(pv *kube.PersistentVolume) string {
	switch {
	case pv.Spec.CSI != nil && pv.Spec.CSI.Driver == identity.DriverName:
		return pv.Spec.CSI.VolumeHandle
	case pv.Spec.Cinder != nil:
		return pv.Spec.Cinder.VolumeID
	}
	return ""
}

// take takes a PersistentVolume over, with its claim.
func (k kubernetesSide) take(ctx context.Context, pv *kube.PersistentVolume) error {
	if pv == nil {
		return nil
	}
	id := handle(pv)
	if id == "" {
		return fmt.Errorf("PersistentVolume %s is no volume of %s", pv.Name, identity.DriverName)
	}
	driver := identity.DriverName
	if pv.Spec.CSI == nil {
		driver = "in-tree cinder"
	}
	capacity := pv.Spec.Capacity.Storage
	k.v.ID = plain(strings.ToLower(id))
	k.v.PersistentVolume = &PersistentVolume{
		Name: pv.Name, Phase: pv.Status.Phase, Message: plain(pv.Status.Message), Reclaim: pv.Spec.ReclaimPolicy,
		Capacity: capacity.String(), Driver: driver, Deleting: pv.DeletionTimestamp != nil, gib: gibibytes(capacity),
		shared: slices.ContainsFunc(pv.Spec.AccessModes, func(mode string) bool { return strings.HasSuffix(mode, "Many") }),
	}
	if pv.Spec.CSI != nil && pv.Spec.CSI.PublishSecret != nil {
		k.v.PersistentVolume.secret = pv.Spec.CSI.PublishSecret.Namespace + "/" + pv.Spec.CSI.PublishSecret.Name
	}
	of := pv.Spec.ClaimRef
	if of == nil || k.v.Claim != nil {
		return nil
	}
	k.v.Claim = &Claim{Namespace: of.Namespace, Name: of.Name}
	claim, err := kube.Get[kube.PersistentVolumeClaim](ctx, k.c, kube.Claims, of.Namespace, of.Name)
	switch {
	case k.failed(err):
	case claim == nil || of.UID != "" && string(claim.UID) != of.UID:
		k.v.Claim.Missing = true
	default:
		k.v.Claim = claimOf(claim)
	}
	return nil
}

// gibibytes is a size in GiB, rounded up.
func gibibytes(size resource.Quantity) int64 {
	const gib = 1 << 30
	return (size.Value() + gib - 1) / gib
}

// around reads what has to do with the volume.
func (k kubernetesSide) around(ctx context.Context) {
	if k.c == nil {
		return
	}
	k.attachments(ctx)
	k.pods(ctx)
	k.nodes(ctx)
	k.snapshots(ctx)
	k.events(ctx)
}

func (k kubernetesSide) attachments(ctx context.Context) {
	all, err := kube.List[kube.VolumeAttachment](ctx, k.c, kube.Attachments, "")
	if k.failed(err) {
		return
	}
	for _, a := range all {
		inline := a.Spec.Source.Inline
		byHandle := inline != nil && inline.CSI != nil && inline.CSI.Driver == identity.DriverName && strings.EqualFold(inline.CSI.VolumeHandle, k.v.ID)
		byPV := k.v.PersistentVolume != nil && a.Spec.Source.PersistentVolumeName == k.v.PersistentVolume.Name
		// The PersistentVolume may be gone before its attachment.
		byName := k.v.PersistentVolume == nil && k.v.Cinder != nil && k.v.Cinder.Name != "" && a.Spec.Source.PersistentVolumeName == k.v.Cinder.Name
		if a.Spec.Attacher != identity.DriverName || !byHandle && !byPV && !byName {
			continue
		}
		found := Attachment{Name: a.Name, Node: a.Spec.NodeName, Attached: a.Status.Attached, Deleting: a.DeletionTimestamp != nil}
		if e := a.Status.AttachError; e != nil {
			found.AttachError = plain(e.Message)
		}
		if e := a.Status.DetachError; e != nil {
			found.DetachError = plain(e.Message)
		}
		k.v.Attachments = append(k.v.Attachments, found)
	}
}

func (k kubernetesSide) pods(ctx context.Context) {
	claim := k.v.Claim
	if claim == nil {
		return
	}
	all, err := kube.List[kube.Pod](ctx, k.c, kube.Pods, claim.Namespace)
	if k.failed(err) {
		return
	}
	for _, p := range all {
		for _, volume := range p.Spec.Volumes {
			named := volume.Claim != nil && volume.Claim.ClaimName == claim.Name
			if named || volume.Ephemeral != nil && p.Name+"-"+volume.Name == claim.Name {
				k.v.Pods = append(k.v.Pods, Pod{Name: p.Name, Phase: p.Status.Phase, Node: p.Spec.NodeName, Deleting: p.DeletionTimestamp != nil})
				break
			}
		}
	}
}

// nodes reads the nodes on which the volume is, or is to be.
func (k kubernetesSide) nodes(ctx context.Context) {
	var names []string
	for _, a := range k.v.Attachments {
		names = append(names, a.Node)
	}
	for _, p := range k.v.Pods {
		if p.Node != "" && !p.ended() {
			names = append(names, p.Node)
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		node := Node{Name: name}
		object, err := kube.Get[kube.Node](ctx, k.c, kube.Nodes, "", name)
		if k.failed(err) {
			continue
		}
		if node.Missing = object == nil; object != nil {
			for _, condition := range object.Status.Conditions {
				node.Ready = node.Ready || condition.Type == "Ready" && condition.Status == "True"
			}
			for _, taint := range object.Spec.Taints {
				node.OutOfService = node.OutOfService || taint.Key == outOfService
			}
		}
		csi, err := kube.Get[kube.CSINode](ctx, k.c, kube.CSINodes, "", name)
		if k.failed(err) {
			continue
		}
		if csi != nil {
			for _, driver := range csi.Spec.Drivers {
				if driver.Name == identity.DriverName {
					node.Registered, node.ServerID = true, plain(strings.ToLower(driver.NodeID))
				}
			}
		}
		k.v.Nodes = append(k.v.Nodes, node)
	}
}

// outOfService is the taint of nodes whose volumes are taken away.
const outOfService = "node.kubernetes.io/out-of-service"

func (k kubernetesSide) snapshots(ctx context.Context) {
	if k.v.ID == "" {
		return
	}
	all, err := kube.List[kube.SnapshotContent](ctx, k.c, kube.SnapshotContents, "")
	if kube.Unknown(err) || k.failed(err) {
		return
	}
	for _, content := range all {
		if content.Spec.Driver != identity.DriverName || !strings.EqualFold(content.Spec.Source.VolumeHandle, k.v.ID) {
			continue
		}
		found := Snapshot{
			Content: content.Name, Namespace: content.Spec.Snapshot.Namespace, Name: content.Spec.Snapshot.Name,
			ID: plain(content.Status.SnapshotHandle), Ready: content.Status.ReadyToUse != nil && *content.Status.ReadyToUse,
		}
		if e := content.Status.Error; e != nil {
			found.Error = plain(e.Message)
		}
		k.v.Snapshots = append(k.v.Snapshots, found)
	}
}

// requestID is what tells two attempts apart that came to the same.
var requestID = regexp.MustCompile(`req-[0-9a-f-]+`)

// events reads the warnings about the claim and its pods: of those that differ by the cloud's
// request alone the latest.
func (k kubernetesSide) events(ctx context.Context) {
	claim := k.v.Claim
	if claim == nil {
		return
	}
	all, err := kube.List[kube.Event](ctx, k.c, kube.Events, claim.Namespace)
	if k.failed(err) {
		return
	}
	for _, e := range all {
		of := e.InvolvedObject
		about := of.Kind == "PersistentVolumeClaim" && of.Name == claim.Name && (claim.uid == "" || of.UID == "" || of.UID == claim.uid)
		about = about || of.Kind == "Pod" && slices.ContainsFunc(k.v.Pods, func(p Pod) bool { return p.Name == of.Name }) && strings.Contains(e.Reason, "Failed") && strings.Contains(strings.ToLower(e.Message), "volume")
		if about && e.Type == "Warning" {
			k.v.Events = append(k.v.Events, Event{Object: of.Kind + " " + of.Name, Reason: plain(e.Reason), Message: plain(e.Message), At: e.Last()})
		}
	}
	slices.SortStableFunc(k.v.Events, func(a, b Event) int { return b.At.Compare(a.At) })
	told := make(map[string]bool)
	k.v.Events = slices.DeleteFunc(k.v.Events, func(e Event) bool {
		text := e.Object + e.Reason + requestID.ReplaceAllString(e.Message, "")
		again := told[text]
		told[text] = true
		return again
	})
	k.v.Events = k.v.Events[:min(len(k.v.Events), 5)]
}
