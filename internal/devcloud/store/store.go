// Package store keeps tables of records in memory and in a bbolt file, under
// one lock. An update is all or nothing. It survives the death of the process:
// every update is written to the file before Update returns; only the sync to
// the medium is put off, by a second at most.
package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
)

// syncEvery bounds what a crash of the whole machine can lose.
const syncEvery = time.Second

type table interface {
	load(tx *bolt.Tx) error
	announce()
	dirty() bool
	flush(tx *bolt.Tx) error
	apply()
	discard()
}

// DB is a set of tables that change together.
type DB struct {
	mu     sync.RWMutex
	bolt   *bolt.DB
	tables []table

	unsynced bool // guarded by mu
	stop     chan struct{}
	stopped  chan struct{}
}

// ErrClosed is returned by Update after Close.
var ErrClosed = errors.New("store is closed")

// Open opens or creates the file at path and loads the tables from it. A file
// that another process holds is an error after a second.
func Open(path string, tables ...table) (*DB, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("create the state directory: %w", err)
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second, NoSync: true, NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, fmt.Errorf("open %s (does another process use it?): %w", path, err)
	}
	d := &DB{bolt: db, tables: tables, stop: make(chan struct{}), stopped: make(chan struct{})}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, t := range tables {
			if err := t.load(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("load %s: %w", path, err), db.Close())
	}
	for _, t := range tables {
		t.announce()
	}
	go d.syncLoop()
	return d, nil
}

// View runs fn while nothing changes.
func (d *DB) View(fn func()) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	fn()
}

// Update runs fn alone and makes what it changed durable. Nothing is changed
// when fn or the write fails.
func (d *DB) Update(fn func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.run(fn); err != nil {
		for _, t := range d.tables {
			t.discard()
		}
		return err
	}
	for _, t := range d.tables {
		t.apply()
	}
	return nil
}

func (d *DB) run(fn func() error) error {
	if err := fn(); err != nil {
		return err
	}
	dirty := false
	for _, t := range d.tables {
		dirty = dirty || t.dirty()
	}
	if !dirty {
		return nil
	}
	if d.bolt == nil {
		return ErrClosed
	}
	d.unsynced = true
	return d.bolt.Update(func(tx *bolt.Tx) error {
		for _, t := range d.tables {
			if err := t.flush(tx); err != nil {
				return err
			}
		}
		return nil
	})
}

func (d *DB) syncLoop() {
	defer close(d.stopped)
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		select {
		case <-d.stop:
			return
		case <-tick.C:
			d.mu.Lock()
			due := d.unsynced
			d.unsynced = false
			d.mu.Unlock()
			if due {
				// A failed sync says nothing about the process's own view;
				// the next one, or Close, reports it again.
				_ = d.bolt.Sync()
			}
		}
	}
}

// Close syncs and closes the file. Reads go on working; updates fail.
func (d *DB) Close() error {
	d.mu.Lock()
	db := d.bolt
	d.mu.Unlock()
	if db == nil {
		return nil
	}
	close(d.stop)
	<-d.stopped
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bolt = nil
	return errors.Join(db.Sync(), db.Close())
}
