package state

import (
	"slices"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
)

// Usage is what a project uses.
type Usage struct {
	Volumes, Gigabytes, Snapshots, Backups, BackupGigabytes int64
	// Types is the same by volume type.
	Types map[string]TypeUsage
}

// TypeUsage is what a project uses of one volume type.
type TypeUsage struct{ Volumes, Gigabytes, Snapshots int64 }

// unlimitedEnough are the quotas of a project for which none were set: far
// more than Cinder's own default of ten volumes, since a cloud for tests is
// measured with thousands.
func unlimitedEnough() Quotas {
	return Quotas{
		"volumes": 100000, "snapshots": 100000, "gigabytes": 10000000, "backups": 100000,
		"backup_gigabytes": 10000000, "per_volume_gigabytes": -1, "groups": 10,
	}
}

// watchUsage keeps the usage up to date with every change of the tables.
func (c *Cloud) watchUsage() {
	c.volumes.OnChange(func(_ string, before, after *Volume) {
		for _, side := range []struct {
			v    *Volume
			sign int64
		}{{before, -1}, {after, 1}} {
			if side.v != nil {
				size := max(side.v.Size, side.v.ExtendTo)
				c.use(side.v.ProjectID, side.v.TypeID, TypeUsage{side.sign, side.sign * size, 0})
			}
		}
	})
	c.snapshots.OnChange(func(_ string, before, after *Snapshot) {
		if before != nil {
			c.use(before.ProjectID, before.TypeID, TypeUsage{0, -before.Size, -1})
		}
		if after != nil {
			c.use(after.ProjectID, after.TypeID, TypeUsage{0, after.Size, 1})
		}
	})
	c.backups.OnChange(func(_ string, before, after *Backup) {
		if before != nil {
			u := c.used(before.ProjectID)
			u.Backups, u.BackupGigabytes = u.Backups-1, u.BackupGigabytes-before.Size
		}
		if after != nil {
			u := c.used(after.ProjectID)
			u.Backups, u.BackupGigabytes = u.Backups+1, u.BackupGigabytes+after.Size
		}
	})
}

func (c *Cloud) used(project string) *Usage {
	u := c.usage[project]
	if u == nil {
		u = &Usage{Types: map[string]TypeUsage{}}
		c.usage[project] = u
	}
	return u
}

func (c *Cloud) use(project, typeID string, d TypeUsage) {
	u := c.used(project)
	u.Volumes, u.Gigabytes, u.Snapshots = u.Volumes+d.Volumes, u.Gigabytes+d.Gigabytes, u.Snapshots+d.Snapshots
	t := u.Types[typeID]
	u.Types[typeID] = TypeUsage{t.Volumes + d.Volumes, t.Gigabytes + d.Gigabytes, t.Snapshots + d.Snapshots}
}

// readUsage returns what a project uses, without adding it to the table of
// projects: it may run under a reader's lock. Only under the lock.
func (c *Cloud) readUsage(project string) Usage {
	if u := c.usage[project]; u != nil {
		return *u
	}
	return Usage{}
}

// quotas returns a project's limits. Only under the lock.
func (c *Cloud) quotas(project string) Quotas {
	q := unlimitedEnough()
	s, _ := c.settings.Get(settingsKey)
	for name, limit := range s.Quotas[project] {
		q[name] = limit
	}
	return q
}

func exceeds(limit, wanted int64) bool { return limit >= 0 && wanted > limit }

// limit returns one quota, -1 for those that were never set.
func (q Quotas) limit(name string) int64 {
	if l, ok := q[name]; ok {
		return l
	}
	return -1
}

// checkGigabytes checks the space for so many GiB more. Only in an update.
func (c *Cloud) checkGigabytes(project, typeID string, more int64) error {
	q, u := c.quotas(project), c.readUsage(project)
	kind, _ := c.types.Get(typeID)
	for _, l := range []struct {
		name string
		used int64
	}{{"gigabytes", u.Gigabytes}, {"gigabytes_" + kind.Name, u.Types[typeID].Gigabytes}} {
		if limit := q.limit(l.name); exceeds(limit, l.used+more) {
			return rest.OverLimit("VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed %s quota. Requested %dG, quota is %dG and %dG has been consumed.", l.name, more, limit, l.used)
		}
	}
	return nil
}

func (c *Cloud) checkPerVolume(project string, size int64) error {
	if limit := c.quotas(project).limit("per_volume_gigabytes"); exceeds(limit, size) {
		return rest.OverLimit("VolumeSizeExceedsLimit: Requested volume size %dG is larger than maximum allowed limit %dG.", size, limit)
	}
	return nil
}

// checkTypeQuota checks that a volume may have another type. Only in an update.
func (c *Cloud) checkTypeQuota(v Volume, kind VolumeType) error {
	q, u := c.quotas(v.ProjectID), c.readUsage(v.ProjectID).Types[kind.ID]
	if name := "volumes_" + kind.Name; exceeds(q.limit(name), u.Volumes+1) {
		return rest.OverLimit("VolumeLimitExceeded: Maximum number of volumes allowed (%d) exceeded for quota '%s'.", q.limit(name), name)
	}
	if name := "gigabytes_" + kind.Name; exceeds(q.limit(name), u.Gigabytes+v.Size) {
		return rest.OverLimit("VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed %s quota. Requested %dG, quota is %dG and %dG has been consumed.", name, v.Size, q.limit(name), u.Gigabytes)
	}
	return nil
}

func (c *Cloud) checkVolumeQuota(v Volume) error {
	if err := c.checkPerVolume(v.ProjectID, v.Size); err != nil {
		return err
	}
	if err := c.checkGigabytes(v.ProjectID, v.TypeID, v.Size); err != nil {
		return err
	}
	q, u := c.quotas(v.ProjectID), c.readUsage(v.ProjectID)
	kind, _ := c.types.Get(v.TypeID)
	for _, l := range []struct {
		name string
		used int64
	}{{"volumes", u.Volumes}, {"volumes_" + kind.Name, u.Types[v.TypeID].Volumes}} {
		if limit := q.limit(l.name); exceeds(limit, l.used+1) {
			return rest.OverLimit("VolumeLimitExceeded: Maximum number of volumes allowed (%d) exceeded for quota '%s'.", limit, l.name)
		}
	}
	return nil
}

func (c *Cloud) checkExtendQuota(v Volume, size int64) error {
	if err := c.checkPerVolume(v.ProjectID, size); err != nil {
		return err
	}
	return c.checkGigabytes(v.ProjectID, v.TypeID, size-v.Size)
}

func (c *Cloud) checkSnapshotQuota(v Volume) error {
	if err := c.checkGigabytes(v.ProjectID, v.TypeID, v.Size); err != nil {
		return err
	}
	q, u := c.quotas(v.ProjectID), c.readUsage(v.ProjectID)
	kind, _ := c.types.Get(v.TypeID)
	for _, l := range []struct {
		name string
		used int64
	}{{"snapshots", u.Snapshots}, {"snapshots_" + kind.Name, u.Types[v.TypeID].Snapshots}} {
		if limit := q.limit(l.name); exceeds(limit, l.used+1) {
			return rest.OverLimit("SnapshotLimitExceeded: Maximum number of snapshots allowed (%d) exceeded", limit)
		}
	}
	return nil
}

func (c *Cloud) checkBackupQuota(b Backup) error {
	q, u := c.quotas(b.ProjectID), c.readUsage(b.ProjectID)
	if limit := q.limit("backup_gigabytes"); exceeds(limit, u.BackupGigabytes+b.Size) {
		return rest.OverLimit("VolumeBackupSizeExceedsAvailableQuota: Requested backup exceeds allowed Backup gigabytes quota. Requested %dG, quota is %dG and %dG has been consumed.", b.Size, limit, u.BackupGigabytes)
	}
	if limit := q.limit("backups"); exceeds(limit, u.Backups+1) {
		return rest.OverLimit("BackupLimitExceeded: Maximum number of backups allowed (%d) exceeded", limit)
	}
	return nil
}

// QuotaLine is one quota with what is used of it.
type QuotaLine struct {
	Name         string
	Limit, InUse int64
}

// QuotaReport returns a project's quotas and what is used of them.
func (c *Cloud) QuotaReport(project string) []QuotaLine {
	var lines []QuotaLine
	c.view(func() {
		q, u := c.quotas(project), c.readUsage(project)
		add := func(name string, used int64) { lines = append(lines, QuotaLine{name, q.limit(name), used}) }
		add("volumes", u.Volumes)
		add("per_volume_gigabytes", 0)
		add("snapshots", u.Snapshots)
		add("gigabytes", u.Gigabytes)
		add("backups", u.Backups)
		add("backup_gigabytes", u.BackupGigabytes)
		for _, t := range c.sortedTypes() {
			used := u.Types[t.ID]
			add("volumes_"+t.Name, used.Volumes)
			add("gigabytes_"+t.Name, used.Gigabytes)
			add("snapshots_"+t.Name, used.Snapshots)
		}
		add("groups", 0)
	})
	return lines
}

// SetQuotas changes some of a project's quotas.
func (c *Cloud) SetQuotas(project string, changes Quotas) error {
	return c.update(func() error {
		s, _ := c.settings.Get(settingsKey)
		all := make(map[string]Quotas, len(s.Quotas)+1)
		for name, q := range s.Quotas {
			all[name] = q
		}
		q := all[project].clone()
		if q == nil {
			q = Quotas{}
		}
		for name, limit := range changes {
			q[name] = limit
		}
		all[project] = q
		s.Quotas = all
		c.settings.Put(settingsKey, s)
		return nil
	})
}

// sortedTypes returns the types in their order of creation. Only under the lock.
func (c *Cloud) sortedTypes() []VolumeType {
	var list []VolumeType
	c.types.Each(func(t *VolumeType) bool {
		list = append(list, *t)
		return true
	})
	newestFirst(list, func(t *VolumeType) uint64 { return t.Seq })
	slices.Reverse(list)
	return list
}
