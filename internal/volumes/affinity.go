package volumes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// The metadata keys under which a volume remembers what it was to be near, and
// far from: a comma separated list of ids, continued under the same key with
// ".2", ".3" …, since Cinder takes 255 characters.
const (
	affinityKey     = ReservedPrefix + "affinity"
	antiAffinityKey = ReservedPrefix + "anti-affinity"
)

const (
	// maxNeighbours is how many volumes one list may name: enough for what
	// people spread, and far from what Cinder takes as metadata (128 keys).
	maxNeighbours = 60
	// idsPerKey ids of 36 characters, with commas, fit into 255.
	idsPerKey = 6
	// lookups are made at a time.
	lookups = 8
)

// Claim is what the one who claims a new volume asks for besides the CreateRequest.
type Claim struct {
	// SameHost are volumes, by name or id, whose back end host the volume is to share, and
	// DifferentHost those whose host it is to avoid.
	SameHost, DifferentHost []string
	// Metadata is recorded with the volume, besides that of the CreateRequest.
	Metadata map[string]string
}

// AffinityOf returns what a volume was made near to, and far from: ids with
// commas between them, empty for none.
func AffinityOf(v *cloud.Volume) (same, different string) {
	return recorded(v.Metadata, affinityKey), recorded(v.Metadata, antiAffinityKey)
}

func recorded(metadata map[string]string, key string) string {
	var parts []string
	for n := 1; ; n++ {
		part, ok := metadata[numbered(key, n)]
		if !ok {
			return strings.Join(parts, ",")
		}
		parts = append(parts, part)
	}
}

func numbered(key string, n int) string {
	if n == 1 {
		return key
	}
	return key + "." + strconv.Itoa(n)
}

// record adds the ids of neighbours to the metadata of a new volume.
func record(metadata map[string]string, key string, ids []string) {
	part := 0
	for chunk := range slices.Chunk(ids, idsPerKey) {
		part++
		metadata[numbered(key, part)] = strings.Join(chunk, ",")
	}
}

// addNeighbours adds a claim to the request for a new volume: the ids of the volumes that
// it is to be near, or far from, and its metadata.
func (s *Service) addNeighbours(ctx context.Context, p *plan) error {
	if p.Claim == nil {
		return nil
	}
	wanted, err := p.Claim(ctx)
	if err != nil {
		return err
	}
	if p.ask.SameHost, err = s.identify(ctx, wanted.SameHost); err != nil {
		return fmt.Errorf("affinity: %w", err)
	}
	if p.ask.DifferentHost, err = s.identify(ctx, wanted.DifferentHost); err != nil {
		return fmt.Errorf("anti-affinity: %w", err)
	}
	p.Claim = nil // for the next zone they are the same
	maps.Copy(p.ask.Metadata, wanted.Metadata)
	record(p.ask.Metadata, affinityKey, p.ask.SameHost)
	record(p.ask.Metadata, antiAffinityKey, p.ask.DifferentHost)
	return nil
}

// identify returns the ids of volumes that are named by name or id, in their
// order, each once.
func (s *Service) identify(ctx context.Context, names []string) ([]string, error) {
	if len(names) > maxNeighbours {
		return nil, fmt.Errorf("%w: %d volumes are named, at most %d are possible", cloud.ErrInvalid, len(names), maxNeighbours)
	}
	ids := make([]string, len(names))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(lookups)
	for i, name := range names {
		group.Go(func() (err error) {
			ids[i], err = recovered(s, func() (string, error) { return s.idOf(ctx, name) })
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var unique []string
	for _, id := range ids {
		if !slices.Contains(unique, id) {
			unique = append(unique, id)
		}
	}
	return unique, nil
}

// idOf returns the id of a volume that is named by name or id.
func (s *Service) idOf(ctx context.Context, name string) (string, error) {
	if isID(name) {
		v, err := s.cloud.GetVolume(ctx, name)
		if err == nil {
			return v.ID, nil
		}
		if !errors.Is(err, cloud.ErrNotFound) {
			return "", err
		}
	}
	found, err := everyPage(func(page cloud.Page) ([]cloud.Volume, string, error) {
		return s.cloud.ListVolumes(ctx, cloud.VolumeFilter{Name: name}, page)
	})
	if err != nil {
		return "", err
	}
	var ids []string
	for _, v := range found {
		if v.Name == name && v.Status != cloud.VolumeDeleting {
			ids = append(ids, v.ID)
		}
	}
	switch len(ids) {
	case 0:
		return "", fmt.Errorf("%w: there is no volume with the name or id %s", cloud.ErrInvalid, name)
	case 1:
		return ids[0], nil
	}
	return "", fmt.Errorf("%w: the name %s may be any of the volumes %s: write an id", cloud.ErrInvalid, name, strings.Join(ids, ", "))
}
