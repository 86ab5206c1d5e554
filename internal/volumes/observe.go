package volumes

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
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

// The states that are watched; nil stands for what does not exist.
type (
	volumeState   struct{ volume *cloud.Volume }
	snapshotState struct{ snapshot *cloud.Snapshot }
	backupState   struct{ backup *cloud.Backup }
)

func askOptions[S any](opts Options, rate func() float64, ask func(context.Context, []string) (map[string]S, error)) watch.Options[string, S] {
	return watch.Options[string, S]{Ask: ask, Final: final, Few: few, Rate: rate, Burst: opts.AskBurst}
}

// waitVolume waits until done says so of the volume's state.
func (s *Service) waitVolume(ctx context.Context, id, kind string, done func(*cloud.Volume) (bool, error)) (*cloud.Volume, error) {
	state, err := s.volumes.Wait(ctx, id, kind, func(state volumeState) (bool, error) { return done(state.volume) })
	return state.volume, err
}

func (s *Service) askVolumes(ctx context.Context, ids []string) (map[string]volumeState, error) {
	q := question[cloud.Volume, volumeState]{
		get: s.cloud.GetVolume,
		list: func(ctx context.Context, page cloud.Page) ([]cloud.Volume, string, error) {
			return s.cloud.ListVolumes(ctx, cloud.VolumeFilter{}, page)
		},
		first: cloud.Page{Recent: true, Limit: min(2*len(ids)+spare, 1000)},
		pages: 1,
		id:    func(v *cloud.Volume) string { return v.ID },
		wrap:  func(v *cloud.Volume) volumeState { return volumeState{v} },
	}
	return q.ask(ctx, ids)
}

func (s *Service) askSnapshots(ctx context.Context, ids []string) (map[string]snapshotState, error) {
	q := question[cloud.Snapshot, snapshotState]{
		get: s.cloud.GetSnapshot,
		list: func(ctx context.Context, page cloud.Page) ([]cloud.Snapshot, string, error) {
			return s.cloud.ListSnapshots(ctx, cloud.SnapshotFilter{}, page)
		},
		pages: maxPages,
		id:    func(v *cloud.Snapshot) string { return v.ID },
		wrap:  func(v *cloud.Snapshot) snapshotState { return snapshotState{v} },
	}
	return q.ask(ctx, ids)
}

func (s *Service) askBackups(ctx context.Context, ids []string) (map[string]backupState, error) {
	q := question[cloud.Backup, backupState]{
		get: s.cloud.GetBackup,
		list: func(ctx context.Context, page cloud.Page) ([]cloud.Backup, string, error) {
			return s.cloud.ListBackups(ctx, cloud.BackupFilter{}, page)
		},
		pages: maxPages,
		id:    func(v *cloud.Backup) string { return v.ID },
		wrap:  func(v *cloud.Backup) backupState { return backupState{v} },
	}
	return q.ask(ctx, ids)
}

// question is how the states of some things of one kind are found out: by plain
// GETs of a few, by listing for more.
type question[T, S any] struct {
	get  func(ctx context.Context, id string) (*T, error)
	list func(ctx context.Context, page cloud.Page) ([]T, string, error)
	// first is the page to begin with, and pages how many are looked at.
	first cloud.Page
	pages int
	id    func(*T) string
	wrap  func(*T) S
}

func (q question[T, S]) ask(ctx context.Context, ids []string) (map[string]S, error) {
	if len(ids) <= few {
		return q.each(ctx, ids)
	}
	missing := make(map[string]bool, len(ids))
	for _, id := range ids {
		missing[id] = true
	}
	states := make(map[string]S, len(ids))
	page := q.first
	for range q.pages {
		things, next, err := q.list(ctx, page)
		if err != nil {
			return states, fmt.Errorf("asking for %d at once: %w", len(ids), err)
		}
		for i := range things {
			if id := q.id(&things[i]); missing[id] {
				delete(missing, id)
				states[id] = q.wrap(&things[i])
			}
		}
		if len(missing) == 0 {
			return states, nil
		}
		if next == "" {
			for id := range missing {
				states[id] = q.wrap(nil)
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
func (q question[T, S]) rest(ctx context.Context, states map[string]S, missing map[string]bool) (map[string]S, error) {
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
func (q question[T, S]) each(ctx context.Context, ids []string) (map[string]S, error) {
	var group sync.WaitGroup
	var mu sync.Mutex
	var failed error
	states := make(map[string]S, len(ids))
	for _, id := range ids {
		group.Go(func() {
			thing, err := q.get(ctx, id)
			if errors.Is(err, cloud.ErrNotFound) {
				thing, err = nil, nil
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err
				return
			}
			states[id] = q.wrap(thing)
		})
	}
	group.Wait()
	return states, failed
}
