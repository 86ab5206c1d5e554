package tests

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// lister is a typed client of one kind of object.
type lister[L runtime.Object] interface {
	List(ctx context.Context, opts metav1.ListOptions) (L, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
}

// errAbsent is why a wait for an object goes on that doesn't exist.
var errAbsent = errors.New("it doesn't exist")

// await watches an object until check has nothing to object to, and returns it.
// When ctx ends first, the error is the last objection. check gets nil while the
// object doesn't exist.
func await[T any, L runtime.Object](ctx context.Context, client lister[L], name string, check func(*T) error) (*T, error) {
	only := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()}
	objection := errAbsent
	for {
		var found *T
		done, err := watchOnce(ctx, client, only, func(object *T) bool {
			found, objection = object, check(object)
			return objection == nil
		})
		if done {
			return found, nil
		}
		// A watch may end at any time, and a request be refused: a server
		// that restarts does both. Then it is begun again.
		select {
		case <-ctx.Done():
			if errors.Is(err, ctx.Err()) {
				err = nil
			}
			return found, errors.Join(objection, err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// watchOnce shows seen every state of the one object that opts selects, until it
// says that this is the one, or the watch ends.
func watchOnce[T any, L runtime.Object](ctx context.Context, client lister[L], opts metav1.ListOptions, seen func(*T) bool) (bool, error) {
	list, err := client.List(ctx, opts)
	if err != nil {
		return false, err
	}
	items, err := meta.ExtractList(list)
	if err != nil {
		return false, err
	}
	var now *T
	if len(items) > 0 {
		if now, err = as[T](items[0]); err != nil {
			return false, err
		}
	}
	if seen(now) {
		return true, nil
	}
	if opts.ResourceVersion, err = meta.NewAccessor().ResourceVersion(list); err != nil {
		return false, err
	}
	w, err := client.Watch(ctx, opts)
	if err != nil {
		return false, err
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case event, open := <-w.ResultChan():
			if !open {
				return false, ctx.Err()
			}
			if now, err = after[T](event); err != nil {
				return false, err
			}
			if seen(now) {
				return true, nil
			}
		}
	}
}

// after returns the object as it is after an event, nil when that deleted it.
func after[T any](event watch.Event) (*T, error) {
	switch event.Type {
	case watch.Added, watch.Modified:
		return as[T](event.Object)
	case watch.Deleted:
		return nil, nil
	}
	return nil, fmt.Errorf("watch: %v", event.Object)
}

func as[T any](object runtime.Object) (*T, error) {
	t, ok := any(object).(*T)
	if !ok {
		return nil, fmt.Errorf("watched a %T and got a %T", t, object)
	}
	return t, nil
}

// until waits for an object as await does, for as long as the scenario has
// patience, and ends the scenario when that is over.
func until[T any, L runtime.Object](s *scenario, client lister[L], name, wish string, check func(*T) error) *T {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), s.patience)
	defer cancel()
	object, err := await(ctx, client, name, func(object *T) error {
		if object == nil {
			return errAbsent
		}
		return check(object)
	})
	if err != nil {
		s.Fatalf("waited %v for %s %s: %v", s.patience, name, wish, err)
	}
	return object
}

// awaitGone waits until an object doesn't exist.
func awaitGone[T any, L runtime.Object](ctx context.Context, client lister[L], name string, left func(*T) error) error {
	_, err := await(ctx, client, name, func(object *T) error {
		if object == nil {
			return nil
		}
		return left(object)
	})
	return err
}

// untilGone waits until an object doesn't exist, for as long as the scenario has
// patience.
func untilGone[T any, L runtime.Object](s *scenario, client lister[L], name string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), s.patience)
	defer cancel()
	err := awaitGone(ctx, client, name, func(object *T) error {
		m, err := meta.Accessor(object)
		if err != nil {
			return err
		}
		return fmt.Errorf("it is still there, deleted at %v, finalizers %v", m.GetDeletionTimestamp(), m.GetFinalizers())
	})
	if err != nil {
		s.Fatalf("waited %v for %s to go: %v", s.patience, name, err)
	}
}

// eventually asks again and again until check has nothing to object to: for what
// can't be watched, as the inside of a pod and the cloud.
func (s *scenario) eventually(wish string, check func(context.Context) error) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), s.patience)
	defer cancel()
	if err := repeat(ctx, check); err != nil {
		s.Fatalf("waited %v for %s: %v", s.patience, wish, err)
	}
}

// repeat calls check until it has nothing to object to or ctx ends, and returns
// the last objection.
func repeat(ctx context.Context, check func(context.Context) error) error {
	var objection error
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if objection == nil || ctx.Err() == nil {
			objection = err
		}
		select {
		case <-ctx.Done():
			return objection
		case <-time.After(300 * time.Millisecond):
		}
	}
}
