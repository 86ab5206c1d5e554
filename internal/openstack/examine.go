package openstack

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/url"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// Examination is what a cloud tells about itself and about the account that a section of
// cloud.conf leads to. It holds no secret.
type Examination struct {
	// Source is the file and the section.
	Source string `json:"source"`
	// AuthURL, Region, Interface and Insecure are those of the configuration, with what a
	// clouds.yaml fills in.
	AuthURL   string `json:"authURL"`
	Region    string `json:"region,omitempty"`
	Interface string `json:"interface"`
	Insecure  bool   `json:"insecure,omitempty"`
	// Configuration is why the section is none that can be tried, and Login why the driver
	// can't use the cloud; nil where it can.
	Configuration error `json:"-"`
	Login         error `json:"-"`
	// Files are the certificates in ca-file and cert-file.
	Files []Certificate `json:"files"`
	// Hosts are the addresses that the driver speaks to, each once.
	Hosts []Host `json:"hosts"`
	// Account is nil where Keystone gives no token.
	Account *Account `json:"account,omitempty"`
	// Catalog are the endpoints of Cinder and Nova in the catalog.
	Catalog  []CatalogEntry `json:"catalog"`
	Services []Service      `json:"services"`
	// VolumeZones are Cinder's, ServerZones Nova's.
	VolumeZones []Zone `json:"volumeZones"`
	ServerZones []Zone `json:"serverZones"`
	Types       []Type `json:"types"`
	// DefaultType is the name of the type of volumes whose creator names none.
	DefaultType string                     `json:"defaultType,omitempty"`
	Quota       map[string]cloud.QuotaLine `json:"quota"`
	// Readings are the questions that the driver asks, or an operator may, each tried once.
	Readings map[string]Reading `json:"readings"`
}

// Service is Cinder or Nova.
type Service struct {
	Name string `json:"name"`
	URL  string `json:"url"`
	// Lowest, Newest and Used are microversions; empty where the cloud tells none.
	Lowest string `json:"lowest,omitempty"`
	Newest string `json:"newest,omitempty"`
	Used   string `json:"used,omitempty"`
	// Err is why the service tells nothing about itself.
	Err error `json:"-"`
}

// Zone is an availability zone.
type Zone struct {
	Name      string `json:"name"`
	Available bool   `json:"available"`
}

// Type is a volume type as the account sees it.
type Type struct {
	Name       string            `json:"name"`
	Public     bool              `json:"public"`
	ExtraSpecs map[string]string `json:"extraSpecs,omitempty"`
	// Encryption is the provider of encryption in the cloud, "" for none or where the account may not know.
	Encryption string `json:"encryption,omitempty"`
	QoS        string `json:"qos,omitempty"`
}

// Reading is a question that changes nothing.
type Reading struct {
	// Err is why there is no answer.
	Err error `json:"-"`
	// Error is the text of Err.
	Error string `json:"error,omitempty"`
	// Untried is why the question was not asked.
	Untried string `json:"untried,omitempty"`
}

// The keys of Examination.Readings.
const (
	ReadVolumes           = "volumes"
	ReadSnapshots         = "snapshots"
	ReadBackups           = "backups"
	ReadAttachments       = "attachments"
	ReadMessages          = "messages"
	ReadVolumeZones       = "volumeZones"
	ReadTypes             = "types"
	ReadDefaultType       = "defaultType"
	ReadEncryption        = "encryption"
	ReadQuota             = "quota"
	ReadPools             = "pools"
	ReadServices          = "services"
	ReadServers           = "servers"
	ReadServerAttachments = "serverAttachments"
	ReadServerActions     = "serverActions"
	ReadServerZones       = "serverZones"
	ReadAccount           = "account"
	ReadCredential        = "credential"
)

// Examine logs in as the driver does, and asks at most 90 questions that change nothing,
// each for at most patience. What could not be learned is told by an error in its place.
func Examine(ctx context.Context, cfg CloudConfig, opts Options, patience time.Duration) *Examination {
	opts.LoginTimeout, opts.ReadTimeout = patience, patience
	x := &Examination{Source: cfg.origin(), AuthURL: redacted(cfg.AuthURL), Readings: map[string]Reading{}}
	client, err := New(cfg, opts)
	if err != nil {
		x.Configuration = err
		return x
	}
	defer client.Close()
	e := &examiner{client: client, conn: client.now(), patience: patience, x: x}
	cfg = e.conn.cfg
	wanted, _ := availability(cfg.EndpointType)
	x.Source, x.AuthURL, x.Region, x.Interface, x.Insecure = cfg.origin(), redacted(cfg.AuthURL), cfg.Region, string(wanted), cfg.TLSInsecure == "true"
	x.Files = cfg.certificates()
	e.host(ctx, cfg.AuthURL)
	if x.Login = client.Ready(ctx); errors.Is(x.Login, cloud.ErrUnauthorized) || x.Login != nil && !e.conn.session.holds() {
		return x
	}
	e.ask(ctx, ReadAccount, e.account)
	if x.Login == nil {
		e.services(ctx)
		e.readings(ctx)
	}
	return x
}

// holds reports whether Keystone has given a token.
func (s *session) holds() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.token != ""
}

// examiner fills an Examination.
type examiner struct {
	client   *Client
	conn     *connection
	patience time.Duration
	hosts    []string

	mu sync.Mutex
	x  *Examination
}

// ask asks one question and records what came of it.
func (e *examiner) ask(ctx context.Context, name string, question func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, e.patience)
	defer cancel()
	reading := Reading{Err: question(ctx)}
	if reading.Err != nil {
		reading.Error = reading.Err.Error()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.x.Readings[name] = reading
}

func (e *examiner) untried(why string, names ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, name := range names {
		e.x.Readings[name] = Reading{Untried: why}
	}
}

// services asks both endpoints for their microversions.
func (e *examiner) services(ctx context.Context) {
	for _, endpoint := range []*endpoint{e.conn.cinder, e.conn.nova} {
		bounded, cancel := context.WithTimeout(ctx, e.patience)
		found := Service{Name: endpoint.name, URL: redacted(endpoint.client.Endpoint), Err: endpoint.learn(bounded)}
		cancel()
		if found.Err == nil {
			found.Lowest, found.Newest, found.Used = endpoint.lowest.String(), endpoint.newest.String(), endpoint.normal.String()
		}
		e.x.Services = append(e.x.Services, found)
		e.host(ctx, endpoint.client.Endpoint)
	}
}

// atOnce is how many questions are under way at a time.
const atOnce = 8

// readings asks everything that needs both services.
func (e *examiner) readings(ctx context.Context) {
	cinder, nova := e.conn.cinder, e.conn.nova
	var group errgroup.Group
	group.SetLimit(atOnce)
	for name, question := range map[string]func(context.Context) error{
		ReadVolumes:     e.first(call{endpoint: cinder, path: []string{"volumes"}}, "volumes"),
		ReadSnapshots:   e.first(call{endpoint: cinder, path: []string{"snapshots"}}, "snapshots"),
		ReadBackups:     e.first(call{endpoint: cinder, path: []string{"backups"}}, "backups"),
		ReadAttachments: e.first(call{endpoint: cinder, path: []string{"attachments"}, needs: cinderAttachments, feature: "a list of attachments"}, "attachments"),
		ReadMessages:    e.first(call{endpoint: cinder, path: []string{"messages"}, needs: cinderMessages, feature: "a list of messages"}, "messages"),
		ReadServices:    e.backends,
		ReadPools:       func(ctx context.Context) error { _, err := e.client.listPools(ctx); return err },
		ReadQuota: func(ctx context.Context) error {
			quota, err := e.client.readQuota(ctx)
			e.x.Quota = quota.Lines
			return err
		},
		ReadVolumeZones: e.zones(cinder, &e.x.VolumeZones),
		ReadServerZones: e.zones(nova, &e.x.ServerZones),
		ReadDefaultType: func(ctx context.Context) error {
			standard, err := e.client.defaultVolumeType(ctx)
			e.x.DefaultType = standard.Name
			return err
		},
	} {
		group.Go(func() error { e.ask(ctx, name, question); return nil })
	}
	group.Go(func() error { e.types(ctx); return nil })
	group.Go(func() error { e.servers(ctx); return nil })
	_ = group.Wait() // each answer is in the Examination
}

// named is an entry of a list of which only that it exists is of interest.
type named struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

func (n named) key() string { return cmp.Or(n.ID, n.Name) }

// first asks for the first entry of a list.
func (e *examiner) first(r call, key string) func(context.Context) error {
	r.operation, r.resource, r.metric, r.query = "list "+key+" of", r.endpoint.name, "examination", url.Values{"limit": {"1"}}
	return func(ctx context.Context) error {
		_, _, err := list[named](ctx, e.client, r, key, cloud.Page{})
		return err
	}
}

// backends asks for the services that make volumes.
func (e *examiner) backends(ctx context.Context) error {
	_, _, err := list[backend](ctx, e.client, call{
		operation: "list services of", resource: "Cinder", metric: "service_list", endpoint: e.conn.cinder, path: []string{"os-services"},
	}, "services", cloud.Page{})
	return err
}

// zoneState is a zone with whether it is in service.
type zoneState struct {
	zone
	State struct {
		Available bool `json:"available"`
	} `json:"zoneState"`
}

func (e *examiner) zones(of *endpoint, into *[]Zone) func(context.Context) error {
	return func(ctx context.Context) error {
		listed, _, err := list[zoneState](ctx, e.client, call{
			operation: "list availability zones of", resource: of.name, metric: "zone_list", endpoint: of, path: []string{"os-availability-zone"},
		}, "availabilityZoneInfo", cloud.Page{})
		for _, z := range listed {
			*into = append(*into, Zone{Name: z.Name, Available: z.State.Available})
		}
		return err
	}
}

// mostTypes is for how many types the encryption is asked.
const mostTypes = 50

// knownType is all that Cinder may tell about a type.
type knownType struct {
	volumeType
	Public bool   `json:"is_public"`
	QoS    string `json:"qos_specs_id"`
}

// types asks for the types, and for the encryption of each unless the first answer
// tells that the account may not know.
func (e *examiner) types(ctx context.Context) {
	var types []Type
	var ids []string
	e.ask(ctx, ReadTypes, func(ctx context.Context) error {
		listed, err := all[knownType](ctx, e.client, call{
			operation: "list volume types of", resource: "Cinder", metric: "volume_type_list", endpoint: e.conn.cinder, path: []string{"types"},
		}, "volume_types", "is_public", "None")
		for _, t := range listed {
			types, ids = append(types, Type{Name: t.Name, Public: t.Public, ExtraSpecs: t.ExtraSpecs, QoS: t.QoS}), append(ids, t.ID)
		}
		return err
	})
	e.x.Types = types
	e.untried("the account sees no volume type", ReadEncryption)
	var err error
	for i := range types[:min(len(types), mostTypes)] {
		e.ask(ctx, ReadEncryption, func(ctx context.Context) error {
			var answer struct {
				Provider string `json:"provider"`
			}
			err = e.client.do(ctx, call{
				operation: "get encryption of volume type", resource: types[i].Name, metric: "volume_type_get", endpoint: e.conn.cinder,
				path: []string{"types", ids[i], "encryption"}, answer: &answer,
			})
			types[i].Encryption = answer.Provider
			return err
		})
		if err != nil {
			return
		}
	}
}

// servers asks for a server, and about the volumes of the first.
func (e *examiner) servers(ctx context.Context) {
	var first string
	e.ask(ctx, ReadServers, func(ctx context.Context) error {
		listed, _, err := list[named](ctx, e.client, call{
			operation: "list servers of", resource: "Nova", metric: "examination", endpoint: e.conn.nova, path: []string{"servers"},
			query: url.Values{"limit": {"1"}},
		}, "servers", cloud.Page{})
		if len(listed) > 0 {
			first = listed[0].ID
		}
		return err
	})
	if first == "" {
		e.untried("the account sees no server", ReadServerAttachments, ReadServerActions)
		return
	}
	e.ask(ctx, ReadServerAttachments, func(ctx context.Context) error {
		_, err := e.client.ListAttachments(ctx, first)
		return err
	})
	e.ask(ctx, ReadServerActions, func(ctx context.Context) error {
		return e.client.do(ctx, call{
			operation: "list actions of server", resource: first, metric: "examination", endpoint: e.conn.nova,
			path: []string{"servers", first, "os-instance-actions"}, ids: []string{first},
		})
	})
}

// Feature is what the driver can do where a service has a microversion.
type Feature struct {
	Name string
	// Service is the name of a Service.
	Service string
	// Needs is the lowest microversion that does.
	Needs string
	// Otherwise is what happens below it.
	Otherwise string
}

// Features are those that not every cloud has, as docs/openstack.md lists them.
func Features() []Feature {
	const cinder, nova = "block storage", "compute"
	row := func(name, service string, needs microversion, otherwise string) Feature {
		return Feature{Name: name, Service: service, Needs: needs.String(), Otherwise: otherwise}
	}
	return []Feature{
		row("a volume's error message in the CSI error", cinder, cinderMessages, "errors of volumes come without their cause"),
		row("attachment records, and clearing stale ones", cinder, cinderAttachments, "a volume that stays reserved has to be freed by an administrator"),
		row("growing an attached volume", cinder, cinderExtendInUse, "volumes grow while no pod uses them only"),
		row("backups", cinder, cinderBackupMetadata, "snapshots of classes with type=backup are refused"),
		row("a volume from a backup", cinder, cinderFromBackup, "backups can't be restored by a claim"),
		row("backups in a zone of their own", cinder, cinderBackupZone, "classes with a zone for backups are refused"),
		row("lists that go on where their marker was deleted", cinder, cinderTimeFilter, "such a list is read again from its beginning"),
		row("snapshots of attached volumes without force", cinder, cinderForceless, "they are made with force"),
		row("multiattach volumes", nova, novaPreferred, "volumes of ReadWriteMany claims can't be attached"),
	}
}

// Allows reports whether a service has the microversion of a feature; told is false
// where it tells no microversions.
func (s Service) Allows(f Feature) (allowed, told bool) {
	lowest, okLowest := parseMicroversion(s.Lowest)
	newest, okNewest := parseMicroversion(s.Newest)
	needs, _ := parseMicroversion(f.Needs)
	return lowest <= needs && needs <= newest, okLowest && okNewest
}

// Names returns the names of all clouds of a configuration, in order.
func (c Config) Names() []string {
	return slices.Sorted(maps.Keys(c.Global))
}
