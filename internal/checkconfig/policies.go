package checkconfig

import (
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
)

// policy is a question that the driver asks, and what follows where the account may not.
type policy struct {
	reading string
	// rule is the name of the policy in Cinder or Nova.
	rule string
	// refused is the verdict then, and without what the driver does without.
	refused Verdict
	without string
}

// policies are all questions that change nothing.
func policies() []policy {
	return []policy{
		{openstack.ReadVolumes, "volume:get_all", Wrong, "the driver can do nothing"},
		{openstack.ReadServers, "os_compute_api:servers:index", Wrong, "the driver can attach nothing"},
		{openstack.ReadServerAttachments, "os_compute_api:os-volumes-attachments:index", Wrong, "the driver can't see whether a volume is attached"},
		{openstack.ReadSnapshots, "volume:get_all_snapshots", Warn, "there are no VolumeSnapshots"},
		{openstack.ReadBackups, "backup:get_all", Warn, "snapshot classes with type=backup don't work"},
		{openstack.ReadAttachments, "volume:attachment_get_all", Warn, "what Nova has left behind is not cleared: an administrator has to"},
		{openstack.ReadMessages, "message:get_all", Warn, "errors of volumes come without their cause"},
		{openstack.ReadVolumeZones, "volume:availability_zone_list", Warn, "the zones of classes and nodes are passed on as they are"},
		{openstack.ReadServerZones, "os_compute_api:os-availability-zone:list", Well, "this command can't hold the zones side by side; the driver needs no list"},
		{openstack.ReadTypes, "volume_extension:type_get_all", Warn, "the types of classes are passed on as they are"},
		{openstack.ReadDefaultType, "volume_extension:default_get", Warn, "zones and multiattach of volumes without a type are seen when they are made"},
		{openstack.ReadQuota, "volume_extension:quotas:show", Warn, "CSIStorageCapacity and the metrics know no quota"},
		{openstack.ReadPools, "scheduler_extension:scheduler_stats:get_pools", Well, "CSIStorageCapacity knows the quota alone, as usual for accounts that are no administrator's"},
		{openstack.ReadServices, "volume_extension:services:index", Well, "the zones of pools are not known, as usual for accounts that are no administrator's"},
		{openstack.ReadEncryption, "volume_extension:volume_type_encryption:get", Well, "whether the cloud encrypts a type can't be told; the driver needs not know"},
		{openstack.ReadServerActions, "os_compute_api:os-instance-actions:list", Well, "`inspect volume` can't show why an attachment vanished"},
	}
}

// writes are what only a request that changes something can show.
const writes = "creating, deleting, growing and retyping volumes; snapshots and backups; attaching and detaching; deleting attachments. " +
	"Forced deletion, forced detachment and a reset of the status (os-force_delete, os-force_detach, os-reset_status) are an administrator's, and the driver asks for none"

// unanswered is the verdict on a question without an answer.
func (j *judged) unanswered(reading string) Verdict {
	if cloud.NotTold(j.Readings[reading].Err) {
		return Warn
	}
	return Unseen
}

func (j *judged) readings() {
	var allowed []string
	for _, p := range policies() {
		reading, asked := j.Readings[p.reading]
		switch {
		case !asked:
		case reading.Untried != "":
			j.add("policies", Well, "", "%s (%s) was not tried: %s", p.reading, p.rule, reading.Untried)
		case reading.Err == nil:
			allowed = append(allowed, p.reading)
		case !cloud.NotTold(reading.Err):
			j.add("policies", Unseen, "ask again when the cloud is well", "%s (%s): %s", p.reading, p.rule, reading.Error)
		default:
			do := ""
			if p.refused != Well {
				do = "have an administrator allow " + p.rule
			}
			j.add("policies", p.refused, do, "%s is refused: %s. %s", p.reading, p.without, reading.Error)
		}
	}
	if len(allowed) > 0 {
		j.add("policies", Well, "", "allowed: %s", strings.Join(allowed, ", "))
	}
	j.add("policies", Well, "", "not tried, as each changes something: %s", writes)
}
