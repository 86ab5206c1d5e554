package store

import (
	"encoding/json"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// Table is a set of records of one kind, by id. All of it is in memory; what
// changes is written through to the database when an update ends. Records are
// values: whoever changes a map or slice inside one replaces it, so that copies
// handed out stay as they were.
type Table[T any] struct {
	name    []byte
	rows    map[string]*T
	pending map[string]*T // nil value: to be removed
	changed []func(id string, before, after *T)
}

// NewTable returns an empty table that Open fills from the bucket called name.
func NewTable[T any](name string) *Table[T] {
	return &Table[T]{name: []byte(name), rows: map[string]*T{}, pending: map[string]*T{}}
}

// OnChange calls fn for every record that an update has changed, after the
// update is durable and before the lock is released. A record that is new has
// no before, one that was removed has no after. Records found by Open are
// reported as new.
func (t *Table[T]) OnChange(fn func(id string, before, after *T)) {
	t.changed = append(t.changed, fn)
}

// Get returns the record with that id.
func (t *Table[T]) Get(id string) (T, bool) {
	if row, ok := t.pending[id]; ok {
		if row == nil {
			var none T
			return none, false
		}
		return *row, true
	}
	if row, ok := t.rows[id]; ok {
		return *row, true
	}
	var none T
	return none, false
}

// Put stores a record. It may only be called inside Update.
func (t *Table[T]) Put(id string, row T) { t.pending[id] = &row }

// Delete removes a record; a missing one is left missing. It may only be
// called inside Update.
func (t *Table[T]) Delete(id string) { t.pending[id] = nil }

// Each calls fn with every record until fn returns false, in no particular
// order. The records must not be changed through the pointer.
func (t *Table[T]) Each(fn func(row *T) bool) {
	for _, row := range t.pending {
		if row != nil && !fn(row) {
			return
		}
	}
	for id, row := range t.rows {
		if _, ok := t.pending[id]; ok {
			continue
		}
		if !fn(row) {
			return
		}
	}
}

// Len returns the number of records, not counting those of a running update.
func (t *Table[T]) Len() int { return len(t.rows) }

func (t *Table[T]) load(tx *bolt.Tx) error {
	bucket, err := tx.CreateBucketIfNotExists(t.name)
	if err != nil {
		return fmt.Errorf("create bucket %s: %w", t.name, err)
	}
	return bucket.ForEach(func(key, value []byte) error {
		row := new(T)
		if err := json.Unmarshal(value, row); err != nil {
			return fmt.Errorf("record %s of %s: %w", key, t.name, err)
		}
		t.rows[string(key)] = row
		return nil
	})
}

func (t *Table[T]) announce() {
	for id, row := range t.rows {
		for _, fn := range t.changed {
			fn(id, nil, row)
		}
	}
}

func (t *Table[T]) dirty() bool { return len(t.pending) > 0 }

func (t *Table[T]) flush(tx *bolt.Tx) error {
	bucket := tx.Bucket(t.name)
	for id, row := range t.pending {
		if row == nil {
			if err := bucket.Delete([]byte(id)); err != nil {
				return fmt.Errorf("delete %s from %s: %w", id, t.name, err)
			}
			continue
		}
		value, err := json.Marshal(row)
		if err != nil {
			return fmt.Errorf("encode %s of %s: %w", id, t.name, err)
		}
		if err := bucket.Put([]byte(id), value); err != nil {
			return fmt.Errorf("write %s to %s: %w", id, t.name, err)
		}
	}
	return nil
}

func (t *Table[T]) apply() {
	for id, row := range t.pending {
		before := t.rows[id]
		if row == nil {
			delete(t.rows, id)
		} else {
			t.rows[id] = row
		}
		for _, fn := range t.changed {
			fn(id, before, row)
		}
	}
	clear(t.pending)
}

func (t *Table[T]) discard() { clear(t.pending) }
