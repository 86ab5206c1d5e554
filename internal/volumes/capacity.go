package volumes

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// Unlimited is the number of GiB that stands for no limit that is known. Its
// bytes still fit into 64 bits.
const Unlimited int64 = math.MaxInt64 >> 30

// CapacityRequest says where, and of which kind, volumes are to be.
type CapacityRequest struct {
	// Type is the name or id of a volume type, Zone the name of one of Cinder's
	// zones or its label. Empty: any.
	Type, Zone string
}

// Capacity is the room for more volumes, in GiB.
type Capacity struct {
	// Available is how much all new volumes together may have, Largest how
	// large one may be.
	Available, Largest int64
}

// Capacity returns how much room there is: by the quota of the project, and by
// what the scheduler knows of the back ends where the account may read that. A
// zone that does not exist has none; a type that does not is cloud.ErrInvalid.
func (s *Service) Capacity(ctx context.Context, req CapacityRequest) (Capacity, error) {
	zones, err := s.zonesMeant(ctx, req.Zone)
	if err != nil || req.Zone != "" && len(zones) == 0 {
		return Capacity{}, err
	}
	kind, err := s.volumeType(ctx, req.Type)
	if err != nil {
		return Capacity{}, err
	}
	if !kind.servesAny(zones) {
		return Capacity{}, nil
	}
	room, err := s.quotaRoom(ctx, kind)
	if err != nil {
		return Capacity{}, err
	}
	pools, err := s.cloud.ListPools(ctx)
	switch {
	case errors.Is(err, cloud.ErrForbidden):
		return room, nil
	case err != nil:
		return Capacity{}, fmt.Errorf("asking for the capacity of the back ends: %w", err)
	}
	return room.within(poolRoom(pools, kind, zones)), nil
}

// zonesMeant returns the zones that a name or label stands for.
func (s *Service) zonesMeant(ctx context.Context, name string) ([]string, error) {
	if name == "" {
		return nil, nil
	}
	zones, err := s.cloud.ListZones(ctx)
	if err != nil {
		return nil, fmt.Errorf("looking for availability zone %s: %w", name, err)
	}
	if slices.Contains(zones, name) {
		return []string{name}, nil
	}
	return zonesOf(zones, name), nil
}

// volumeType is a type as far as capacity goes; the zero value is any.
type volumeType struct {
	name string
	// backend is the volume_backend_name that it asks for, empty for any, and
	// zones are those that it is limited to, empty for all.
	backend string
	zones   []string
}

func (s *Service) volumeType(ctx context.Context, nameOrID string) (volumeType, error) {
	if nameOrID == "" {
		return volumeType{}, nil
	}
	types, err := s.cloud.ListVolumeTypes(ctx)
	if err != nil {
		return volumeType{}, fmt.Errorf("looking for volume type %s: %w", nameOrID, err)
	}
	for _, t := range types {
		if t.Name != nameOrID && !strings.EqualFold(t.ID, nameOrID) {
			continue
		}
		kind := volumeType{name: t.Name, backend: t.ExtraSpecs["volume_backend_name"]}
		if strings.HasPrefix(kind.backend, "<") {
			kind.backend = "" // an expression of the scheduler's
		}
		for name := range strings.SplitSeq(t.ExtraSpecs["RESKEY:availability_zones"], ",") {
			if name = strings.TrimSpace(name); name != "" {
				kind.zones = append(kind.zones, name)
			}
		}
		return kind, nil
	}
	return volumeType{}, fmt.Errorf("volume type %s does not exist: %w", nameOrID, cloud.ErrInvalid)
}

// servesAny reports whether volumes of the type can be in one of the zones.
func (t volumeType) servesAny(zones []string) bool {
	return len(t.zones) == 0 || len(zones) == 0 || slices.ContainsFunc(zones, func(name string) bool { return slices.Contains(t.zones, name) })
}

// quotaRoom is the room that the project's quota leaves.
func (s *Service) quotaRoom(ctx context.Context, kind volumeType) (Capacity, error) {
	room := Capacity{Unlimited, Unlimited}
	quota, err := s.cloud.Quota(ctx)
	switch {
	case errors.Is(err, cloud.ErrForbidden):
		return room, nil
	case err != nil:
		return Capacity{}, fmt.Errorf("asking for the quota: %w", err)
	}
	suffixes := []string{""}
	if kind.name != "" {
		suffixes = append(suffixes, "_"+kind.name)
	}
	for _, suffix := range suffixes {
		room.Available = min(room.Available, left(quota, "gigabytes"+suffix))
		if left(quota, "volumes"+suffix) == 0 {
			room.Available = 0
		}
	}
	room.Largest = room.Available
	if line, ok := quota.Lines["per_volume_gigabytes"]; ok && line.Limit >= 0 {
		room.Largest = min(room.Largest, line.Limit)
	}
	return room, nil
}

// left returns what is left of a line of the quota, in its own unit.
func left(quota cloud.Quota, name string) int64 {
	line, ok := quota.Lines[name]
	if !ok || line.Limit < 0 {
		return Unlimited
	}
	return max(0, line.Limit-line.Used)
}

// poolRoom is the room on the pools that can serve a type in some zones. A
// volume is on one pool, so that none is larger than the emptiest.
func poolRoom(pools []cloud.Pool, kind volumeType, zones []string) Capacity {
	var room Capacity
	for _, p := range pools {
		elsewhere := p.Zone != "" && len(zones) > 0 && !slices.Contains(zones, p.Zone)
		if elsewhere || kind.backend != "" && p.Backend != kind.backend {
			continue
		}
		free := p.FreeGiB
		if free < 0 || free > Unlimited {
			free = Unlimited
		}
		room.Available = min(Unlimited, room.Available+free)
		room.Largest = max(room.Largest, free)
	}
	return room
}

// within returns what both leave.
func (c Capacity) within(other Capacity) Capacity {
	available := min(c.Available, other.Available)
	return Capacity{Available: available, Largest: min(c.Largest, other.Largest, available)}
}
