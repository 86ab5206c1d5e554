package volumes

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/google/uuid"
	"golang.org/x/text/unicode/norm"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/zone"
)

// plan is what a CreateRequest means in this cloud. It is made before anything
// else is, from lists that the client keeps for minutes.
type plan struct {
	CreateRequest
	kind volumeType
	// zones are the names of Cinder's zones in which the volume may be, in the
	// order in which they are tried; "" is Cinder's own choice. The first is the
	// one to ask for next.
	zones []string
	// impossible is why no volume can be made at all; nil where one can. A volume of
	// an earlier attempt is looked for nevertheless.
	impossible error
	// ask is the request to Cinder, but for its zone.
	ask cloud.VolumeRequest
	// reasons are why the zones before could not take the volume.
	reasons []string
	// unsure tells that one of them may have had room: Cinder gave no reason.
	unsure bool
}

// plan resolves a request: names and ids as the cloud writes them, the type, its
// zones and whether it serves several servers, and the zones to ask for. It returns
// cloud.ErrNotFound for a source that can't exist and cloud.ErrInvalid for a type
// that may be any of several.
func (s *Service) plan(ctx context.Context, req CreateRequest) (*plan, error) {
	req.Name = StoredName(req.Name)
	req.SnapshotID, req.SourceVolumeID = canonicalID(req.SnapshotID), canonicalID(req.SourceVolumeID)
	p := &plan{CreateRequest: req}
	metadata, err := s.metadata(req.Metadata)
	switch {
	case err != nil:
	case req.SourceVolumeID != "":
		err = checkID("source volume", req.SourceVolumeID)
	case req.SnapshotID != "":
		err = checkID("snapshot", req.SnapshotID)
	}
	if err != nil {
		return nil, err
	}
	if p.kind, err = s.typeFor(ctx, req); err != nil {
		return nil, err
	}
	if p.zones, p.impossible, err = s.zonesFor(ctx, req, p.kind); err != nil {
		return nil, err
	}
	if req.Multiattach && p.kind.specsKnown && !p.kind.multiattach {
		p.impossible = fmt.Errorf("volume type %q: %w", p.kind.name, ErrNotMultiattach)
	}
	p.ask = cloud.VolumeRequest{
		Name: req.Name, Description: Description, SizeGiB: req.SizeGiB,
		SnapshotID: req.SnapshotID, SourceVolumeID: req.SourceVolumeID, Metadata: metadata,
	}
	if req.Type != "" {
		p.ask.Type = p.kind.name
	}
	if !req.sourced() {
		p.ask.Metadata[NeverPublishedKey] = "true"
	}
	if !p.kind.specsKnown && (req.Multiattach || req.Type != "" && req.Zone != "" && !req.AnyZone) {
		p.ask.Metadata[provisionalKey] = "true"
	}
	return p, nil
}

// typeFor returns the type that a request names, or else the default where that
// decides anything. What a copy is of without a type, only its source tells.
func (s *Service) typeFor(ctx context.Context, req CreateRequest) (volumeType, error) {
	if req.Type != "" {
		return s.typeNamed(ctx, req.Type)
	}
	if req.sourced() || !req.Multiattach && req.Zone == "" {
		return volumeType{}, nil
	}
	standard, err := s.cloud.DefaultVolumeType(ctx)
	if cloud.NotTold(err) {
		return volumeType{}, nil
	}
	if err != nil {
		return volumeType{}, fmt.Errorf("looking for the default volume type: %w", err)
	}
	return typeOf(standard), nil
}

// zonesFor returns the names of the zones to ask for, or why there is none. A zone
// may be given by its label. Cinder refuses a zone that it doesn't have, or that the
// type isn't in, unless it has allow_availability_zone_fallback: then it makes the
// volume elsewhere without a word.
func (s *Service) zonesFor(ctx context.Context, req CreateRequest, kind volumeType) (zones []string, impossible, err error) {
	if req.Zone == "" {
		return []string{""}, nil, nil
	}
	all, err := s.cloud.ListZones(ctx)
	if err != nil && !cloud.NotTold(err) {
		return nil, nil, fmt.Errorf("looking for availability zone %s: %w", req.Zone, err)
	}
	labels := []string{req.Zone}
	for _, label := range req.AcceptZones {
		if !req.AnyZone && label != req.Zone {
			labels = append(labels, label)
		}
	}
	var ambiguous error
	exist := 0
	for _, label := range labels {
		meant := zonesOf(all, label)
		if len(all) == 0 {
			meant = []string{label} // as good a guess as any
		}
		if len(meant) > 1 && ambiguous == nil {
			ambiguous = fmt.Errorf("availability zone %s may be any of %s: set the parameter availability to one of them: %w",
				label, strings.Join(meant, ", "), cloud.ErrInvalid)
		}
		if len(meant) != 1 {
			continue
		}
		exist++
		if kind.serves(meant[0]) && !slices.Contains(zones, meant[0]) {
			zones = append(zones, meant[0])
		}
	}
	wanted := quoted(labels)
	switch {
	case req.AnyZone:
		return append(zones, ""), nil, nil
	case len(zones) > 0:
		return zones, nil, nil
	case exist > 0:
		return nil, fmt.Errorf("volumes of type %s are made in availability zones %s only: %w in %s",
			kind.name, quoted(kind.zones), ErrNoCapacity, wanted), nil
	case ambiguous != nil:
		return nil, ambiguous, nil
	case len(req.AcceptZones) > 0:
		// The zone of a node, and not of a class: another node may do.
		return nil, fmt.Errorf("availability zone %s does not exist in Cinder, there are %s: %w", wanted, quoted(all), ErrNoCapacity), nil
	}
	return nil, fmt.Errorf("availability zone %s does not exist in Cinder, there are %s: %w", wanted, quoted(all), cloud.ErrInvalid), nil
}

// elsewhere goes on to the next zone. Where there is none it returns ErrNoCapacity,
// which lets the scheduler choose another node, or ErrUnfinished where a zone may
// have had room.
func (p *plan) elsewhere(why string) error {
	p.reasons, p.zones = append(p.reasons, why), p.zones[1:]
	if len(p.zones) > 0 {
		return nil
	}
	kind := ErrNoCapacity
	if p.unsure {
		kind = ErrUnfinished
	}
	return fmt.Errorf("volume %s: %w: %s", p.Name, kind, strings.Join(p.reasons, "; "))
}

// last puts a zone behind the others: an earlier attempt has failed there.
func (p *plan) last(name string) {
	if i := slices.Index(p.zones, name); i >= 0 {
		p.zones = append(slices.Delete(p.zones, i, i+1), name)
	}
}

// unfit returns what keeps a new volume from being what was asked for, which Cinder
// decides, and tells only afterwards; nil where it fits.
func (p *plan) unfit(v *cloud.Volume) error {
	switch {
	case p.Multiattach && !v.Multiattach:
		return fmt.Errorf("volume type %q: %w", v.Type, ErrNotMultiattach)
	case v.Zone != "" && !p.fits(v.Zone):
		return fmt.Errorf("volumes for availability zone %q are made in %q by this cloud: %w in the first", p.Zone, v.Zone, ErrNoCapacity)
	}
	return nil
}

// differs returns ErrExists, with what differs, when v is not what the request
// asks for. A type or zone that the cloud doesn't tell differs from none.
func (p *plan) differs(v *cloud.Volume) error {
	different := func(what string, have, want any) error {
		return fmt.Errorf("volume %s (%s): %w: its %s is %v, wanted %v", v.ID, p.Name, ErrExists, what, have, want)
	}
	made := v.SnapshotID + v.BackupID
	switch {
	case v.SizeGiB < p.SizeGiB, !p.sourced() && v.SizeGiB != p.SizeGiB:
		return different("size in GiB", v.SizeGiB, p.SizeGiB)
	case p.LimitGiB > 0 && v.SizeGiB > p.LimitGiB:
		return different("size in GiB", v.SizeGiB, fmt.Sprintf("at most %d", p.LimitGiB))
	case p.Type != "" && v.Type != "" && !p.kind.is(v.Type):
		return different("type", v.Type, p.Type)
	case v.Zone != "" && !p.fits(v.Zone):
		return different("availability zone", v.Zone, p.Zone)
	case v.SourceVolumeID != p.SourceVolumeID:
		return different("source volume", orNone(v.SourceVolumeID), orNone(p.SourceVolumeID))
	case p.SnapshotID != "" && made != p.SnapshotID && !sourceUnknown(v):
		return different("snapshot or backup", orNone(made), p.SnapshotID)
	case p.SnapshotID == "" && made != "":
		return different("snapshot or backup", made, orNone(""))
	case p.Multiattach && !v.Multiattach:
		return fmt.Errorf("volume %s (%s): %w: its type %s is not for several servers (multiattach)", v.ID, p.Name, ErrExists, v.Type)
	}
	return nil
}

// sourceUnknown reports whether it is too early to know what a volume was made from:
// Cinder names the backup when it has been restored.
func sourceUnknown(v *cloud.Volume) bool {
	return beingMade(v) && v.SnapshotID+v.BackupID+v.SourceVolumeID == ""
}

// sourced reports whether the volume is a copy of something.
func (r CreateRequest) sourced() bool { return r.SnapshotID != "" || r.SourceVolumeID != "" }

// fits reports whether a volume in a zone of Cinder's is where it is wanted.
func (r CreateRequest) fits(name string) bool {
	if r.Zone == "" || r.AnyZone {
		return true
	}
	wanted := append([]string{r.Zone}, r.AcceptZones...)
	return slices.Contains(wanted, name) || slices.Contains(wanted, zone.Label(name))
}

// volumeType is a volume type as far as the driver has to know it; the zero value
// is any type.
type volumeType struct {
	// name is what Cinder writes, or what was asked for where that is no type that
	// the account can see.
	name string
	// specsKnown tells that the account may read the extra specs, on which the rest is based.
	specsKnown bool
	// backend is the volume_backend_name that it asks for, empty for any.
	backend string
	// zones are those that it is limited to, empty for all.
	zones       []string
	multiattach bool
}

// typeNamed returns the type with an id or a name; where no name is the same, that
// whose name is alike. A type that is in no list may be new: it stands for itself. It
// returns cloud.ErrInvalid for a name that may be any of several.
func (s *Service) typeNamed(ctx context.Context, nameOrID string) (volumeType, error) {
	types, err := s.cloud.ListVolumeTypes(ctx)
	if err != nil && !cloud.NotTold(err) {
		return volumeType{}, fmt.Errorf("looking for volume type %s: %w", nameOrID, err)
	}
	kind := volumeType{name: nameOrID}
	var meant []string
	for _, t := range types {
		switch {
		case t.Name == nameOrID, isID(nameOrID) && strings.EqualFold(t.ID, nameOrID):
			return typeOf(t), nil
		case alike(t.Name, nameOrID):
			kind, meant = typeOf(t), append(meant, t.Name)
		}
	}
	if len(meant) > 1 {
		return volumeType{}, fmt.Errorf("volume type %s may be any of %s: %w", nameOrID, strings.Join(meant, ", "), cloud.ErrInvalid)
	}
	return kind, nil
}

// typeOf reads the extra specs of a type.
func typeOf(t cloud.VolumeType) volumeType {
	kind := volumeType{
		name: t.Name, specsKnown: t.ExtraSpecs != nil, backend: t.ExtraSpecs["volume_backend_name"],
		multiattach: strings.EqualFold(t.ExtraSpecs["multiattach"], "<is> True"),
	}
	if operator, _, _ := strings.Cut(kind.backend, " "); strings.ContainsAny(operator, "<=>") {
		kind.backend = "" // an expression of the scheduler's, as in "<in> ssd" or "s== ssd"
	}
	for name := range strings.SplitSeq(t.ExtraSpecs["RESKEY:availability_zones"], ",") {
		if name = strings.TrimSpace(name); name != "" {
			kind.zones = append(kind.zones, name)
		}
	}
	return kind
}

// is reports whether a volume that names a type has this one.
func (t volumeType) is(name string) bool {
	return alike(t.name, name) || !t.specsKnown && uuid.Validate(t.name) == nil
}

// serves reports whether volumes of the type can be in a zone.
func (t volumeType) serves(name string) bool {
	return len(t.zones) == 0 || slices.Contains(t.zones, name)
}

// alike reports whether names are one to most databases of Cinder: MySQL's
// utf8_general_ci passes over letter case, accents and blanks at the end.
func alike(a, b string) bool {
	bare := func(name string) string {
		return strings.Map(func(r rune) rune {
			if unicode.Is(unicode.Mn, r) {
				return -1
			}
			return r
		}, norm.NFD.String(strings.TrimSpace(name)))
	}
	return strings.EqualFold(bare(a), bare(b))
}

// HasType reports whether a volume has the type with a name or an id.
func (s *Service) HasType(ctx context.Context, v *cloud.Volume, nameOrID string) (bool, error) {
	if v.Type == nameOrID {
		return true, nil
	}
	kind, err := s.typeNamed(ctx, nameOrID)
	return err == nil && kind.is(v.Type), err
}

// zonesOf returns the zones that a name, or else a label, stands for.
func zonesOf(zones []string, nameOrLabel string) []string {
	if slices.Contains(zones, nameOrLabel) {
		return []string{nameOrLabel}
	}
	var meant []string
	for _, name := range zones {
		if zone.Label(name) == nameOrLabel {
			meant = append(meant, name)
		}
	}
	return meant
}

// quoted returns a list for people.
func quoted(names []string) string {
	text := make([]string, len(names))
	for i, name := range names {
		text[i] = strconv.Quote(name)
	}
	return strings.Join(text, ", ")
}

func orNone(id string) string {
	if id == "" {
		return "none"
	}
	return id
}
