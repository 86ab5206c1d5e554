package volumes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/logging"
	"github.com/cinder-csi/cinder-csi/internal/watch"
)

// few is up to how many things are asked for one by one; more are listed.
const few = 2

const (
	// maxPages bounds one question for many snapshots or backups. Cinder lists
	// the newest first, 1000 on a page, and what is waited for is mostly new.
	maxPages = 10
	// spare is how many volumes more than are waited for a list may hold: what
	// others are working on. Volumes are listed by their last change, so that
	// those that are waited for come first, be they old or new, and one short
	// page is enough however many there are.
	spare = 50
	// maxRest bounds how many are asked for one by one because no page held
	// them: what was deleted, mostly, whose absence from a part of the list
	// proves nothing. With 200 operations in flight some ten are deleted between
	// two questions.
	maxRest = 30
)

// sought is what is asked for about one volume: its state and, where name is set, the
// volumes of that name besides.
type sought struct{ id, name string }

// sighting is what was found: nil for a volume that does not exist.
type sighting struct {
	volume *cloud.Volume
	named  []cloud.Volume
}

// askOptions returns how things of one kind are watched.
func askOptions[K comparable, S any](s *Service, rate func() float64, ask func(context.Context, []K) (map[K]S, error)) watch.Options[K, S] {
	return watch.Options[K, S]{
		Ask: func(ctx context.Context, keys []K) (map[K]S, error) {
			return ask(logging.Into(ctx, s.opts.Logger), keys)
		},
		Final: final, Panicked: s.panicked, Few: few, Rate: rate, Burst: s.opts.AskBurst,
	}
}

// panicked returns the error for those whose question to the cloud has panicked. What
// was going on may go on in the cloud, so that it is no final answer.
func (s *Service) panicked(value any) error {
	s.opts.Logger.Error("panic while waiting for the cloud", zap.Any("panic", value), zap.Stack("stack"))
	return fmt.Errorf("%w to this call: a defect of the driver, see its log: %v", cloud.ErrUnavailable, value)
}

// waitVolume waits until done says so of the volume's state.
func (s *Service) waitVolume(ctx context.Context, id, kind string, done func(*cloud.Volume) (bool, error)) (*cloud.Volume, error) {
	now, err := s.volumes.Wait(ctx, sought{id: id}, kind, func(now sighting) (bool, error) { return done(now.volume) })
	return now.volume, err
}

func (s *Service) askVolumes(ctx context.Context, keys []sought) (map[sought]sighting, error) {
	q := question[sought, cloud.Volume, sighting]{
		get: s.sight,
		list: func(ctx context.Context, page cloud.Page) ([]cloud.Volume, string, error) {
			return s.cloud.ListVolumes(ctx, cloud.VolumeFilter{}, page)
		},
		first: cloud.Page{Recent: true, Limit: min(2*len(keys)+spare, 1000)},
		pages: 1,
		id:    func(v *cloud.Volume) string { return v.ID },
		of:    func(key sought) string { return key.id },
		state: func(key sought, v *cloud.Volume, page []cloud.Volume) sighting {
			now := sighting{volume: v}
			for i := range page {
				if key.name != "" && page[i].Name == key.name {
					now.named = append(now.named, page[i])
				}
			}
			return now
		},
		panicked: s.panicked,
	}
	return q.ask(ctx, keys)
}

// sight asks for one volume: by its name, where others of that name are of interest,
// too, since that is one request all the same.
func (s *Service) sight(ctx context.Context, key sought) (now sighting, err error) {
	if key.name != "" {
		if now.named, _, err = s.cloud.ListVolumes(ctx, cloud.VolumeFilter{Name: key.name}, cloud.Page{}); err != nil {
			return sighting{}, err
		}
		for i := range now.named {
			if now.named[i].ID == key.id {
				now.volume = &now.named[i]
				return now, nil
			}
		}
	}
	now.volume, err = ifExists(s.cloud.GetVolume(ctx, key.id))
	return now, err
}

func (s *Service) askSnapshots(ctx context.Context, ids []string) (map[string]*cloud.Snapshot, error) {
	q := question[string, cloud.Snapshot, *cloud.Snapshot]{
		get: func(ctx context.Context, id string) (*cloud.Snapshot, error) {
			return ifExists(s.cloud.GetSnapshot(ctx, id))
		},
		list: func(ctx context.Context, page cloud.Page) ([]cloud.Snapshot, string, error) {
			return s.cloud.ListSnapshots(ctx, cloud.SnapshotFilter{}, page)
		},
		pages:    maxPages,
		id:       func(v *cloud.Snapshot) string { return v.ID },
		of:       func(id string) string { return id },
		state:    func(_ string, v *cloud.Snapshot, _ []cloud.Snapshot) *cloud.Snapshot { return v },
		panicked: s.panicked,
	}
	return q.ask(ctx, ids)
}

func (s *Service) askBackups(ctx context.Context, ids []string) (map[string]*cloud.Backup, error) {
	q := question[string, cloud.Backup, *cloud.Backup]{
		get: func(ctx context.Context, id string) (*cloud.Backup, error) {
			return ifExists(s.cloud.GetBackup(ctx, id))
		},
		list: func(ctx context.Context, page cloud.Page) ([]cloud.Backup, string, error) {
			return s.cloud.ListBackups(ctx, cloud.BackupFilter{}, page)
		},
		pages:    maxPages,
		id:       func(v *cloud.Backup) string { return v.ID },
		of:       func(id string) string { return id },
		state:    func(_ string, v *cloud.Backup, _ []cloud.Backup) *cloud.Backup { return v },
		panicked: s.panicked,
	}
	return q.ask(ctx, ids)
}

// ifExists returns nil for what does not exist.
func ifExists[T any](thing *T, err error) (*T, error) {
	if errors.Is(err, cloud.ErrNotFound) {
		return nil, nil
	}
	return thing, err
}

// mostNamed is the most entries of one name that are of interest: a cloud of a secret
// may list without an end.
const mostNamed = 10000

// everyPage returns all entries of a list of one name.
func everyPage[T any](list func(cloud.Page) ([]T, string, error)) ([]T, error) {
	var all []T
	for page := (cloud.Page{}); ; {
		entries, next, err := list(page)
		if err != nil {
			return nil, err
		}
		all = append(all, entries...)
		switch {
		case len(all) > mostNamed:
			return nil, fmt.Errorf("%w: it lists more than %d things of one name", cloud.ErrUnavailable, mostNamed)
		case next == "":
			return all, nil
		}
		page.Marker = next
	}
}

// question is how the states S of some things T are found out: by asking for each of
// a few, by listing for more. K says what is asked for about one thing.
type question[K comparable, T, S any] struct {
	get  func(ctx context.Context, key K) (S, error)
	list func(ctx context.Context, page cloud.Page) ([]T, string, error)
	// first is the page to begin with, and pages how many are looked at.
	first cloud.Page
	pages int
	// id is the id of a thing, of that of the thing that a key is about.
	id func(*T) string
	of func(K) string
	// state is what a page tells of a thing, which is nil where it does not exist.
	state func(key K, thing *T, page []T) S
	// panicked is watch.Options.Panicked.
	panicked func(value any) error
}

func (q question[K, T, S]) ask(ctx context.Context, keys []K) (map[K]S, error) {
	if len(keys) <= few {
		return q.each(ctx, keys)
	}
	missing := make(map[string][]K, len(keys))
	for _, key := range keys {
		missing[q.of(key)] = append(missing[q.of(key)], key)
	}
	states := make(map[K]S, len(keys))
	page := q.first
	for range q.pages {
		things, next, err := q.list(ctx, page)
		if err != nil {
			return states, fmt.Errorf("asking for %d at once: %w", len(keys), err)
		}
		for i := range things {
			id := q.id(&things[i])
			for _, key := range missing[id] {
				states[key] = q.state(key, &things[i], things)
			}
			delete(missing, id)
		}
		if len(missing) == 0 {
			return states, nil
		}
		if next == "" {
			for _, absent := range missing {
				for _, key := range absent {
					states[key] = q.state(key, nil, things)
				}
			}
			return states, nil
		}
		if len(missing) <= few {
			break
		}
		page.Marker = next
	}
	return q.rest(ctx, states, missing)
}

// rest asks one by one for some of what was on none of the pages that were
// looked at; what is left comes next time.
func (q question[K, T, S]) rest(ctx context.Context, states map[K]S, missing map[string][]K) (map[K]S, error) {
	keys := make([]K, 0, maxRest)
	for _, absent := range missing {
		if len(keys)+len(absent) > maxRest {
			break
		}
		keys = append(keys, absent...)
	}
	more, err := q.each(ctx, keys)
	maps.Copy(states, more)
	return states, err
}

// each asks for every key at the same time.
func (q question[K, T, S]) each(ctx context.Context, keys []K) (map[K]S, error) {
	var group sync.WaitGroup
	var mu sync.Mutex
	var failed error
	states := make(map[K]S, len(keys))
	for _, key := range keys {
		group.Go(func() {
			state, err := q.one(ctx, key)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err
				return
			}
			states[key] = state
		})
	}
	group.Wait()
	return states, failed
}

// one asks for one key.
func (q question[K, T, S]) one(ctx context.Context, key K) (state S, err error) {
	defer func() {
		if value := recover(); value != nil {
			err = q.panicked(value)
		}
	}()
	return q.get(ctx, key)
}
