package volumes

import (
	"context"
	"fmt"
	"math"
	"time"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// Unlimited is the number of GiB that stands for no limit that is known. Its
// bytes still fit into 64 bits.
const Unlimited int64 = math.MaxInt64 >> 30

// capacityWait is for how long one question about the capacity is waited for, less where
// the caller has less time. All of them fit into the 10 s that external-provisioner
// allows by default, as long as no more than one gets no answer.
const capacityWait = 5 * time.Second

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

// Capacity returns how much room there is, as far as the cloud tells: by its zones, by
// the zones and the back end of the type, by the quota of the project and by the pools
// of the scheduler. Whatever the cloud does not tell sets no limit, be it forbidden,
// absent, broken or nonsense: the scheduler of Kubernetes places no pod where it has no
// CSIStorageCapacity, and external-provisioner makes none after an error
// (pkg/capacity/capacity.go, syncCapacity). A volume for which there is no room is
// refused when it is created, and the pod is scheduled anew.
//
// The only error is that of a cloud that is down, which is one that can't list volumes
// either. external-provisioner then keeps the object that it has and asks again.
func (s *Service) Capacity(ctx context.Context, req CapacityRequest) (Capacity, error) {
	q := questions{about: logging.From(ctx)}
	if req.Zone != "" {
		zones := ask(ctx, &q, "zones", s.cloud.ListZones)
		if len(zones) > 0 && len(zonesOf(zones, req.Zone)) == 0 {
			return Capacity{}, nil
		}
	}
	kind := volumeType{name: req.Type}
	if req.Type != "" {
		found := ask(ctx, &q, "volume types", func(ctx context.Context) (volumeType, error) { return s.typeNamed(ctx, req.Type) })
		if found.name != "" {
			kind = found
		}
	}
	if req.Zone != "" && len(kind.zones) > 0 && len(zonesOf(kind.zones, req.Zone)) == 0 {
		return Capacity{}, nil
	}
	room := quotaRoom(ask(ctx, &q, "quota", s.cloud.Quota), kind)
	room = room.within(poolRoom(ask(ctx, &q, "pools", s.cloud.ListPools), kind, req.Zone))
	if !q.answered {
		if _, _, err := s.List(ctx, cloud.Page{Limit: 1}); err != nil {
			return Capacity{}, fmt.Errorf("the cloud tells nothing about its capacity, and lists no volumes: %w", err)
		}
	}
	return room, nil
}

// questions are those that one call asks.
type questions struct {
	about *zap.Logger
	// answered tells that the cloud has answered one of them, if only by refusing it.
	answered bool
}

// ask returns the answer to a question, and the zero value where there is none.
func ask[T any](ctx context.Context, q *questions, what string, question func(context.Context) (T, error)) T {
	wait := capacityWait
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline)/2)
	}
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	answer, err := question(limited)
	q.answered = q.answered || err == nil || notTold(err)
	if err != nil {
		q.about.Debug("the cloud does not tell, which sets no limit to the capacity", zap.String("what", what), zap.Error(err))
		var none T
		return none
	}
	return answer
}

// quotaRoom is the room that the project's quota leaves.
func quotaRoom(quota cloud.Quota, kind volumeType) Capacity {
	room := Capacity{Unlimited, Unlimited}
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
	return room
}

// left returns what is left of a line of the quota, in its own unit.
func left(quota cloud.Quota, name string) int64 {
	line, ok := quota.Lines[name]
	if !ok || line.Limit < 0 {
		return Unlimited
	}
	return max(0, line.Limit-line.Used)
}

// poolRoom is the room on the pools that can serve a type in a zone. A volume is on one
// pool, so that none is larger than the emptiest.
func poolRoom(pools []cloud.Pool, kind volumeType, zone string) Capacity {
	if len(pools) == 0 {
		return Capacity{Unlimited, Unlimited}
	}
	var room Capacity
	for _, p := range pools {
		elsewhere := p.Zone != "" && zone != "" && len(zonesOf([]string{p.Zone}, zone)) == 0
		other := p.Backend != "" && kind.backend != "" && p.Backend != kind.backend
		if elsewhere || other {
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
