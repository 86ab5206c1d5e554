package upstream

import "regexp"

// Reason says why specs aren't run.
type Reason struct {
	// Match is what the specs, or the messages with which they skip themselves,
	// have in common.
	Match *regexp.Regexp
	// Why is for the reader of the summary.
	Why string
}

func reason(pattern, why string) Reason { return Reason{regexp.MustCompile(pattern), why} }

// skips are the messages with which specs of the suite skip themselves. One that
// isn't here is an error: somebody has to decide whether it is right.
func skips() []Reason {
	return []Reason{
		reason(`does not support volume type "(InlineVolume|PreprovisionedPV)"|doesn't support (InlineVolume|PreprovisionedPV)`,
			"the suite can try volumes that exist before, and those of in-tree plugins, with drivers that it has code for, not with external ones; see the tests of in-tree migration and of PersistentVolumes of the reference driver"),
		reason(`does not support volume type "CSIInlineVolume"|doesn't support CSIInlineVolume`,
			"inline volumes of CSI would need nodes with credentials for the cloud; generic ephemeral volumes do the same, and are run"),
		reason(`[Dd]river supports dynamic provisioning, skipping`,
			"the suite leaves volumes that exist before to drivers that can't make any"),
		reason(`Distro .* doesn't support ntfs|doesn't support ntfs`, "ntfs is for nodes with Windows"),
		reason(`does not support group snapshots|doesn't specify volume group snapshot stress test options`, "capability groupSnapshot, see testdriver.yaml"),
		reason(`does not support snapshots - skipping`,
			"the suite has no kind of snapshot for this kind of volume; the spec is run with ext4, xfs and raw block"),
		reason(`does not support snapshot metadata`, "capability snapshotMetadata, see testdriver.yaml"),
		reason(`doesn't support RWX|does not support RWX`, "capability RWX: run with raw block, by testdriver-multiattach.yaml"),
		reason(`does not support ROX access mode`, "capability capReadOnlyMany: run by testdriver-multiattach.yaml"),
		reason(`[Bb]lock volumes do not support mount options|raw block volumes cannot be read-only|Test for Block volumes is not implemented|skipping multiple PV mount test for block mode|Test is not valid for Block volume mode|Test does not support non-filesystem volume mode`,
			"the spec is about filesystems"),
		reason(`Filesystem volume case should be covered by block volume case`, "the suite runs it with raw block"),
		reason(`volume type ".*" is (not )?ephemeral|Skipping .* test for expansion`,
			"the same spec exists twice, for volumes of claims and for those that come and go with a pod"),
		reason(`Multiple generic ephemeral volumes with immediate binding|VolumeBindingMode immediate is not compatible with a multi-topology environment`,
			"there are several zones: a volume that is made before its pod may be in another one"),
		reason(`doesn't specify performance test options`, "the suite's measurements are run by testdriver-xfs.yaml"),
		reason(`Suite "(capacity|volumeLimits)" does not support`, "the suite has the spec for claims only"),
		reason(`Not enough topologies in cluster`, "there are not enough zones for it"),
	}
}

// exclusions are specs that the suite isn't asked to run, by driver and name.
func exclusions(machine Machine) []Reason {
	all := []Reason{
		reason(`provision storage with any volume data source`,
			"the spec brings a volume populator of its own as images that nobody builds here; the driver's part in it, a claim like any other, is run elsewhere"),
		reason(`^cinder\.csi\.openstack\.org: .*volume-modify-stress .*modify volumes with a different`,
			"the spec changes claims that no pod uses, which have a volume only if they are bound at once; run by testdriver-xfs.yaml"),
	}
	if !machine.GrowsExt4InUse {
		all = append(all, reason(`^cinder\.csi\.openstack\.org: .*\((default fs|ext4)\).*(resize volume when PVC is edited while pod is using it|resize volume when PVC is edited and the pod is re-created on the same node|expansion of pvcs created for ephemeral pvcs)`,
			"this machine lacks CAP_SYS_RESOURCE, which the kernel wants for growing ext4 in use; the same specs are run with xfs"))
	}
	if !machine.SELinux {
		all = append(all, reason(`seLinuxMount`, "the kernel of this machine has no SELinux"))
	}
	return all
}
