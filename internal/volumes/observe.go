package volumes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/keylock"
	"github.com/cinder-csi/cinder-csi/internal/logging"
	"github.com/cinder-csi/cinder-csi/internal/watch"
)

const (
	// few is up to how many things are asked for one by one; more are listed.
	few = 2
	// askBurst is how many questions about many things may follow each other closely
	// after a quiet time.
	askBurst = 3
	// spare is how many volumes more than are waited for a list may hold: what
	// others are working on. Volumes are listed by their last change, so that
	// those that are waited for come first, be they old or new, and one short
	// page is enough however many there are.
	spare = 50
	// maxRest bounds how many are asked for one by one because the page did not
	// hold them: what was deleted, mostly, whose absence from a part of the list
	// proves nothing. With 200 operations in flight some ten are deleted between
	// two questions.
	maxRest = 30
)

// volumeKey is what is asked for about one volume: its state and, where name is set, the
// volumes of that name besides.
type volumeKey struct{ id, name string }

// volumeState is what was found: nil for a volume that does not exist.
type volumeState struct {
	volume *cloud.Volume
	named  []cloud.Volume
}

// askOptions returns how things of one kind are watched.
func askOptions[K comparable, S any](s *Service, name string, rate func() float64, ask func(context.Context, []K) (map[K]S, error)) watch.Options[K, S] {
	return watch.Options[K, S]{
		Name: name,
		Ask: func(ctx context.Context, keys []K) (map[K]S, error) {
			s.counted.polls.Inc()
			return ask(logging.Into(ctx, s.opts.Logger), keys)
		},
		Final: final, Panicked: s.panicked, Few: few, Rate: rate, Burst: askBurst,
	}
}

// panicked returns the error for those whose question to the cloud has panicked. What
// was going on may go on in the cloud, so that it is no final answer.
func (s *Service) panicked(value any) error {
	s.opts.Logger.Error("panic while waiting for the cloud", zap.String("cloud", s.opts.Cloud), zap.Any("panic", value), zap.Stack("stack"))
	return fmt.Errorf("%w to this call: a defect of the driver, see its log: %v", cloud.ErrUnavailable, value)
}

// wait waits until done says so of a thing's state, and notes what it learns with the
// operation of the call.
func wait[K comparable, S any](ctx context.Context, s *Service, w *watch.Watcher[K, S], key K, kind string, done func(S) (bool, error)) (S, error) {
	s.counted.waiters.Inc()
	defer s.counted.waiters.Dec()
	ctx, end := startSpan(ctx, "")
	state, err := w.Wait(ctx, key, kind, func(now S) (bool, error) {
		switch now := any(now).(type) {
		case volumeState:
			if now.volume != nil {
				saw(ctx, now.volume.ID, string(now.volume.Status))
			}
		case *cloud.Snapshot:
			if now != nil {
				saw(ctx, now.VolumeID, string(now.Status))
			}
		case *cloud.Backup:
			if now != nil {
				saw(ctx, now.VolumeID, string(now.Status))
			}
		}
		over, err := done(now)
		waited(ctx, over || err != nil)
		return over, err
	})
	end(err)
	return state, err
}

// turn waits for the turn at a key of locks; see keylock.Locks.
func (s *Service) turn(ctx context.Context, locks *keylock.Locks[string], key string, most time.Duration) (leave func(), err error) {
	begun := time.Now()
	leave, err = locks.Lock(ctx, key, most)
	s.counted.lockWait.WithLabelValues().Observe(time.Since(begun).Seconds())
	traceTurn(ctx, key, begun, err)
	return leave, err
}

// waitVolume waits until done says so of the volume's state.
func (s *Service) waitVolume(ctx context.Context, id, kind string, done func(*cloud.Volume) (bool, error)) (*cloud.Volume, error) {
	now, err := wait(ctx, s, s.volumes, volumeKey{id: id}, kind, func(now volumeState) (bool, error) { return done(now.volume) })
	return now.volume, err
}

func (s *Service) askVolumes(ctx context.Context, keys []volumeKey) (map[volumeKey]volumeState, error) {
	return askAll(ctx, s, keys, s.readVolume, func() ([]cloud.Volume, string, error) {
		return s.cloud.ListVolumes(ctx, cloud.VolumeFilter{}, cloud.Page{Recent: true, Limit: min(2*len(keys)+spare, 1000)})
	}, func(key volumeKey, page []cloud.Volume) (now volumeState, found bool) {
		for i := range page {
			if page[i].ID == key.id {
				now.volume = &page[i]
			}
			if key.name != "" && page[i].Name == key.name {
				now.named = append(now.named, page[i])
			}
		}
		return now, now.volume != nil
	})
}

// readVolume asks for one volume: by its name, where others of that name are of interest,
// too, since that is one request all the same.
func (s *Service) readVolume(ctx context.Context, key volumeKey) (now volumeState, err error) {
	if key.name != "" {
		if now.named, _, err = s.cloud.ListVolumes(ctx, cloud.VolumeFilter{Name: key.name}, cloud.Page{}); err != nil {
			return volumeState{}, err
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
	return askAll(ctx, s, ids, func(ctx context.Context, id string) (*cloud.Snapshot, error) {
		return ifExists(s.cloud.GetSnapshot(ctx, id))
	}, func() ([]cloud.Snapshot, string, error) {
		return s.cloud.ListSnapshots(ctx, cloud.SnapshotFilter{}, cloud.Page{Recent: true})
	}, withID(func(v *cloud.Snapshot) string { return v.ID }))
}

func (s *Service) askBackups(ctx context.Context, ids []string) (map[string]*cloud.Backup, error) {
	return askAll(ctx, s, ids, func(ctx context.Context, id string) (*cloud.Backup, error) {
		return ifExists(s.cloud.GetBackup(ctx, id))
	}, func() ([]cloud.Backup, string, error) {
		return s.cloud.ListBackups(ctx, cloud.BackupFilter{}, cloud.Page{Recent: true})
	}, withID(func(v *cloud.Backup) string { return v.ID }))
}

// withID finds a thing on a page by its id.
func withID[T any](idOf func(*T) string) func(string, []T) (*T, bool) {
	return func(id string, page []T) (*T, bool) {
		i := slices.IndexFunc(page, func(one T) bool { return idOf(&one) == id })
		if i < 0 {
			return nil, false
		}
		return &page[i], true
	}
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

// askAll finds out the states S of some things T, of which K says what is asked for: by
// asking for each of a few, by one page of a list for more. find returns what a page
// tells of a thing. What is not on the page, where that isn't the whole list, is asked
// for one by one; what is left of that comes next time.
func askAll[K comparable, T, S any](ctx context.Context, s *Service, keys []K, get func(context.Context, K) (S, error),
	list func() (page []T, next string, err error), find func(K, []T) (S, bool),
) (map[K]S, error) {
	states := make(map[K]S, len(keys))
	rest := keys
	if len(keys) > few {
		page, next, err := list()
		if err != nil {
			return nil, fmt.Errorf("asking for %d at once: %w", len(keys), err)
		}
		rest = nil
		for _, key := range keys {
			state, found := find(key, page)
			if found || next == "" {
				states[key] = state
			} else if len(rest) < maxRest {
				rest = append(rest, key)
			}
		}
	}
	more, err := askEach(ctx, s, rest, get)
	maps.Copy(states, more)
	return states, err
}

// askEach asks for every key at the same time. It returns what it was told together with
// the last error.
func askEach[K comparable, S any](ctx context.Context, s *Service, keys []K, get func(context.Context, K) (S, error)) (map[K]S, error) {
	var (
		group  sync.WaitGroup
		mu     sync.Mutex
		failed error
	)
	states := make(map[K]S, len(keys))
	for _, key := range keys {
		group.Go(func() {
			state, err := recovered(s, func() (S, error) { return get(ctx, key) })
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

// recovered calls something on a goroutine of its own: a panic is an error.
func recovered[T any](s *Service, call func() (T, error)) (result T, err error) {
	defer func() {
		if value := recover(); value != nil {
			err = s.panicked(value)
		}
	}()
	return call()
}
