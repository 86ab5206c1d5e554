package checkconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
	"github.com/cinder-csi/cinder-csi/internal/zone"
)

const (
	// soon and now are how long before its end a credential or a certificate is told, as the chart's alerts do.
	soon = 14 * 24 * time.Hour
	now  = 2 * 24 * time.Hour
	// skew is how far clocks may differ.
	skew = time.Minute
	// nearly is the share of a quota that is told.
	nearly = 0.9
)

// unreadable is about a file that can't be read, which was not looked at, or that makes no sense.
func unreadable(err error) Finding {
	for _, missing := range []error{fs.ErrNotExist, fs.ErrPermission, syscall.EIO} {
		if errors.Is(err, missing) {
			return Finding{"files", Unseen, err.Error(), "give the path of a file that this program may read"}
		}
	}
	return Finding{"files", Wrong, err.Error(), "mend the file: docs/cloud-conf.md has all keys"}
}

// keys are the findings about keys without effect.
func keys(config openstack.Config) (found []Finding) {
	for _, u := range config.Unused() {
		f := Finding{"keys", Warn, fmt.Sprintf("%s in %s has no effect: %s", u.Section, u.File, u.Reason), "remove it, or correct its name"}
		if u.Key != "" {
			f.Text = fmt.Sprintf("%s in %s of %s has no effect: %s", u.Key, u.Section, u.File, u.Reason)
		}
		if strings.Contains(u.Reason, "for other programs") {
			f.Verdict, f.Do = Well, ""
		}
		found = append(found, f)
	}
	return found
}

// judged collects findings.
type judged struct {
	*openstack.Examination

	storage openstack.BlockStorage
	at      time.Time
	found   []Finding
}

func (j *judged) add(subject string, verdict Verdict, do, format string, args ...any) {
	j.found = append(j.found, Finding{subject, verdict, fmt.Sprintf(format, args...), do})
}

// judge says what an examination means, in the order in which an operator would look.
func judge(x *openstack.Examination, storage openstack.BlockStorage, at time.Time) []Finding {
	j := &judged{Examination: x, storage: storage, at: at}
	if x.Configuration != nil {
		j.add("section", Wrong, "mend the section: docs/cloud-conf.md has all keys", "%v", x.Configuration)
		return j.found
	}
	j.add("section", Well, "", "%s", x.Source)
	j.login()
	j.account()
	j.certificates()
	j.clock()
	if x.Login != nil {
		return j.found
	}
	j.endpoints()
	j.features()
	j.zones()
	j.types()
	j.readings()
	j.quota()
	return j.found
}

func (j *judged) login() {
	switch {
	case j.Login == nil:
		j.add("login", Well, "", "%s, region %s, interface %s", j.AuthURL, orAny(j.Region), j.Interface)
	case errors.Is(j.Login, cloud.ErrUnauthorized):
		j.add("login", Wrong, "correct the credentials; Keystone may lock an account after some wrong passwords", "%v", j.Login)
	case errors.Is(j.Login, cloud.ErrUnavailable) && !errors.Is(j.Login, openstack.ErrMisdirected):
		j.add("login", Unseen, "see that the address is right and can be reached from here: a proxy, a firewall, DNS", "%v", j.Login)
	default:
		j.add("login", Wrong, "correct what the message names: docs/cloud-conf.md has all keys", "%v", j.Login)
	}
}

func orAny(region string) string {
	if region == "" {
		return "not set (the only one)"
	}
	return region
}

func (j *judged) account() {
	a := j.Account
	if a == nil {
		if j.Login == nil {
			j.add("account", j.unanswered(openstack.ReadAccount), "", "Keystone does not tell about the token: %s", j.Readings[openstack.ReadAccount].Error)
		}
		return
	}
	j.add("account", Well, "", "%s of user %s (%s) in project %s (%s)", a.Kind, a.User, a.UserID, a.Project, a.ProjectID)
	switch {
	case len(a.Roles) == 0:
		j.add("roles", Wrong, "have an administrator give the account a role in the project, as member", "none in the project: its token is good for nothing")
	case slices.Equal(a.Roles, []string{"reader"}):
		j.add("roles", Wrong, "have an administrator give the account the role member in the project", "reader alone, which may change nothing by the policies that OpenStack comes with")
	case slices.Contains(a.Roles, "admin"):
		j.add("roles", Warn, "use an account with the role member: the driver needs no more", "%s: the driver could change other projects' volumes", strings.Join(a.Roles, ", "))
	default:
		j.add("roles", Well, "", "%s", strings.Join(a.Roles, ", "))
	}
	j.credential(a)
}

func (j *judged) credential(a *openstack.Account) {
	token := "the present token is good until " + stamp(a.TokenExpires)
	name := "the " + a.Kind
	if a.Credential != "" {
		name = fmt.Sprintf("application credential %q", a.Credential)
	}
	switch reading, asked := j.Readings[openstack.ReadCredential]; {
	case a.Kind == "token":
		verdict := worse(Warn, j.ends(a.TokenExpires))
		j.add("credential", verdict, "use a password or an application credential: a token can't be renewed", "the token of the configuration is good until %s, and the driver stops then", stamp(a.TokenExpires))
	case a.Expires != nil:
		verdict := j.ends(*a.Expires)
		do := ""
		if verdict != Well {
			do = "make a new one and put it into cloud.conf: the driver takes it up within a minute, without a restart"
		}
		j.add("credential", verdict, do, "%s ends %s, %s; %s", name, stamp(*a.Expires), j.until(*a.Expires), token)
	case asked && reading.Err != nil:
		j.add("credential", Warn, "look with `openstack application credential list` when it ends", "when %s ends can't be told: %s; %s", name, reading.Error, token)
	default:
		j.add("credential", Well, "", "%s does not end; %s", name, token)
	}
	if a.Unrestricted {
		j.add("credential", Warn, "make one without --unrestricted", "%s is unrestricted: whoever has it can make more of its kind", name)
	}
}

// ends judges the end of a credential or certificate.
func (j *judged) ends(at time.Time) Verdict {
	switch left := at.Sub(j.at); {
	case left < now:
		return Wrong
	case left < soon:
		return Warn
	}
	return Well
}

// until tells how long something lasts.
func (j *judged) until(at time.Time) string {
	left := at.Sub(j.at)
	switch days := int(left.Hours() / 24); {
	case left <= 0:
		return "which is past"
	case days == 0:
		return fmt.Sprintf("in %s", left.Round(time.Minute))
	default:
		return fmt.Sprintf("in %d days", days)
	}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func (j *judged) certificates() {
	for _, c := range j.Files {
		j.certificate(fmt.Sprintf("%s of %s (%s)", c.Subject, c.File, c.Of), c.Expires)
	}
	for _, h := range j.Hosts {
		u, _ := url.Parse(h.URL)
		loopback := u != nil && (net.ParseIP(u.Hostname()).IsLoopback() || u.Hostname() == "localhost")
		switch {
		case h.Err != nil:
			j.add("host", Unseen, "see that it can be reached from here: a proxy, a firewall, DNS", "%v", h.Err)
			continue
		case len(h.Certificates) == 0 && loopback:
			j.add("certificates", Well, "", "%s has none, on this machine", h.URL)
			continue
		case len(h.Certificates) == 0:
			j.add("certificates", Warn, "use https in auth-url and in the catalog", "%s has none: tokens pass in clear text", h.URL)
			continue
		case j.Insecure:
			j.add("certificates", Warn, "set ca-file, and remove tls-insecure", "%s is not verified: tls-insecure is true", h.URL)
		case h.Distrust != nil:
			j.add("certificates", Wrong, "set ca-file to the authority that has signed it, or have the cloud renew it", "%s is not accepted: %v", h.URL, h.Distrust)
		}
		for _, c := range h.Certificates {
			j.certificate(fmt.Sprintf("%s of %s", c.Subject, h.URL), c.Expires)
		}
	}
}

func (j *judged) certificate(what string, expires time.Time) {
	verdict, do := j.ends(expires), ""
	if verdict != Well {
		do = "have it renewed before"
	}
	j.add("certificates", verdict, do, "%s ends %s, %s", what, stamp(expires), j.until(expires))
}

func (j *judged) clock() {
	for _, h := range j.Hosts {
		switch {
		case h.Ahead == nil:
		case h.Ahead.Abs() > skew:
			direction := "ahead of"
			if *h.Ahead < 0 {
				direction = "behind"
			}
			j.add("clock", Warn, "have both clocks set by NTP: certificates, expiry and the ages of volumes are judged by them",
				"%s is %s %s this machine", h.URL, h.Ahead.Abs().Round(time.Second), direction)
		default:
			j.add("clock", Well, "", "%s agrees with this machine", h.URL)
		}
	}
}

func (j *judged) endpoints() {
	for _, s := range j.Services {
		switch {
		case s.Err != nil:
			j.add(s.Name, Unseen, "see that the endpoint can be reached from here", "%s: %v", s.URL, s.Err)
		case s.Newest == "":
			j.add(s.Name, Warn, "see that no gateway hides the version document", "%s tells no microversions", s.URL)
		default:
			j.add(s.Name, Well, "", "%s, microversions %s to %s, of which the driver uses %s", s.URL, s.Lowest, s.Newest, orNone(s.Used))
		}
	}
	j.add("catalog", Well, "", "%s", strings.Join(j.catalog(), "\n"))
}

// catalog returns a line for each address of the catalog, with the types, interfaces and
// regions under which it is there.
func (j *judged) catalog() (lines []string) {
	var addresses []string
	types, interfaces := map[string][]string{}, map[string][]string{}
	note := func(to map[string][]string, key, value string) {
		if !slices.Contains(to[key], value) {
			to[key] = append(to[key], value)
		}
	}
	for _, e := range j.Catalog {
		if !slices.Contains(addresses, e.URL) {
			addresses = append(addresses, e.URL)
		}
		note(types, e.URL, e.Type)
		note(interfaces, e.URL, e.Interface+" in "+orNone(e.Region))
	}
	for _, address := range addresses {
		lines = append(lines, fmt.Sprintf("%s: %s, %s", address, strings.Join(types[address], " or "), strings.Join(interfaces[address], ", ")))
	}
	return lines
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

func (j *judged) features() {
	var has []string
	for _, f := range openstack.Features() {
		i := slices.IndexFunc(j.Services, func(s openstack.Service) bool { return s.Name == f.Service })
		if i < 0 || j.Services[i].Err != nil {
			continue
		}
		switch allowed, told := j.Services[i].Allows(f); {
		case allowed:
			has = append(has, f.Name)
		case told:
			j.add("features", Warn, "", "no %s: that needs %s %s, and the cloud has up to %s; %s", f.Name, f.Service, f.Needs, j.Services[i].Newest, f.Otherwise)
		default:
			j.add("features", Warn, "", "%s may be missing: the cloud does not tell whether it has %s %s", f.Name, f.Service, f.Needs)
		}
	}
	if len(has) > 0 {
		j.add("features", Well, "", "%s", strings.Join(has, "; "))
	}
}

// zones holds Cinder's zones and Nova's side by side.
func (j *judged) zones() {
	volumes, servers := zoneNames(j.VolumeZones), zoneNames(j.ServerZones)
	if len(volumes) == 0 || len(servers) == 0 {
		return // readings tell why
	}
	for _, list := range [][]openstack.Zone{j.VolumeZones, j.ServerZones} {
		for _, z := range list {
			if !z.Available {
				j.add("zones", Warn, "", "%s is out of service", z.Name)
			}
		}
	}
	without, alone := apart(servers, volumes), apart(volumes, servers)
	j.add("zones", Well, "", "%s", strings.Join(sides(volumes, servers), "\n"))
	const fallback = "; whether Cinder makes them elsewhere instead (allow_availability_zone_fallback) can't be asked"
	switch {
	case j.storage.IgnoreVolumeAZ && len(volumes)+len(servers) > 2:
		j.add("zones", Well, "", "ignore-volume-az is true: volumes are made in any zone, and used from each. Nova refuses that with cross_az_attach=False, which can't be asked")
	case j.storage.IgnoreVolumeAZ:
	case len(without) == len(servers):
		j.add("zones", Wrong, "set ignore-volume-az=true in [BlockStorage], if Nova lets volumes of other zones be attached; else rename the zones",
			"no zone of Nova's is one of Cinder's: volumes for servers are refused%s", fallback)
	case len(without) > 0:
		j.add("zones", Warn, "keep pods with volumes off these servers, or set ignore-volume-az=true in [BlockStorage], if Nova lets volumes of other zones be attached",
			"Cinder has no zone %s: new volumes for servers there are refused%s", strings.Join(without, ", "), fallback)
	}
	if len(alone) > 0 && !j.storage.IgnoreVolumeAZ {
		j.add("zones", Well, "", "no server is in %s: volumes made there by other means can't be used", strings.Join(alone, ", "))
	}
}

// sides returns a line for each zone, with who has it.
func sides(volumes, servers []string) (lines []string) {
	names := append(slices.Clone(volumes), servers...)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		var who []string
		for service, zones := range map[string][]string{"Cinder": volumes, "Nova": servers} {
			if slices.Contains(zones, name) {
				who = append(who, service)
			}
		}
		slices.Sort(who)
		lines = append(lines, name+": "+strings.Join(who, ", "))
	}
	return lines
}

func zoneNames(zones []openstack.Zone) (names []string) {
	for _, z := range zones {
		names = append(names, z.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// apart returns the names whose label is none of others'.
func apart(names, others []string) (alone []string) {
	for _, name := range names {
		if !slices.ContainsFunc(others, func(other string) bool { return other == name || zone.Label(other) == zone.Label(name) }) {
			alone = append(alone, name)
		}
	}
	return alone
}

func (j *judged) types() {
	if reading := j.Readings[openstack.ReadTypes]; reading.Err != nil {
		return
	}
	if len(j.Types) == 0 {
		j.add("types", Wrong, "have an administrator make one, or give the project access to one", "the account sees no volume type: no volume can be made")
	}
	for _, t := range j.Types {
		about := []string{}
		if t.Name == j.DefaultType {
			about = append(about, "the default")
		}
		if !t.Public {
			about = append(about, "private")
		}
		multiattach := strings.EqualFold(t.ExtraSpecs["multiattach"], "<is> True")
		switch {
		case t.ExtraSpecs == nil:
			about = append(about, "extra specs can't be read: whether it is for several servers is seen when a volume is made")
		case multiattach:
			about = append(about, "for several servers (multiattach)")
		default:
			about = append(about, "for one server")
		}
		if t.Encryption != "" {
			about = append(about, "encrypted in the cloud by "+t.Encryption)
		}
		if t.QoS != "" {
			about = append(about, "QoS "+t.QoS)
		}
		for _, key := range slices.Sorted(maps.Keys(t.ExtraSpecs)) {
			if key != "multiattach" {
				about = append(about, key+"="+t.ExtraSpecs[key])
			}
		}
		j.add("type "+t.Name, Well, "", "%s", strings.Join(about, "; "))
	}
	if j.Readings[openstack.ReadDefaultType].Err == nil && j.DefaultType == "" || errors.Is(j.Readings[openstack.ReadDefaultType].Err, cloud.ErrNotFound) {
		j.add("types", Warn, "name a type in each StorageClass", "there is no default type: a volume of a StorageClass without type is refused")
	}
}

// usual are the quotas that the driver runs into, and those without which it makes nothing.
func usual(name string) (usual, needed bool) {
	needed = slices.Contains([]string{"volumes", "gigabytes"}, name)
	return needed || slices.Contains([]string{"snapshots", "backups", "backup_gigabytes", "per_volume_gigabytes"}, name), needed
}

func (j *judged) quota() {
	var ample []string
	for _, name := range slices.Sorted(maps.Keys(j.Quota)) {
		line := j.Quota[name]
		known, needed := usual(name)
		kind, _, ofType := strings.Cut(name, "_")
		const do = "delete what nobody needs (`inspect orphans`), or ask for more"
		switch _, countable := usual(kind); {
		case !known && (!ofType || !countable && kind != "snapshots"):
		case name == "per_volume_gigabytes" && line.Limit >= 0:
			ample = append(ample, fmt.Sprintf("%s: at most %d", name, line.Limit))
		case line.Limit < 0 && known:
			ample = append(ample, fmt.Sprintf("%s: %d used, no limit", name, line.Used))
		case line.Limit < 0:
		case line.Used >= line.Limit && needed:
			j.add("quota", Wrong, do, "%s: %d of %d used: no volume can be made", name, line.Used, line.Limit)
		case line.Used >= line.Limit:
			j.add("quota", Warn, do, "%s: %d of %d used: none can be made", name, line.Used, line.Limit)
		case float64(line.Used) >= nearly*float64(line.Limit):
			j.add("quota", Warn, do, "%s: %d of %d used", name, line.Used, line.Limit)
		default:
			ample = append(ample, fmt.Sprintf("%s: %d of %d used", name, line.Used, line.Limit))
		}
	}
	if len(ample) > 0 {
		j.add("quota", Well, "", "%s", strings.Join(ample, "\n"))
	}
}
