package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// Kind tells volumes, snapshots and backups apart.
type Kind string

// The kinds of files a Store keeps.
const (
	KindVolume   Kind = "volume"
	KindSnapshot Kind = "snapshot"
	KindBackup   Kind = "backup"
)

// Source names the content a copy is made from.
type Source struct {
	Kind Kind
	ID   string // UUID
}

// FromVolume is the present content of a volume.
func FromVolume(id string) Source { return Source{KindVolume, id} }

// FromSnapshot is the content of a snapshot.
func FromSnapshot(id string) Source { return Source{KindSnapshot, id} }

// FromBackup is the content of a backup.
func FromBackup(id string) Source { return Source{KindBackup, id} }

// String returns "volume <uuid>" and the like, for messages.
func (s Source) String() string { return string(s.Kind) + " " + s.ID }

// check refuses what could be another file's name.
func (s Source) check() error {
	switch s.Kind {
	case KindVolume, KindSnapshot, KindBackup:
	default:
		return fmt.Errorf("kind %q of %q: %w", s.Kind, s.ID, ErrInvalid)
	}
	if !validID(s.ID) {
		return fmt.Errorf("%s id %q is no UUID: %w", s.Kind, s.ID, ErrInvalid)
	}
	return nil
}

// validID accepts a UUID in its usual form: 36 characters, lower case.
func validID(id string) bool {
	parsed, err := uuid.Parse(id)
	return err == nil && parsed.String() == id
}

// Path returns the file of a volume, snapshot or backup, whether it exists or not.
func (s *Store) Path(src Source) string {
	return filepath.Join(s.kindDir(src.Kind), string(src.Kind)+"-"+src.ID)
}

func (s *Store) kindDir(kind Kind) string { return filepath.Join(s.dir, string(kind)+"s") }

// Size returns the size in bytes of a volume, snapshot or backup; ErrNotFound.
func (s *Store) Size(src Source) (int64, error) {
	if err := src.check(); err != nil {
		return 0, err
	}
	info, err := os.Stat(s.Path(src))
	if errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("%s: %w", src, ErrNotFound)
	}
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", src, err)
	}
	return info.Size(), nil
}

// List returns the ids of everything of one kind, sorted.
func (s *Store) List(kind Kind) ([]string, error) {
	entries, err := os.ReadDir(s.kindDir(kind))
	if err != nil {
		return nil, fmt.Errorf("list the %ss: %w", kind, err)
	}
	var ids []string
	for _, entry := range entries {
		if id, ok := strings.CutPrefix(entry.Name(), string(kind)+"-"); ok && validID(id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}
