package state

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
)

// wakes tells those who wait for a compute that one has gone on.
type wakes struct {
	mu      sync.Mutex
	next    chan struct{}
	closing chan struct{}
}

func newWakes() *wakes { return &wakes{next: make(chan struct{}), closing: make(chan struct{})} }

// wait returns a channel that is closed when a compute goes on.
func (w *wakes) wait() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.next
}

func (w *wakes) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.next)
	w.next = make(chan struct{})
}

// HangCompute lets the nova-compute of a server hang, until WakeCompute: what the
// server is asked for waits, and after the behaviour's down_after Nova knows it.
func (c *Cloud) HangCompute(key string) error {
	return c.changeCompute(key, func(s *Server) {
		if s.HungAt.IsZero() {
			s.HungAt = now()
		}
	})
}

// WakeCompute lets the nova-compute of a server go on. It does what has waited:
// attachments that Nova has given up become ghosts, which Nova lists and Cinder
// does not know.
func (c *Cloud) WakeCompute(key string) error {
	err := c.changeCompute(key, func(s *Server) {
		s.HungAt = time.Time{}
		for _, d := range s.Late {
			if _, here := s.Disk(d.VolumeID); !here {
				d.Device = nextDevice(*s)
				s.Disks = append(s.Disks[:len(s.Disks):len(s.Disks)], d)
			}
		}
		s.Late = nil
		if s.TaskState != "" && s.Next != "" {
			s.Status, s.TaskState, s.Next = s.Next, "", ""
		}
	})
	c.wakes.wake()
	return err
}

func (c *Cloud) changeCompute(key string, change func(*Server)) error {
	return c.update(func() error {
		s, ok := c.serverByKey(key)
		if !ok {
			return rest.NotFound("Instance %s could not be found.", key)
		}
		change(&s)
		s.UpdatedAt = now()
		c.servers.Put(s.ID, s)
		return nil
	})
}

// StartAction accepts an action that leads a server to a status. It is done at
// once, but where the server's compute hangs. method is Nova's name of the action,
// task the server's state meanwhile.
func (c *Cloud) StartAction(call Call, id, method, task, status string) error {
	before := ""
	s, err := c.ChangeServer(call, id, func(s *Server) error {
		before = s.Status
		if s.Locked && !call.Admin {
			return rest.Conflict("Instance %s is locked", s.ID)
		}
		if s.TaskState != "" {
			return rest.Conflict("Cannot '%s' instance %s while it is in task_state %s", method, s.ID, s.TaskState)
		}
		if s.hung() {
			s.TaskState, s.Next = task, status
			return nil
		}
		s.Status = status
		return nil
	})
	switch {
	case err != nil:
		return err
	case s.Status == offloaded && before != offloaded:
		return c.offload(s)
	case s.Status != offloaded && before == offloaded:
		return c.unshelve(s)
	}
	return nil
}

// hung reports whether a server's compute hangs.
func (s *Server) hung() bool { return !s.HungAt.IsZero() }

// ComputeDown reports whether Nova knows that a server's compute hangs.
func (c *Cloud) ComputeDown(s *Server) bool {
	return s.hung() && time.Since(s.HungAt) >= time.Duration(c.Behaviour().DownAfter)
}

// awake waits until a server's compute takes up what it is sent.
func (c *Cloud) awake(ctx context.Context, serverID string) error {
	for {
		changed := c.wakes.wait()
		if s, ok := c.rawServer(serverID); !ok || !s.hung() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ReserveDevice is the first step of an attachment: Nova's API waits until the
// compute has answered, whether the client still listens or not. After the
// behaviour's rpc_timeout Nova gives up with a 500. A compute that hangs has the
// message, and makes a ghost of it when it goes on.
func (c *Cloud) ReserveDevice(spec AttachSpec) error {
	s, ok := c.rawServer(spec.ServerID)
	if !ok || !s.hung() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(c.Behaviour().RPCTimeout))
	defer cancel()
	go func() {
		select {
		case <-c.wakes.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := c.awake(ctx, spec.ServerID)
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	err = c.update(func() error {
		if s, ok := c.servers.Get(spec.ServerID); ok && s.hung() {
			late := Disk{VolumeID: spec.VolumeID, AttachmentID: newID(), MappingID: newID(), Tag: spec.Tag}
			s.Late = append(s.Late[:len(s.Late):len(s.Late)], late)
			c.servers.Put(s.ID, s)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return MessagingTimeout()
}

// MessagingTimeout is Nova's 500 where a service did not answer in time.
func MessagingTimeout() error {
	return rest.Fail(http.StatusInternalServerError, "Unexpected API Error. Please report this at http://bugs.launchpad.net/nova/ and attach the Nova API log if possible.\n<class 'oslo_messaging.exceptions.MessagingTimeout'>")
}

// Interrupt ends the waits of requests, whose answers nobody will read.
func (c *Cloud) Interrupt() { close(c.wakes.closing) }
