package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk/loop"
)

// Store keeps the files and loop devices of one development cloud. Its methods
// may be called concurrently and repeated at will: a call whose work is already
// done succeeds without doing it again.
type Store struct {
	dir     string   // absolute, without symbolic links: as the kernel shows it
	lock    *os.File // the open directory, which carries the lock
	root    bool     // loop devices and device nodes can be used
	loops   loop.Opener
	volumes keyed // held while a volume's file or its loop devices are changed

	mu       sync.Mutex // guards the rest, held for moments only
	attached map[slot]*attachment
	servers  map[string]bool
}

const (
	dirMode    = 0o750
	fileMode   = 0o600
	tempPrefix = ".tmp-"       // begins the name of everything unfinished
	marker     = ".disk-store" // a file that says that the directories beside it are a store's
)

// parts are the directories of a store.
func parts() []string { return []string{"volumes", "snapshots", "backups", "servers"} }

// Open opens the store below dir, which it creates if need be, and locks it
// against a second process. It adopts the loop devices that are attached to
// files below dir, repairs the device directories and removes what interrupted
// calls left. It fails where device nodes can not be used (a nodev mount)
// and where the directories it needs belong to something else (ErrInvalid).
// Close releases the lock.
func Open(dir string) (*Store, error) {
	s, err := open(dir)
	if err != nil {
		return nil, fmt.Errorf("open the disk store %s: %w", dir, err)
	}
	return s, nil
}

func open(dir string) (*Store, error) {
	dir, err := prepare(dir)
	if err != nil {
		return nil, err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{
		dir:      dir,
		lock:     lock,
		root:     os.Geteuid() == 0,
		loops:    loop.NewOpener(dir),
		attached: map[slot]*attachment{},
		servers:  map[string]bool{},
	}
	if err := s.repair(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return s, nil
}

// prepare makes the directories and returns dir as the kernel will show it.
func prepare(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return "", err
	}
	if err := claim(dir); err != nil {
		return "", err
	}
	for _, part := range parts() {
		if err := os.MkdirAll(filepath.Join(dir, part), dirMode); err != nil {
			return "", err
		}
	}
	return filepath.EvalSymlinks(dir)
}

// claim marks the directory as a store. It refuses one that has a directory of the
// same name as a store's without being one: Wipe would remove what is in there.
func claim(dir string) error {
	mark := filepath.Join(dir, marker)
	if _, err := os.Lstat(mark); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, part := range parts() {
		if _, err := os.Lstat(filepath.Join(dir, part)); !errors.Is(err, os.ErrNotExist) {
			return errors.Join(err, fmt.Errorf("it is no disk store and has %q in it; choose another directory: %w", part, ErrInvalid))
		}
	}
	return os.WriteFile(mark, nil, fileMode)
}

// lockDir opens the directory and takes a lock that ends with the process.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("another development cloud has it open: %w", ErrInUse)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Close releases the lock on the directory. What is attached stays attached.
func (s *Store) Close() error {
	if err := s.lock.Close(); err != nil {
		return fmt.Errorf("close the disk store %s: %w", s.dir, err)
	}
	return nil
}

// needRoot returns ErrNotRoot in a process without the rights that what needs.
func (s *Store) needRoot(what string) error {
	if !s.root {
		return fmt.Errorf("%s: %w", what, ErrNotRoot)
	}
	return nil
}
