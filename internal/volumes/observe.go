package volumes

import (
	"context"
	"errors"
	"fmt"
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

// asking returns how things of one kind are watched; a nil *T stands for a thing
// that does not exist.
func asking[T any](s *Service, q question[T], rate func() float64) *watch.Watcher[string, *T] {
	return watch.New(watch.Options[string, *T]{
		Ask: func(ctx context.Context, ids []string) (map[string]*T, error) {
			return q.ask(logging.Into(ctx, s.opts.Logger), ids)
		},
		Final: final, Panicked: s.panicked, Few: few, Rate: rate, Burst: s.opts.AskBurst,
	})
}

// panicked returns the error for those whose question to the cloud has panicked.
func (s *Service) panicked(value any) error {
	s.opts.Logger.Error("panic while waiting for the cloud", zap.Any("panic", value), zap.Stack("stack"))
	return fmt.Errorf("a defect of the driver, see its log: %v", value)
}

// waitVolume waits until done says so of the volume's state.
func (s *Service) waitVolume(ctx context.Context, id, kind string, done func(*cloud.Volume) (bool, error)) (*cloud.Volume, error) {
	return s.volumes.Wait(ctx, id, kind, done)
}

func (s *Service) volumeQuestion() question[cloud.Volume] {
	return question[cloud.Volume]{
		get: s.cloud.GetVolume,
		list: func(ctx context.Context, page cloud.Page) ([]cloud.Volume, string, error) {
			return s.cloud.ListVolumes(ctx, cloud.VolumeFilter{}, page)
		},
		first:    func(n int) cloud.Page { return cloud.Page{Recent: true, Limit: min(2*n+spare, 1000)} },
		pages:    1,
		id:       func(v *cloud.Volume) string { return v.ID },
		panicked: s.panicked,
	}
}

func (s *Service) snapshotQuestion() question[cloud.Snapshot] {
	return question[cloud.Snapshot]{
		get: s.cloud.GetSnapshot,
		list: func(ctx context.Context, page cloud.Page) ([]cloud.Snapshot, string, error) {
			return s.cloud.ListSnapshots(ctx, cloud.SnapshotFilter{}, page)
		},
		first:    func(int) cloud.Page { return cloud.Page{} },
		pages:    maxPages,
		id:       func(v *cloud.Snapshot) string { return v.ID },
		panicked: s.panicked,
	}
}

func (s *Service) backupQuestion() question[cloud.Backup] {
	return question[cloud.Backup]{
		get: s.cloud.GetBackup,
		list: func(ctx context.Context, page cloud.Page) ([]cloud.Backup, string, error) {
			return s.cloud.ListBackups(ctx, cloud.BackupFilter{}, page)
		},
		first:    func(int) cloud.Page { return cloud.Page{} },
		pages:    maxPages,
		id:       func(v *cloud.Backup) string { return v.ID },
		panicked: s.panicked,
	}
}

// question is how the states of some things of one kind are found out: by plain
// GETs of a few, by listing for more.
type question[T any] struct {
	get  func(ctx context.Context, id string) (*T, error)
	list func(ctx context.Context, page cloud.Page) ([]T, string, error)
	// first is the page to begin with for n things, and pages how many are looked at.
	first func(n int) cloud.Page
	pages int
	id    func(*T) string
	// panicked is watch.Options.Panicked.
	panicked func(value any) error
}

func (q question[T]) ask(ctx context.Context, ids []string) (map[string]*T, error) {
	if len(ids) <= few {
		return q.each(ctx, ids)
	}
	missing := make(map[string]bool, len(ids))
	for _, id := range ids {
		missing[id] = true
	}
	states := make(map[string]*T, len(ids))
	page := q.first(len(ids))
	for range q.pages {
		things, next, err := q.list(ctx, page)
		if err != nil {
			return states, fmt.Errorf("asking for %d at once: %w", len(ids), err)
		}
		for i := range things {
			if id := q.id(&things[i]); missing[id] {
				delete(missing, id)
				states[id] = &things[i]
			}
		}
		if len(missing) == 0 {
			return states, nil
		}
		if next == "" {
			for id := range missing {
				states[id] = nil
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
func (q question[T]) rest(ctx context.Context, states map[string]*T, missing map[string]bool) (map[string]*T, error) {
	ids := make([]string, 0, maxRest)
	for id := range missing {
		if len(ids) == maxRest {
			break
		}
		ids = append(ids, id)
	}
	more, err := q.each(ctx, ids)
	for id, state := range more {
		states[id] = state
	}
	return states, err
}

// each asks for every id at the same time.
func (q question[T]) each(ctx context.Context, ids []string) (map[string]*T, error) {
	var group sync.WaitGroup
	var mu sync.Mutex
	var failed error
	states := make(map[string]*T, len(ids))
	for _, id := range ids {
		group.Go(func() {
			thing, err := q.one(ctx, id)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err
				return
			}
			states[id] = thing
		})
	}
	group.Wait()
	return states, failed
}

// one asks for one thing.
func (q question[T]) one(ctx context.Context, id string) (thing *T, err error) {
	defer func() {
		if value := recover(); value != nil {
			thing, err = nil, q.panicked(value)
		}
	}()
	thing, err = q.get(ctx, id)
	if errors.Is(err, cloud.ErrNotFound) {
		return nil, nil
	}
	return thing, err
}
