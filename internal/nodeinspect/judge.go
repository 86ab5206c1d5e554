package nodeinspect

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/node"
)

// Finding is what somebody has to mend or, unless it is wrong, may want to know.
type Finding struct {
	Wrong   bool   `json:"wrong"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
	// Why says why that can be.
	Why string `json:"why,omitempty"`
	// Do is the command that mends it, or what to do.
	Do string `json:"do,omitempty"`
}

func wrong(subject, text, why, do string) Finding { return Finding{true, subject, text, why, do} }
func note(subject, text, why, do string) Finding  { return Finding{false, subject, text, why, do} }

// judge says what of an answer is wrong, in the order of the answer.
func judge(a *Answer) []Finding {
	found := slices.Concat(a.judgeServer(), a.judgeDisks(), a.judgeMappings())
	for _, p := range a.Places {
		if f, odd := a.judgePlace(p); odd {
			found = append(found, f)
		}
	}
	if a.PlacesError != "" {
		found = append(found, wrong("places", "not all could be looked at: "+a.PlacesError, "", ""))
	}
	return append(found, a.judgeRegistration()...)
}

func (a *Answer) judgeServer() (found []Finding) {
	if a.Server.Error != "" {
		found = append(found, wrong("server", "NodeGetInfo fails, so the kubelet doesn't register the driver: "+a.Server.Error,
			"neither the config drive nor the metadata service tell what is missing", "mend the metadata service, or set --nodeid and --zone-fallback on the node plugin"))
	}
	for _, s := range a.Server.Sources {
		if s.ServerID != "" && s.ServerID != a.Server.ServerID {
			found = append(found, wrong("server", fmt.Sprintf("the %s tells server %s, but the driver goes by %s", s.Name, s.ServerID, cmp.Or(a.Server.ServerID, "none")),
				"this server was made from an image or a disk of another one that still has its config drive, or a proxy answers for the metadata service",
				"set [Metadata] search-order in cloud.conf to the source that is right"))
		}
	}
	switch l := a.Limit; {
	case l.Error != "":
		found = append(found, note("limit", "the room of the server can't be told: "+l.Error, "", ""))
	case int64(l.Attached) >= l.Announced:
		found = append(found, note("limit", fmt.Sprintf("the server is full: %d volumes are attached, %d were announced", l.Attached, l.Announced),
			"something else may attach volumes to it, which Kubernetes doesn't count", "--reserved-volume-attachments keeps places free for them"))
	}
	return found
}

func (a *Answer) judgeDisks() (found []Finding) {
	if a.DisksError != "" {
		found = append(found, wrong("disks", "they can't be listed: "+a.DisksError, "", ""))
	}
	for _, d := range a.Disks {
		blockPlace := slices.ContainsFunc(a.Places, func(p node.Place) bool { return p.VolumeID == d.VolumeID && p.Block })
		same := slices.DeleteFunc(slices.Clone(a.Disks), func(o Disk) bool { return d.VolumeID == "" || o.VolumeID != d.VolumeID })
		switch {
		case d.Unanswered, d.Hangs:
			found = append(found, wrong(d.Device, cmp.Or(d.ContentError, "it doesn't tell its serial"),
				"its storage doesn't answer, and all places in its queue are taken by requests that wait",
				"look at the storage of the volume (openstack volume show, the backend's log) and at the kernel's log (dmesg); pods on it end when it answers, or when the server is rebooted"))
		case len(same) > 1 && same[0].Device != d.Device: // told with the first
		case len(same) > 1:
			found = append(found, wrong(d.Device, fmt.Sprintf("volume %s has %d disks: %s; the driver touches none of them", d.VolumeID, len(same), devices(same)),
				"the kernel wasn't told that an earlier attachment is over, or a disk was given the serial by hand",
				"compare with `openstack server show "+a.Server.ServerID+"`, and remove the one that is stale: on the node, echo 1 > /sys/block/NAME/device/delete"))
		case d.Refused != "" && blockPlace:
			found = append(found, note(d.Device, d.Refused, "the workload that has it as a block device has built that upon it", ""))
		case d.Refused != "":
			found = append(found, wrong(d.Device, d.Refused, "", "see docs/nodes.md about what the driver refuses, and why"))
		case d.ContentError != "":
			found = append(found, wrong(d.Device, "what it holds can't be read: "+d.ContentError, "the disk or its storage is damaged", "look at the kernel's log (dmesg)"))
		case d.Counts && !slices.ContainsFunc(a.Places, func(p node.Place) bool { return p.VolumeID == d.VolumeID || p.Number == d.Number }):
			why := "its pod is just starting or ending, or something else than Kubernetes has attached it"
			if len(a.Registration.Refusals) > 0 {
				why += "; or it is the disk that the plugin has refused, and the pod's events tell why"
			}
			found = append(found, note(d.Device, "volume "+cmp.Or(d.VolumeID, "unknown")+" is attached, and nothing on this node uses it", why, ""))
		}
	}
	return found
}

func devices(disks []Disk) string {
	var all []string
	for _, d := range disks {
		all = append(all, d.Device)
	}
	return strings.Join(all, ", ")
}

func (a *Answer) judgeMappings() (found []Finding) {
	for _, m := range a.Mappings {
		switch {
		case m.Disk == "":
			found = append(found, wrong(m.Device, "the disk of "+m.Title+" is gone: nothing can be read or written by it",
				"volume "+m.VolumeID+" was detached while it was open",
				"end the pods that use it; the driver closes it when the volume is staged or unstaged next (by hand: cryptsetup close "+m.Title+")"))
		case !slices.ContainsFunc(a.Places, func(p node.Place) bool { return p.Number == m.Number }):
			found = append(found, wrong(m.Device, m.Title+" is open, and mounted nowhere",
				"its stage or unstage was interrupted, or it was unmounted by hand", "the driver mends it when the volume is staged or unstaged next (by hand: cryptsetup close "+m.Title+")"))
		}
	}
	return found
}

// judgePlace is about one place, and returns false if that is as it should be.
func (a *Answer) judgePlace(p node.Place) (Finding, bool) {
	role := map[bool]string{true: "staging path", false: "target path"}[p.Staging]
	volume := "volume " + cmp.Or(p.VolumeID, "unknown")
	switch {
	case p.Condition == "device_gone":
		return wrong(p.Path, volume+": the disk of this "+role+" is gone: no data can be reached by it",
			"the volume was detached while it was mounted, by hand, by a force detach, or since Nova lost it", a.endPods(p)), true
	case p.Condition == "given_up":
		return wrong(p.Path, volume+": the filesystem can't be written to any more",
			"the kernel has given it up after an error of the disk, or somebody has remounted it read-only",
			a.endPods(p)+"; the next stage checks and repairs it"), true
	case p.Condition == "hangs":
		return wrong(p.Path, volume+": "+p.Error, "the storage of the volume doesn't answer",
			"look at the storage of the volume and at the kernel's log (dmesg); pods on it end when it answers, or when the server is rebooted"), true
	case !p.Mounted:
		return a.judgeUnmounted(p, role, volume)
	case p.Error != "":
		return wrong(p.Path, volume+": NodeGetVolumeStats fails: "+p.Error, "another disk is mounted there, or the disk isn't the one that was attached", a.endPods(p)), true
	case p.Refused != "":
		return wrong(p.Path, volume+": a stage would be refused: "+p.Refused, "", a.endPods(p)), true
	case !p.Recorded:
		return wrong(p.Path, volume+" is mounted, but the kubelet has no record of it, and won't take it away",
			"somebody has mounted it by hand, or the kubelet's directory was emptied", "when nothing uses it, on the node: umount "+p.Path), true
	}
	return Finding{}, false
}

// judgeUnmounted is about a place of the kubelet's records where nothing is mounted.
func (a *Answer) judgeUnmounted(p node.Place, role, volume string) (Finding, bool) {
	text := volume + ": nothing is mounted at this " + role
	used := slices.ContainsFunc(a.Places, func(o node.Place) bool { return o.VolumeID == p.VolumeID && o.Path != p.Path && o.Mounted })
	why := "its pod is just starting or ending, the node was rebooted, or it was unmounted by hand"
	if p.Error != "" {
		text += ", and its disk isn't found: " + p.Error
		why = "the volume was detached, or another disk is in its place"
	}
	if p.Staging && p.Error == "" && !used {
		return note(p.Path, text, why, "nothing: the kubelet stages it again with the next pod"), true
	}
	return wrong(p.Path, text, why, a.endPods(p)), true
}

// endPods says how to end the pods that have the volume of a place.
func (a *Answer) endPods(p node.Place) string {
	var pods []string
	for _, o := range a.Places {
		if o.PodUID != "" && o.VolumeID == p.VolumeID && !slices.Contains(pods, o.PodUID) {
			pods = append(pods, o.PodUID)
		}
	}
	if len(pods) == 0 {
		return "no pod has it: the kubelet unstages it by itself; if it doesn't, on the node: umount " + p.Path
	}
	return fmt.Sprintf("end the pods with UID %s: kubectl get pods -A --field-selector spec.nodeName=%s -o custom-columns=NS:.metadata.namespace,NAME:.metadata.name,UID:.metadata.uid, then kubectl delete pod -n NS NAME",
		strings.Join(pods, ", "), a.NodeName)
}

func (a *Answer) judgeRegistration() (found []Finding) {
	r := a.Registration
	if a.Plugin == "" {
		found = append(found, note("plugin", "no node plugin was found running here, so that its flags aren't known",
			"this isn't its container, or it is stopped", "kubectl exec -n NAMESPACE POD -c cinder-csi-plugin -- cinder-csi-plugin inspect node"))
	}
	if r.Error != "" {
		found = append(found, wrong("registration", r.Socket+" isn't answered: "+r.Error,
			"the node plugin is stopped, or something has removed its socket", "look at the plugin's log, and start its pod again"))
	}
	switch {
	case r.Registered == "no":
		found = append(found, wrong("registration", "the kubelet has not registered the driver: pods on this node get no volumes of it",
			"the kubelet refused it, as when the Node has another zone's label, or it doesn't watch this directory",
			"the plugin's log has the kubelet's words, and the command: kubectl logs -n NAMESPACE POD -c cinder-csi-plugin"))
	case r.MetricsError != "":
		found = append(found, note("registration", "the plugin's metrics can't be read: "+r.MetricsError, "", ""))
	}
	return found
}
