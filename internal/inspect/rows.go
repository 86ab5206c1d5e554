package inspect

import (
	"slices"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// placeRows are about one server and its node. The first that fits counts.
func placeRows() []row {
	return []row{
		{
			kind: "server-gone", nova: "gone", cinder: "yes|reserved|attaching|detaching", when: func(s subject) bool { return !s.node.Ready },
			what: "Cinder has volume {volume} attached to server {server}, which Nova doesn't have any more",
			why:  "the server was deleted while Cinder, or the message bus, didn't answer. The driver removes the attachment when Kubernetes next attaches or detaches the volume",
			cure: []string{
				"# See that the server is gone, also as an administrator, and not only in another project:",
				"openstack server show {server}",
				"openstack --os-volume-api-version 3.27 volume attachment delete {attachment}",
				"# `openstack volume set --state available` instead would only change the word: the attachment stays, and if the server",
				"# lives somewhere after all, two servers write to one disk.",
			},
		},
		{
			kind: "gone-for-all-but-kubernetes", kubernetes: "attached", nova: "no|gone", cinder: "no",
			what: "Kubernetes has volume {volume} attached to node {node} (VolumeAttachment {va}); neither Nova nor Cinder have",
			why:  "somebody detached it, or rebuilt or deleted the server, without Kubernetes. The attacher notices within some minutes and attaches it again; a pod that had it mounted has I/O errors until it is started anew",
			cure: []string{"{deletePods}"},
		},
		{
			kind: "ghost-in-cinder", kubernetes: "none|detaching|attaching|unknown", nova: "no", cinder: "yes",
			what: "Cinder has volume {volume} attached to server {server}; Nova doesn't",
			why:  "a detachment, or an attachment, ended halfway. The driver removes such an attachment when Kubernetes next attaches or detaches the volume; Cinder itself refuses to while Nova uses it",
			cure: []string{
				"# See that the server doesn't have the disk: on its node,",
				"cinder-csi-plugin inspect node",
				"openstack --os-volume-api-version 3.27 volume attachment delete {attachment}",
				"# `openstack volume set --state available` instead is dangerous: if the hypervisor still has the disk connected, the next",
				"# server that gets it and this one write to it at once.",
			},
		},
		{
			kind: "ghost-in-cinder", kubernetes: "attached", nova: "no", cinder: "yes",
			what: "Kubernetes and Cinder have volume {volume} attached to server {server} of node {node}; Nova doesn't have it",
			why:  "somebody detached it by hand, or Nova lost it in a failed migration or evacuation. Once no pod uses it there, Kubernetes detaches it, and the driver removes what Cinder keeps",
			cure: []string{"{deletePods}", "# If it stays after that, and `cinder-csi-plugin inspect node` doesn't find the disk on the node:", "openstack --os-volume-api-version 3.27 volume attachment delete {attachment}"},
		},
		{
			kind: "just-changed", nova: "yes", cinder: "no", note: true, when: func(s subject) bool { return !s.unchangedFor(settled) },
			what: "Nova has volume {volume} on server {server}; Cinder has not any more",
			why:  "Cinder has changed the volume within the last minute, and Nova follows. If this stays, look again",
		},
		{
			kind: "ghost-in-nova", nova: "yes", cinder: "no",
			what: "Nova has volume {volume} on server {server}; Cinder has not",
			why:  "nova-compute hung while it attached it and went on when the cloud had given up, or somebody reset the volume's status. Cinder would give the disk to another server, and delete it: two writers destroy a filesystem",
			cure: []string{
				"# Nova detaches it once Cinder knows of it, too. Record it there:",
				"openstack --os-volume-api-version 3.44 volume attachment create --connect {volume} {server}",
				"openstack --os-volume-api-version 3.44 volume attachment complete ID-THAT-IT-PRINTED",
				"# If nothing on the server uses it (`cinder-csi-plugin inspect node` on its node tells):",
				"openstack server remove volume {server} {volume}",
			},
		},
		{
			kind: "attached-without-kubernetes", kubernetes: "none", nova: "yes", cinder: "yes",
			when: func(s subject) bool { return !s.usedOn(s.node.Name) },
			what: "Nova and Cinder have volume {volume} attached to server {server}; no VolumeAttachment of Kubernetes asks for that",
			why:  "somebody attached it by hand, the VolumeAttachment was deleted by force, or the server belongs to another cluster. Pods on other nodes can't have the volume meanwhile",
			cure: []string{
				"# See that nothing on the server uses it: on its node,",
				"cinder-csi-plugin inspect node",
				"openstack server remove volume {server} {volume}",
			},
		},
	}
}

// unfinishedRows are about attachments that have not ended, or don't.
func unfinishedRows() []row {
	return []row{
		{
			kind: "not-attached-yet", kubernetes: "attaching", nova: "yes", cinder: "yes", note: true,
			what: "volume {volume} is attached to server {server}; the VolumeAttachment {va} doesn't say so yet",
			why:  "the attacher learns it with its next call",
		},
		{
			kind: "detachment-stuck", cinder: "detaching",
			when: func(s subject) bool { return s.stuck() },
			what: "Cinder is detaching volume {volume} from server {server} since {since}",
			why:  "the guest doesn't let the disk go (it is mounted, or the guest hangs), or nova-compute hangs. Nova says of it: {actions}",
			cure: []string{"openstack server event list {server}", "# If the server hangs, a hard reboot ends what it has waited for (everything on it stops):", "openstack server reboot --hard {server}"},
		},
		{
			kind: "attachment-stuck", cinder: "reserved|attaching",
			when: func(s subject) bool { return s.stuck() },
			what: "Cinder keeps volume {volume} for server {server} ({state}) since {since}, and it is not attached",
			why:  "nova-compute hangs or gave up, or the server is shelved. Nova says of it: {actions}",
			cure: []string{
				"openstack server event list {server}",
				"# If Nova is at work on nothing, and the server isn't shelved:",
				"openstack --os-volume-api-version 3.27 volume attachment delete {attachment}",
			},
		},
	}
}

// nodeRows are about one server and its node, too. All that fit count.
func nodeRows() []row {
	return []row{
		{
			kind: "attach-error", when: func(s subject) bool { return s.va.AttachError != "" && !s.va.Attached },
			what: "volume {volume} can't be attached to node {node}: {attachError}",
			why:  "this is the last answer of the driver; the attacher tries again by itself, with pauses of up to 5 minutes",
			cure: []string{"kubectl describe volumeattachment {va}"},
		},
		{
			kind: "detach-error", when: func(s subject) bool { return s.va.DetachError != "" },
			what: "volume {volume} can't be detached from node {node}: {detachError}",
			why:  "this is the last answer of the driver; the attacher tries again by itself, with pauses of up to 5 minutes. Removing the finalizer of the VolumeAttachment by hand would let another node have the disk while this one writes to it",
			cure: []string{"kubectl describe volumeattachment {va}"},
		},
		{
			kind: "driver-not-registered",
			when: func(s subject) bool {
				return s.node.Name != "" && !s.node.Missing && !s.node.Registered && s.sawKubernetes
			},
			what: "the driver isn't registered on node {node}: its CSINode doesn't name {driver}",
			why:  "the driver's pod doesn't run there, is new, or doesn't find out which server it is on. Until then the node gets no volumes",
			cure: []string{
				"kubectl get pods --all-namespaces --field-selector spec.nodeName={node} -o wide",
				"# Its log says why; on the node:",
				"cinder-csi-plugin inspect node",
			},
		},
		{
			kind: "node-gone", when: func(s subject) bool { return s.va.Name != "" && s.node.Missing },
			what: "VolumeAttachment {va} is for node {node}, which Kubernetes doesn't have any more",
			why:  "the node was deleted before its volumes were detached. Kubernetes detaches them by itself once the node's pods are gone, after 6 minutes at the latest",
			cure: []string{"kubectl get pods --all-namespaces --field-selector spec.nodeName={node}", "# If the server is off or gone for good, this lets go of a pod that still ends:", "{forcePods}"},
		},
		{
			kind: "server-of-node-gone", nova: "gone", when: func(s subject) bool { return s.node.ServerID != "" && s.node.Ready },
			what: "node {node} is server {server} by its CSINode, and Nova has no such server; the node is ready, so that it runs somewhere",
			why:  "the credentials are for another project, region or cloud than the node's, or the server was deleted within the last minute, or was made anew under the same name",
			cure: []string{"# Look with the cloud.conf of the driver, in the container of the controller. There, too:", "openstack server list --name {node}"},
		},
		{
			kind: "server-of-node-gone", nova: "gone", when: func(s subject) bool { return s.node.ServerID != "" && !s.node.Missing && !s.node.Ready },
			what: "node {node} is server {server} by its CSINode, and Nova has no such server",
			why:  "the server was deleted or made anew under the same name, or the driver's credentials are for another project or region",
			cure: []string{"openstack server list --name {node}", "# If the server is gone for good:", "kubectl delete node {node}"},
		},
	}
}

// serverRows are about the status of one server. All that fit count.
func serverRows() []row {
	return []row{
		{
			kind: "server-off", nova: "yes|no|unknown",
			when: func(s subject) bool {
				return s.attached() && !s.node.OutOfService && slices.Contains(off(), s.server.Status)
			},
			what: "server {server} ({serverName}) of node {node} is {serverStatus}, and has volume {volume}",
			why:  "Kubernetes takes a volume away from a node that doesn't answer only if it is told that the node is off: it can't know. {fault}",
			cure: []string{
				"# Either start the server:",
				"openstack server {wake} {server}",
				"# or, as long as it is off, have its pods and volumes moved (never while it runs, nor while it is paused or suspended: it",
				"# would go on where it was, and two nodes write to one disk):",
				"kubectl taint nodes {node} " + outOfService + "=nodeshutdown:NoExecute",
			},
		},
		{
			kind: "server-in-error", nova: "yes|no|unknown", when: func(s subject) bool { return s.server.Status == "ERROR" },
			what: "server {server} ({serverName}) of node {node} is in the status ERROR: Nova attaches and detaches nothing there",
			why:  "an operation on it failed. {fault}",
			cure: []string{
				"openstack server event list {server}",
				"# If it runs nevertheless, an administrator may say so:",
				"openstack server set --state active {server}",
			},
		},
		{
			kind: "server-locked", when: func(s subject) bool { return s.server.Locked },
			what: "server {server} ({serverName}) of node {node} is locked: Nova attaches and detaches nothing there",
			why:  "somebody locked it",
			cure: []string{"openstack server unlock {server}"},
		},
		{
			kind: "server-busy", note: true, when: func(s subject) bool { return s.server.Task != "" },
			what: "Nova is at work on server {server} ({serverName}): {serverTask}",
			why:  "most operations on a server exclude attaching and detaching until they are finished",
		},
		{
			kind: "out-of-service", when: func(s subject) bool { return s.node.OutOfService && s.server.Status == "ACTIVE" },
			what: "node {node} has the taint " + outOfService + ", and its server {server} is ACTIVE",
			why:  "the server was started again, or never was off. Its pods are deleted and its volumes taken away by force: what still runs there writes to disks that others have",
			cure: []string{"# When nothing of Kubernetes runs on the server any more:", "kubectl taint nodes {node} " + outOfService + "-"},
		},
		{
			kind: "action-failed", note: true, when: func(s subject) bool { return len(s.server.Actions) > 0 && s.server.Actions[0].Failed },
			what: "the last that was asked of server {server} ({serverName}) failed in Nova: {actions}",
			why:  "Nova doesn't say of which volume; its log has the cause under the request",
			cure: []string{"openstack server event show {server} {actionRequest}"},
		},
	}
}

// is tells whether the volume has one of these statuses in Cinder.
func (s subject) is(statuses ...cloud.VolumeStatus) bool {
	return s.Cinder != nil && slices.Contains(statuses, s.Cinder.Status)
}

// attached tells whether Kubernetes or Cinder has the volume on the server.
func (s subject) attached() bool {
	return s.kubernetes == "attached" || s.kubernetes == "detaching" || s.cinder == "yes"
}

// off are the statuses of servers that don't run.
func off() []string {
	return []string{"SHUTOFF", "SUSPENDED", "PAUSED", "SHELVED", "SHELVED_OFFLOADED"}
}

// volumeRows are about the volume and its claim. All that fit count.
func volumeRows() []row {
	return []row{
		{
			kind: "volume-gone", when: func(s subject) bool { return s.Cinder != nil && s.Cinder.Missing && s.PersistentVolume != nil },
			what: "PersistentVolume {pv} is volume {volume}, which no cloud that was looked at has",
			why:  "somebody deleted it in Cinder, or the credentials lead to another project, region or cloud than the driver's",
			cure: []string{
				"# As an administrator, with the region of the driver's cloud.conf, see whether it is in another project:",
				"openstack volume show {volume}",
				"# If it is gone for good, the data are lost. A backup is restored to a new volume. This removes the claim. The first line",
				"# keeps the driver from deleting the volume if it is somewhere after all:",
				`kubectl patch pv {pv} -p '{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}'`,
				"kubectl delete pvc --namespace {namespace} {claim}",
			},
		},
		{
			kind: "pv-gone", when: func(s subject) bool {
				return s.sawKubernetes && s.PersistentVolume == nil && s.Cinder != nil && !s.Cinder.Missing && s.Cinder.Cluster != "" && (s.Claim == nil || s.Claim.Missing || s.Claim.PV != "") && s.now.Sub(s.Cinder.CreatedAt) > stuckAfter
			},
			what: "volume {volume} ({name}) was made for cluster {cluster}, and no PersistentVolume of this cluster has it",
			why:  "its PersistentVolume was deleted with the policy Retain, or by force; or the creation was given up; or this is another cluster",
			cure: []string{
				"# To keep its data, give it a PersistentVolume, with the volumeHandle {volume} (`kubectl explain pv.spec.csi`).",
				"# If this is its cluster, and nobody needs the data:",
				"openstack volume delete {volume}",
			},
		},
	}
}

// statusRows are about the status of the volume in Cinder. All that fit count.
func statusRows() []row {
	return []row{
		{
			kind: "creation-failed", when: func(s subject) bool { return s.is(cloud.VolumeError) && s.PersistentVolume == nil && s.sawKubernetes },
			what: "volume {volume} could not be created: {message}",
			why:  "the driver removes it when the provisioner asks again, and makes another one",
			cure: []string{"openstack --os-volume-api-version 3.5 volume message list", "{describeClaim}"},
		},
		{
			kind: "volume-in-error", when: func(s subject) bool {
				return s.is(cloud.VolumeError) && (s.PersistentVolume != nil || !s.sawKubernetes)
			},
			what: "volume {volume} is in the status error: {message}",
			why:  "an operation on it failed in the back end. Its data may be whole: don't delete the claim",
			cure: []string{
				"# An administrator looks into the log of cinder-volume, and when the back end has it as it should be:",
				"openstack volume set --state {stateByNova} {volume}",
			},
		},
		{
			kind: "deletion-failed", when: func(s subject) bool { return s.is(cloud.VolumeErrorDeleting) && s.wanted() },
			what: "volume {volume} could not be deleted in Cinder, and Kubernetes still has it or wasn't asked: {message}",
			why:  "somebody deleted it in Cinder, without Kubernetes, and the back end refused. Its data may be whole: don't delete it again",
			cure: []string{"# An administrator looks into the log of cinder-volume, and when the back end has it as it should be:", "openstack volume set --state {stateByNova} {volume}"},
		},
		{
			kind: "deletion-failed", when: func(s subject) bool { return s.is(cloud.VolumeErrorDeleting) && !s.wanted() },
			what: "volume {volume} could not be deleted in Cinder: {message}",
			why:  "the back end refused, as where something there still uses it. Only an administrator gets further",
			cure: []string{"# An administrator looks into the log of cinder-volume, and asks for it again:", "openstack volume set --state available {volume}", "openstack volume delete {volume}"},
		},
		{
			kind: "growth-failed", when: func(s subject) bool { return s.is(cloud.VolumeErrorExtending) },
			what: "volume {volume} could not grow beyond {cinderSize} GiB: {message}",
			why:  "the back end refused. The data are as before; pods that have it go on. Nothing else can be done with it until its status is set",
			cure: []string{"# An administrator sees to the cause (room, back end). The resizer then asks for the size again:", "openstack volume set --state {stateByNova} {volume}"},
		},
		{
			kind: "restore-failed", when: func(s subject) bool { return s.is(cloud.VolumeErrorRestoring) },
			what: "volume {volume} could not be restored from its backup: {message}",
			why:  "it holds a part of the data at best",
			cure: []string{"kubectl delete pvc --namespace {namespace} {claim}"},
		},
		{
			kind: "volume-busy", when: func(s subject) bool {
				return s.stuck() && s.Cinder.Status.Transitional() && !s.is(cloud.VolumeAttaching, cloud.VolumeDetaching, cloud.VolumeReserved)
			},
			what: "volume {volume} is {status} since {since}",
			why:  "the back end takes its time, or the service that was at work died: then the status stays for ever. Messages: {message}",
			cure: []string{"# As an administrator, see whether the service lives and what its log says:", "openstack volume service list"},
		},
		{
			kind: "attachment-of-nobody", when: func(s subject) bool {
				return s.stuck() && s.is(cloud.VolumeReserved, cloud.VolumeAttaching, cloud.VolumeDetaching) && len(s.Cinder.AttachedTo) == 0 && !s.ofServers()
			},
			what: "volume {volume} is {status} since {since}, for no server",
			why:  "an attachment ended halfway, before or after there was a record of it. Nobody can use the volume, and the driver can't know whose it is",
			cure: []string{"openstack --os-volume-api-version 3.27 volume attachment list --volume-id {volume}", "# Delete what that lists. If it lists nothing, and `openstack server list --all-projects` knows no server that has it, an administrator:", "openstack volume set --state available {volume}"},
		},
	}
}

// claimRows are about the claim and its PersistentVolume. All that fit count.
func claimRows() []row {
	return []row{
		{
			kind: "pv-failed", when: func(s subject) bool { return s.PersistentVolume != nil && s.PersistentVolume.Phase == "Failed" },
			what: "PersistentVolume {pv} can't be deleted: {pvMessage}",
			why:  "the provisioner tries again by itself. Snapshots of the volume ({snapshots} in Cinder), or an attachment, may hold it",
			cure: []string{"kubectl describe pv {pv}"},
		},
		{
			kind: "pv-released", note: true, when: func(s subject) bool {
				return s.PersistentVolume != nil && s.PersistentVolume.Phase == "Released" && s.PersistentVolume.Reclaim == "Retain"
			},
			what: "PersistentVolume {pv} is left of a claim that was deleted; its policy is Retain",
			why:  "the volume stays until somebody decides",
			cure: []string{
				"# To let a new claim {namespace}/{claim} have it, which names it in spec.volumeName. Without its whole claimRef, any claim",
				"# of anybody could get it:",
				`kubectl patch pv {pv} -p '{"spec":{"claimRef":{"uid":null,"resourceVersion":null}}}'`,
			},
		},
		{
			kind: "claim-lost", when: func(s subject) bool {
				return s.Claim != nil && (s.Claim.Phase == "Lost" || s.sawKubernetes && s.Claim.PV != "" && s.PersistentVolume == nil)
			},
			what: "claim {namespace}/{claim} is bound to PersistentVolume {claimPV}, which doesn't exist",
			why:  "somebody deleted the PersistentVolume by force. The volume in Cinder may be there: see above",
			cure: []string{"kubectl describe pvc --namespace {namespace} {claim}"},
		},
		{
			kind: "claim-pending", when: func(s subject) bool { return s.Claim != nil && s.Claim.Phase == "Pending" && s.PersistentVolume == nil },
			what: "claim {namespace}/{claim} has no volume yet. {event}",
			why:  "see the warning; without one, its class may wait for the first pod, or the provisioner doesn't run",
			cure: []string{"{describeClaim}"},
		},
		{
			kind: "quota", when: func(s subject) bool { return s.quota() != "" },
			what: "a quota is in the way: {quota}",
			why:  "the project may have no more volumes or GiB",
			cure: []string{"openstack limits show --absolute", "# Find what nobody needs:", "cinder-csi-plugin inspect orphans", "# or have an administrator raise the quota:", "openstack quota set --gigabytes N --volumes N PROJECT"},
		},
	}
}

// sizeRows are about growth. All that fit count.
func sizeRows() []row {
	return []row{
		{
			kind: "growth-pending-node", when: func(s subject) bool { return s.resizing("FileSystemResizePending", "NodeResize") },
			what: "volume {volume} has grown in Cinder ({cinderSize} GiB); its filesystem has not yet, for claim {namespace}/{claim} ({capacity} of {requested})",
			why:  "the kubelet lets it grow where a pod has it mounted, or when a pod next mounts it: {resize}",
			cure: []string{"kubectl describe pvc --namespace {namespace} {claim}", "# If a pod has run with it for minutes, its node says why:", "cinder-csi-plugin inspect node"},
		},
		{
			kind: "growth-pending", when: func(s subject) bool {
				return s.Claim != nil && s.Claim.grows && !s.resizing("FileSystemResizePending", "NodeResize")
			},
			what: "claim {namespace}/{claim} asks for {requested} and has {capacity}; the volume has {cinderSize} GiB in Cinder",
			why:  "the resizer has not got it yet: {resize}. {event}",
			cure: []string{"{describeClaim}"},
		},
		{
			kind: "smaller-than-pv", when: func(s subject) bool { return s.sizes() > 0 },
			what: "PersistentVolume {pv} says {pvSize}, and the volume has {cinderSize} GiB in Cinder",
			why:  "the PersistentVolume was written by hand, or the volume was made anew smaller. What expects the size finds the disk full early",
			cure: []string{"openstack --os-volume-api-version 3.42 volume set --size {pvGiB} {volume}"},
		},
		{
			kind: "larger-than-pv", when: func(s subject) bool { return s.sizes() < 0 && (s.Claim == nil || !s.Claim.grows) },
			what: "PersistentVolume {pv} says {pvSize}, and the volume has {cinderSize} GiB in Cinder",
			why:  "somebody let it grow in Cinder, without Kubernetes. Neither the filesystem nor Kubernetes know",
			cure: []string{
				"# If its class allows expansion, let Kubernetes catch up:",
				`kubectl patch pvc --namespace {namespace} {claim} -p '{"spec":{"resources":{"requests":{"storage":"{cinderSize}Gi"}}}}'`,
			},
		},
	}
}

// useRows are about who uses the volume. All that fit count.
func useRows() []row {
	return []row{
		{
			kind: "pods-on-several-nodes", when: func(s subject) bool { return s.contended() },
			what: "pods on several nodes want volume {volume}, which one server can have: {podsByNode}",
			why:  "its access mode, or its type, allows one node. The pod that came later waits until the other has ended",
			cure: []string{"# See which of them is to go, and delete it:", "kubectl get pods --namespace {namespace} -o wide", "# A pod on a node that is off for good goes only with the taint " + outOfService + "."},
		},
		{
			kind: "mount-failed", when: func(s subject) bool { return s.mountError() != "" },
			what: "a node doesn't give the volume to a pod that waits for it. {mountError}",
			why:  "the kubelet asks the driver again by itself. A disk with other data than the driver expects is left as it is",
			cure: []string{"# On the node, see what is on the disk:", "cinder-csi-plugin inspect node"},
		},
		{
			kind: "snapshot-error", when: func(s subject) bool { return s.snapshotError() != "" },
			what: "a VolumeSnapshot of the volume isn't usable: {snapshotError}",
			why:  "the snapshotter tries again by itself",
			cure: []string{"kubectl describe volumesnapshotcontents"},
		},
	}
}
