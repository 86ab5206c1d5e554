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

const (
	// capacityWait is for how long one question about the capacity is waited for, less
	// where the caller has less time.
	capacityWait = 5 * time.Second
	// capacityPatience is for how long such a question may have no answer before the
	// cloud counts as one that does not tell. external-provisioner asks again each
	// minute.
	capacityPatience = time.Minute
)

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
// of the scheduler. What the cloud does not tell sets no limit, be it forbidden, absent
// or nonsense: the scheduler of Kubernetes places no pod where it has no
// CSIStorageCapacity, and external-provisioner makes none after an error
// (pkg/capacity/capacity.go, syncCapacity). A volume for which there is no room is
// refused when it is created, and the pod is scheduled anew.
//
// Where the cloud gives no answer, the error makes external-provisioner keep the object
// that it has, and ask again. A question that has had no answer for a minute sets no
// limit, unless the cloud is down: it can't list volumes either.
func (s *Service) Capacity(ctx context.Context, req CapacityRequest) (Capacity, error) {
	if req.Zone != "" {
		zones, err := askCapacity(ctx, s, "availability zones", s.cloud.ListZones)
		if err != nil || len(zones) > 0 && len(zonesOf(zones, req.Zone)) == 0 {
			return Capacity{}, err
		}
	}
	kind := volumeType{name: req.Type}
	if req.Type != "" {
		found, err := askCapacity(ctx, s, "volume types", func(ctx context.Context) (volumeType, error) { return s.typeNamed(ctx, req.Type) })
		if err != nil {
			return Capacity{}, err
		}
		if found.name != "" {
			kind = found
		}
	}
	if req.Zone != "" && len(kind.zones) > 0 && len(zonesOf(kind.zones, req.Zone)) == 0 {
		return Capacity{}, nil
	}
	quota, err := askCapacity(ctx, s, "quota", s.cloud.Quota)
	if err != nil {
		return Capacity{}, err
	}
	pools, err := askCapacity(ctx, s, "pools", s.cloud.ListPools)
	return quotaRoom(quota, kind).within(poolRoom(pools, kind, req.Zone)), err
}

// askCapacity returns what the cloud answers to a question about the capacity, the zero value
// where it does not tell, and an error where it gives no answer.
func askCapacity[T any](ctx context.Context, s *Service, what string, question func(context.Context) (T, error)) (answer T, err error) {
	wait := capacityWait
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline)/2)
	}
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	answer, err = question(limited)
	if unanswered := s.unanswered(what, err); unanswered >= capacityPatience {
		_, _, err = s.List(ctx, cloud.Page{Limit: 1})
	} else if cloud.NotTold(err) {
		logging.From(ctx).Debug("the cloud does not tell, which sets no limit to the capacity", zap.String("what", what), zap.Error(err))
		err = nil
	}
	if err != nil {
		return answer, fmt.Errorf("asking for the %s: %w", what, err)
	}
	return answer, nil
}

// unanswered returns for how long a question about the capacity has had no answer, 0
// where err is one.
func (s *Service) unanswered(what string, err error) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	since, silent := s.unansweredSince[what]
	switch {
	case err == nil || cloud.NotTold(err):
		delete(s.unansweredSince, what)
		return 0
	case !silent:
		since = time.Now()
		s.unansweredSince[what] = since
	}
	return time.Since(since)
}

// quotaRoom is the room that the project's quota leaves.
func quotaRoom(quota cloud.Quota, kind volumeType) Capacity {
	capacity := Capacity{Unlimited, Unlimited}
	suffixes := []string{""}
	if kind.name != "" {
		suffixes = append(suffixes, "_"+kind.name)
	}
	for _, suffix := range suffixes {
		capacity.Available = min(capacity.Available, left(quota, "gigabytes"+suffix))
		if left(quota, "volumes"+suffix) == 0 {
			capacity.Available = 0
		}
	}
	capacity.Largest = capacity.Available
	if line, ok := quota.Lines["per_volume_gigabytes"]; ok && line.Limit >= 0 {
		capacity.Largest = min(capacity.Largest, line.Limit)
	}
	return capacity
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
	var capacity Capacity
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
		capacity.Available = min(Unlimited, capacity.Available+free)
		capacity.Largest = max(capacity.Largest, free)
	}
	return capacity
}

// within returns what both leave.
func (c Capacity) within(other Capacity) Capacity {
	available := min(c.Available, other.Available)
	return Capacity{Available: available, Largest: min(c.Largest, other.Largest, available)}
}
