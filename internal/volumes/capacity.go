package volumes

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

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
	var zones []string
	if req.Zone != "" {
		all, err := s.cloud.ListZones(ctx)
		if err != nil {
			return Capacity{}, fmt.Errorf("looking for availability zone %s: %w", req.Zone, err)
		}
		if zones = zonesOf(all, req.Zone); len(zones) == 0 {
			return Capacity{}, nil
		}
	}
	var kind volumeType
	if req.Type != "" {
		var known bool
		var err error
		if kind, known, err = s.knownType(ctx, req.Type); err != nil {
			return Capacity{}, err
		}
		if !known {
			return Capacity{}, fmt.Errorf("volume type %s does not exist: %w", req.Type, cloud.ErrInvalid)
		}
	}
	if len(zones) > 0 && !slices.ContainsFunc(zones, kind.serves) {
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
