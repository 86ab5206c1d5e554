package inspect

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/identity"
)

// stuckAfter is the time in one transitional status from which on it is worth a look. Nova
// itself gives up on a detachment after some 200 s.
const stuckAfter = 10 * time.Minute

// settled is the time in which Nova follows what Cinder has changed.
const settled = time.Minute

// row is a disagreement of the sides, or something that one side says is wrong. The texts
// have the names of what is there in place of words in braces; see names.
type row struct {
	kind string
	note bool
	// kubernetes, nova and cinder are the states of a place in which the row fits, as
	// "none|detaching"; any where empty. A row about no place has none.
	kubernetes, nova, cinder string
	// when is what has to be the case besides; always where nil.
	when      func(s subject) bool
	what, why string
	cure      []string
}

// subject is what a row is compared with: a volume at a time, and one place of it.
type subject struct {
	*Volume
	*place
	now time.Time
}

// place is a server, and what each side says of the volume there.
type place struct {
	node   Node
	server Server
	// kubernetes is none, attaching, attached or detaching; unknown where Kubernetes can't
	// be asked.
	kubernetes string
	// nova is yes, no, gone (there is no such server) or unknown.
	nova string
	// cinder is yes, no, unknown, or the status of an attachment that isn't finished:
	// reserved, attaching or detaching.
	cinder string
	// attachment is the id of Cinder's record, and va the VolumeAttachment.
	attachment string
	va         Attachment
}

// judge compares a volume with the tables.
func (v *Volume) judge(now time.Time) {
	whole := subject{Volume: v, place: &place{}, now: now}
	for _, p := range v.places() {
		s := subject{Volume: v, place: p, now: now}
		sides := slices.Concat(placeRows(), unfinishedRows())
		if i := slices.IndexFunc(sides, s.fits); i >= 0 {
			v.found(sides[i], s)
		}
		for _, r := range slices.Concat(nodeRows(), serverRows()) {
			if s.fits(r) {
				v.found(r, s)
			}
		}
	}
	for _, r := range slices.Concat(volumeRows(), statusRows(), claimRows(), sizeRows(), useRows()) {
		if whole.fits(r) {
			v.found(r, whole)
		}
	}
	slices.SortStableFunc(v.Findings, func(a, b Finding) int {
		return cmp.Compare(map[bool]int{true: 1}[a.Note], map[bool]int{true: 1}[b.Note])
	})
}

// fits tells whether a row is about the subject.
func (s subject) fits(r row) bool {
	among := func(states, state string) bool {
		return states == "" || slices.Contains(strings.Split(states, "|"), state)
	}
	return among(r.kubernetes, s.kubernetes) && among(r.nova, s.nova) && among(r.cinder, s.cinder) && (r.when == nil || r.when(s))
}

// places are all servers that some side has to do with the volume, and all nodes.
func (v *Volume) places() []*place {
	var all []*place
	for _, server := range v.Servers {
		p := &place{server: server, kubernetes: "none", nova: "unknown", cinder: "unknown"}
		for _, node := range v.Nodes {
			if node.ServerID == server.ID {
				p.node = node
			}
		}
		switch {
		case server.Missing:
			p.nova = "gone"
		case server.HasVolume != nil && *server.HasVolume:
			p.nova = "yes"
		case server.HasVolume != nil:
			p.nova = "no"
		}
		v.inCinder(p)
		all = append(all, p)
	}
	for _, node := range v.Nodes {
		if !slices.ContainsFunc(all, func(p *place) bool { return p.node.Name == node.Name }) {
			all = append(all, &place{node: node, kubernetes: "none", nova: "unknown", cinder: "unknown"})
		}
	}
	for _, p := range all {
		if !v.sawKubernetes {
			p.kubernetes = "unknown"
		}
		for _, a := range v.Attachments {
			if a.Node == p.node.Name {
				p.va, p.kubernetes = a, a.state()
			}
		}
		// Of several servers, the volume's status doesn't say which.
		if p.cinder == "yes" && v.Cinder.Status == cloud.VolumeDetaching && (len(v.Cinder.AttachedTo) < 2 || p.kubernetes == "detaching") {
			p.cinder = "detaching"
		}
	}
	return all
}

// inCinder fills in what Cinder says of a place.
func (v *Volume) inCinder(p *place) {
	if v.Cinder == nil {
		return
	}
	p.cinder = "no"
	for _, r := range v.Cinder.Records {
		// While a server moves to another host, it has two.
		if r.ServerID == p.server.ID && p.cinder != "attached" {
			p.attachment, p.cinder = r.ID, r.Status
		}
	}
	if p.cinder == "attached" || p.cinder == "no" && slices.Contains(v.Cinder.AttachedTo, p.server.ID) {
		p.cinder = "yes"
	}
}

func (a Attachment) state() string {
	switch {
	case a.Deleting:
		return "detaching"
	case a.Attached:
		return "attached"
	}
	return "attaching"
}

// unchangedFor tells whether Cinder has not changed the volume for a time.
func (s subject) unchangedFor(long time.Duration) bool {
	return s.Cinder != nil && !s.Cinder.UpdatedAt.IsZero() && s.now.Sub(s.Cinder.UpdatedAt) > long
}

// stuck tells whether Cinder has not changed the volume for long.
func (s subject) stuck() bool { return s.unchangedFor(stuckAfter) }

// ofServers tells whether an attachment in Cinder names a server.
func (s subject) ofServers() bool {
	return slices.ContainsFunc(s.Cinder.Records, func(r Record) bool { return r.ServerID != "" })
}

// usedOn tells whether a pod on a node uses the volume.
func (s subject) usedOn(node string) bool {
	return node != "" && len(s.running(node)) > 0
}

// running are the names of the pods on a node that have not ended.
func (s subject) running(node string) []string {
	var names []string
	for _, p := range s.Pods {
		if p.Node == node && !p.ended() {
			names = append(names, p.Name)
		}
	}
	return names
}

// contended tells whether pods on several nodes want a volume that one server can have.
func (s subject) contended() bool {
	nodes := map[string]bool{}
	for _, p := range s.Pods {
		if p.Node != "" && !p.ended() {
			nodes[p.Node] = true
		}
	}
	exclusive := s.PersistentVolume != nil && !s.PersistentVolume.shared || s.Cinder != nil && !s.Cinder.Missing && !s.Cinder.Shared
	return len(nodes) > 1 && exclusive
}

// stateByNova is the status that a volume is set to by hand: by the servers that have it.
// It is empty where a side that may know of one didn't answer: Cinder gives a volume that is
// available to another server.
func (s subject) stateByNova() string {
	has := func(server Server) bool { return server.HasVolume != nil && *server.HasVolume }
	switch {
	case slices.ContainsFunc(s.Servers, has), s.Cinder != nil && len(s.Cinder.AttachedTo) > 0:
		return string(cloud.VolumeInUse)
	case len(s.Unseen) > 0:
		return ""
	}
	return string(cloud.VolumeAvailable)
}

// wake is the command of the openstack client that lets a server of a status run.
func wake(status string) string {
	switch status {
	case "SUSPENDED":
		return "resume"
	case "PAUSED":
		return "unpause"
	case "SHELVED", "SHELVED_OFFLOADED":
		return "unshelve"
	}
	return "start"
}

// wanted tells whether somebody may want the data: all but a PersistentVolume that is to be
// deleted with them.
func (s subject) wanted() bool {
	pv := s.PersistentVolume
	if pv == nil {
		return !s.sawKubernetes
	}
	return pv.Reclaim != "Delete" || pv.Phase != "Released" && pv.Phase != "Failed"
}

// resizing tells whether the claim has a condition of a growth of these kinds.
func (s subject) resizing(kinds ...string) bool {
	return s.Claim != nil && slices.ContainsFunc(s.Claim.Resize, func(text string) bool {
		return slices.ContainsFunc(kinds, func(kind string) bool { return strings.HasPrefix(text, kind) })
	})
}

// sizes compares the PersistentVolume with Cinder: above 0 where it says more.
func (s subject) sizes() int {
	if s.PersistentVolume == nil || s.PersistentVolume.gib == 0 || s.Cinder == nil || s.Cinder.Missing {
		return 0
	}
	return cmp.Compare(s.PersistentVolume.gib, s.Cinder.SizeGiB)
}

// quota is what tells of a quota that is used up, empty for nothing. Cinder's words are
// "Quota exceeded", "VolumeSizeExceedsAvailableQuota" and the like.
func (s subject) quota() string {
	unfinished := s.Claim != nil && (s.Claim.grows || s.Claim.Phase == "Pending") || s.Cinder != nil && s.Cinder.Status == cloud.VolumeError
	if !unfinished {
		return ""
	}
	for _, e := range s.Events {
		if strings.Contains(strings.ToLower(e.Message), "quota") {
			return e.Message
		}
	}
	if s.Cinder != nil {
		for _, m := range s.Cinder.Messages {
			if strings.Contains(strings.ToLower(m.Text), "quota") {
				return m.Text
			}
		}
	}
	return ""
}

// mountError is why a pod that waits did not get the volume from its node when that last
// failed, empty where nothing tells.
func (s subject) mountError() string {
	for _, e := range s.Events {
		waits := slices.ContainsFunc(s.Pods, func(p Pod) bool { return "Pod "+p.Name == e.Object && p.Phase == "Pending" })
		if waits && slices.Contains([]string{"FailedMount", "FailedMapVolume"}, e.Reason) && s.PersistentVolume != nil && strings.Contains(e.Message, s.PersistentVolume.Name) {
			return e.Object + ": " + e.Message
		}
	}
	return ""
}

func (s subject) snapshotError() string {
	for _, snapshot := range s.Snapshots {
		if snapshot.Error != "" && !snapshot.Ready {
			return snapshot.Namespace + "/" + snapshot.Name + ": " + snapshot.Error
		}
	}
	return ""
}

// found adds a row to the findings, with the names of the subject in its texts. A line of
// the cure that is about something that isn't there is left out.
func (v *Volume) found(r row, s subject) {
	names := s.names()
	pairs := make([]string, 0, 2*len(names))
	for name, value := range names {
		pairs = append(pairs, "{"+name+"}", value)
	}
	fill := strings.NewReplacer(pairs...)
	command := strings.NewReplacer(s.words(names)...)
	f := Finding{Kind: r.kind, Note: r.note, What: plain(fill.Replace(r.what)), Why: plain(fill.Replace(r.why))}
	for _, line := range r.cure {
		lacking := false
		for name, value := range names {
			// What begins like an option would be taken for one, in quotes, too.
			lacking = lacking || (value == "" || value[0] == '-') && strings.Contains(line, "{"+name+"}")
		}
		if !lacking {
			f.Cure = append(f.Cure, strings.Split(command.Replace(line), "\n")...)
		}
	}
	for len(f.Cure) > 0 && strings.HasPrefix(f.Cure[len(f.Cure)-1], "#") && strings.HasSuffix(f.Cure[len(f.Cure)-1], ":") {
		f.Cure = f.Cure[:len(f.Cure)-1] // the command that it announces was left out
	}
	v.Findings = append(v.Findings, f)
}

// words are the names as words of a command, each after its name in braces. Those that are
// commands themselves have words already.
func (s subject) words(names map[string]string) []string {
	var pairs []string
	for name, value := range names {
		if !slices.Contains([]string{"describeClaim", "deletePods", "forcePods"}, name) {
			value = word(value)
		}
		pairs = append(pairs, "{"+name+"}", value)
	}
	return pairs
}

// names are the words that the texts of rows have in braces.
func (s subject) names() map[string]string {
	names := map[string]string{
		"driver": identity.DriverName, "volume": s.ID, "server": s.server.ID, "serverName": s.server.Name,
		"serverStatus": s.server.Status, "serverTask": s.server.Task, "node": s.node.Name, "va": s.va.Name,
		"attachment": s.attachment, "attachError": s.va.AttachError, "detachError": s.va.DetachError, "state": s.cinder,
		"snapshotError": s.snapshotError(), "mountError": s.mountError(), "quota": s.quota(), "stateByNova": s.stateByNova(), "wake": wake(s.server.Status), "message": "Cinder gives no cause",
		"since": "", "event": "", "actions": "nothing", "actionRequest": "", "fault": "", "deletePods": "", "forcePods": "",
		"describeClaim": "", "namespace": "", "claim": "", "claimPV": "", "requested": "", "capacity": "", "resize": "no condition tells more",
		"pv": "", "pvMessage": "", "pvSize": "", "pvGiB": "", "name": "", "status": "", "cluster": "", "cinderSize": "?", "snapshots": "0", "podsByNode": "",
	}
	if c := s.Cinder; c != nil && !c.Missing {
		names["name"], names["status"], names["cluster"] = c.Name, string(c.Status), c.Cluster
		names["cinderSize"], names["snapshots"] = strconv.FormatInt(c.SizeGiB, 10), strconv.Itoa(len(c.Snapshots))
		names["since"] = c.UpdatedAt.UTC().Format(time.RFC3339)
		if len(c.Messages) > 0 {
			names["message"] = c.Messages[0].Text
		}
	}
	if len(s.Events) > 0 {
		names["event"] = "The last warning, " + s.Events[0].Reason + ": " + s.Events[0].Message
	}
	if s.server.Fault != "" {
		names["fault"] = "Nova says: " + s.server.Fault
	}
	if len(s.server.Actions) > 0 {
		last := s.server.Actions[0]
		names["actions"], names["actionRequest"] = last.String(), last.RequestID
	}
	s.namesOfKubernetes(names)
	return names
}

func (s subject) namesOfKubernetes(names map[string]string) {
	if pv := s.PersistentVolume; pv != nil {
		names["pv"], names["pvMessage"], names["pvSize"], names["pvGiB"] = pv.Name, pv.Message, pv.Capacity, strconv.FormatInt(pv.gib, 10)
	}
	claim := s.Claim
	if claim == nil {
		return
	}
	names["namespace"], names["claim"], names["claimPV"], names["requested"], names["capacity"] = claim.Namespace, claim.Name, claim.PV, claim.Requested, claim.Capacity
	names["describeClaim"] = "kubectl describe pvc --namespace " + words(claim.Namespace, claim.Name)
	if len(claim.Resize) > 0 {
		names["resize"] = strings.Join(claim.Resize, "; ")
	}
	if pods := s.running(s.node.Name); s.node.Name != "" && len(pods) > 0 {
		list := words(append([]string{claim.Namespace}, pods...)...)
		names["deletePods"] = "# Have the pods on node " + word(s.node.Name) + " made anew:\nkubectl delete pod --namespace " + list
		names["forcePods"] = "kubectl delete pod --force --namespace " + list
	}
	var byNode []string
	for _, p := range s.Pods {
		if p.Node != "" && !p.ended() {
			byNode = append(byNode, p.Name+" on "+p.Node)
		}
	}
	names["podsByNode"] = strings.Join(byNode, ", ")
}

// String tells an action in a few words.
func (a Action) String() string {
	text := a.Name + " at " + a.At.UTC().Format(time.RFC3339)
	if a.Failed {
		text += " failed"
	}
	if len(a.Events) > 0 {
		text += " (" + strings.Join(a.Events, ", ") + ")"
	}
	return text + ", " + a.RequestID
}
