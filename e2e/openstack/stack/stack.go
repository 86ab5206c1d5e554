// Package stack is a real OpenStack on one machine: Debian 12's own packages
// (Zed), started as plain processes on loopback. They live in a PID namespace
// and a mount namespace of their own, so that nothing of them outlives it.
package stack

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/cinder-csi/cinder-csi/e2e/openstack/api"
	"github.com/cinder-csi/cinder-csi/e2e/openstack/supervisor"
)

// identity is Keystone's address.
const identity = "http://127.0.0.1:5000/v3"

// DirVariable names the folder of all state; DefaultDir is used without it.
const (
	DirVariable = "CINDER_CSI_OPENSTACK_DIR"
	DefaultDir  = "/var/tmp/cinder-csi-openstack"
)

// Dir returns the folder of all state.
func Dir() string {
	if dir := os.Getenv(DirVariable); dir != "" {
		return dir
	}
	return DefaultDir
}

// Cloud is what a test has to know about the cloud.
type Cloud struct {
	Identity string `json:"identity"`
	// Member owns what the tests make; Credential is an application credential
	// of it. Other is in another project. Admin may do everything.
	Member     api.Credentials `json:"member"`
	Credential api.Credentials `json:"credential"`
	Other      api.Credentials `json:"other"`
	Admin      api.Credentials `json:"admin"`
	// Servers are the ids of the member's servers by name: node1 and node2 in
	// the zone nova, node3 in az2.
	Servers map[string]string `json:"servers"`
	// Image and Flavor are what further servers are made of.
	Image  string `json:"image"`
	Flavor string `json:"flavor"`
	// Guests are the ids of the servers that have a guest, by name: guest1 in the
	// zone nova and guest2 in az2. Their disks are virtio's block devices in the
	// one and SCSI disks in the other. They are there after Stack.Guests.
	Guests map[string]string `json:"guests,omitempty"`
	// GuestImages are what guests are made of, by the name of the guest;
	// GuestFlavor is their flavor.
	GuestImages map[string]string `json:"guest_images,omitempty"`
	GuestFlavor string            `json:"guest_flavor,omitempty"`
	// GuestBuild tells what the guests were built from.
	GuestBuild string `json:"guest_build,omitempty"`
	// Packages are the versions of what runs.
	Packages map[string]string `json:"packages"`
}

// Stack is the cloud in one folder.
type Stack struct {
	dir    string
	out    io.Writer
	secret string
	start  time.Time
	said   sync.Mutex
	sup    *supervisor.Client
}

// New returns the stack of a folder; it says on out what it does. The folder's
// path is absolute, since not all programs that use it run in the same place.
func New(dir string, out io.Writer) (*Stack, error) {
	if !filepath.IsAbs(dir) {
		return nil, fmt.Errorf("%s: the folder %q has to be an absolute path", DirVariable, dir)
	}
	s := &Stack{dir: filepath.Clean(dir), out: out, secret: rand.Text(), start: time.Now()}
	s.sup = supervisor.NewClient(s.socket())
	return s, nil
}

// Load reads what is to be known about the running cloud.
func Load(dir string) (*Cloud, error) {
	text, err := os.ReadFile(filepath.Join(dir, "openstack.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("no OpenStack runs in %s: make openstack-up", dir)
	}
	if err != nil {
		return nil, err
	}
	var c Cloud
	return &c, json.Unmarshal(text, &c)
}

// Supervisor returns a client of what runs the services.
func (s *Stack) Supervisor() *supervisor.Client { return s.sup }

func (s *Stack) path(name string) string { return filepath.Join(s.dir, name) }

// socket is the supervisor's; its name has to be short.
func (s *Stack) socket() string { return s.path("run/supervisor.sock") }

// step does one part of the work; it says when that begins and how long it took.
func (s *Stack) step(name string, do func() error) error {
	start := time.Now()
	if err := s.say("  begins", name); err != nil {
		return err
	}
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return s.say(fmt.Sprintf("%6.1f s", time.Since(start).Seconds()), name)
}

// say writes a line about a part; several of them may be under way.
func (s *Stack) say(what, name string) error {
	s.said.Lock()
	defer s.said.Unlock()
	_, err := fmt.Fprintf(s.out, "%6.1f s  %s  %s\n", time.Since(s.start).Seconds(), what, name)
	return err
}

// together does several things at once and waits for all.
func together(things ...func() error) error {
	errs := make([]error, len(things))
	var wait sync.WaitGroup
	for i, do := range things {
		wait.Go(func() { errs[i] = do() })
	}
	wait.Wait()
	return errors.Join(errs...)
}

// run runs a program to its end; its output goes to a log, the end of which is
// in the error.
func (s *Stack) run(ctx context.Context, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, "/usr/bin/env", append([]string{name}, args...)...)
	cmd.Env = append(s.environment(), env...)
	cmd.Dir = s.dir
	out, err := cmd.CombinedOutput()
	log := s.path("log/" + filepath.Base(name) + ".run.log")
	if f, openErr := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); openErr == nil {
		_, _ = fmt.Fprintf(f, "%s %q\n%s\n", name, args, out) // a log that can't be written spoils nothing
		_ = f.Close()
	}
	if err != nil {
		return fmt.Errorf("%s %q: %w\n%s", name, args, err, tail(out))
	}
	return nil
}

// tail returns the end of an output.
func tail(text []byte) []byte {
	const most = 1500
	if len(text) > most {
		return text[len(text)-most:]
	}
	return text
}

// environment is that of every program here: the distribution's, whatever the
// caller has in front of it.
func (s *Stack) environment() []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=" + s.path("state"),
		"CEPH_CONF=" + s.path("conf/ceph/ceph.conf"), DirVariable + "=" + s.dir,
	}
}

// wait asks until the answer is yes, and says what is still missing when the
// time is over, or when a service that is needed has ended.
func (s *Stack) wait(ctx context.Context, what string, patience time.Duration, ready func(context.Context) error, needs ...string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		if dead := s.dead(ctx, needs); dead != nil {
			return fmt.Errorf("wait for %s: %w", what, dead)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: not within %s: %w", what, patience, err)
		}
	}
}

// dead tells which of the services has ended, with the end of its log.
func (s *Stack) dead(ctx context.Context, needs []string) error {
	// Without an answer the caller's own question fails as well.
	states, _ := s.sup.States(ctx)
	for _, name := range needs {
		if state, ok := states[name]; ok && !state.Running {
			text, _ := os.ReadFile(s.path("log/" + name + ".out"))
			return fmt.Errorf("%s %s: %s", name, state.Exit, tail(text))
		}
	}
	return nil
}
