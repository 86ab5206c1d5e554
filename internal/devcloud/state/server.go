package state

import (
	"context"
	"errors"
	"regexp"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
)

// ServerSpec is what a new server shall be.
type ServerSpec struct {
	ID                string // empty for a new one
	Name              string
	Zone              string
	FlavorID, ImageID string
	Metadata          map[string]string
	// Active makes the server without the time that building one takes, and
	// only if its name can be its key.
	Active bool
}

// fileName is what a server's key has to be.
var fileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,49}$`)

// ServerKey reports whether a server can be known by that name.
func ServerKey(name string) bool { return fileName.MatchString(name) }

// CreateServer accepts a new server. Its key is its name, or its id where the
// name is taken or no file name.
func (c *Cloud) CreateServer(call Call, spec ServerSpec) (Server, error) {
	var s Server
	err := c.update(func() error {
		s = Server{
			ID: spec.ID, ProjectID: call.ProjectID, UserID: call.UserID, Seq: c.nextSeq(), Name: spec.Name, Zone: spec.Zone,
			Status: "BUILD", TaskState: "scheduling", Metadata: spec.Metadata, FlavorID: spec.FlavorID, ImageID: spec.ImageID,
			CreatedAt: now(), UpdatedAt: now(),
		}
		if s.ID == "" {
			s.ID = newID()
		}
		if s.Zone == "" {
			s.Zone = DefaultZone
		}
		if _, taken := c.servers.Get(s.ID); taken {
			return rest.Conflict("Server %s exists.", s.ID)
		}
		s.Key = s.Name
		if _, taken := c.serverByKey(s.Key); taken || !ServerKey(s.Key) || c.leaving(s.Key) {
			s.Key = s.ID
		}
		if spec.Active {
			if s.Key != s.Name {
				return errors.Join(rest.Conflict("A server named %s exists, or is being deleted.", s.Name), ErrNameTaken)
			}
			s.Status, s.TaskState, s.LaunchedAt = "ACTIVE", "", now()
			c.servers.Put(s.ID, s)
			return nil
		}
		if !c.zoneExists(s.Zone) {
			return rest.BadRequest("The requested availability zone is not available")
		}
		c.servers.Put(s.ID, s)
		c.act(call, s.ID, "create", false, false)
		c.start(Task{Kind: taskCreateServer, Call: call, ServerID: s.ID})
		return nil
	})
	if err == nil && spec.Active {
		err = c.plane.AddServer(s.Key, ConfigDrive(s))
	}
	return s, err
}

// createServer is the task that builds a server.
func (c *Cloud) createServer(ctx context.Context, t Task) error {
	if err := c.wait(ctx, t, "server.building"); err != nil {
		return err
	}
	s, ok := c.rawServer(t.ServerID)
	if !ok {
		return c.settle(t, nil)
	}
	failure := c.plane.AddServer(s.Key, ConfigDrive(s))
	gone := false
	err := c.settle(t, func() {
		s, ok := c.servers.Get(t.ServerID)
		if gone = !ok; gone {
			return
		}
		s.Status, s.TaskState, s.LaunchedAt, s.UpdatedAt = "ACTIVE", "", now(), now()
		if failure != nil || t.endIn() != "" {
			s.Status = "ERROR"
		}
		c.servers.Put(s.ID, s)
		c.act(t.Call, s.ID, "create", true, s.Status == "ERROR")
	})
	if failure != nil {
		c.logFailure(t, failure)
	}
	if err == nil && gone {
		err = c.plane.RemoveServer(s.Key)
	}
	return err
}

// ErrNameTaken tells that a server's name is still in use.
var ErrNameTaken = errors.New("name taken")

// leaving reports whether a server of that key is being deleted. Only under the lock.
func (c *Cloud) leaving(key string) (found bool) {
	c.tasks.Each(func(t *Task) bool {
		found = t.Kind == taskDeleteServer && t.Server.Key == key
		return !found
	})
	return found
}

// DeleteServer forgets a server at once; its volumes follow.
func (c *Cloud) DeleteServer(call Call, id string) error {
	return c.update(func() error {
		s, err := c.visibleServer(call, id)
		if err != nil {
			return err
		}
		if s.Locked && !call.Admin {
			return rest.Conflict("Instance %s is locked", s.ID)
		}
		c.servers.Delete(id)
		c.start(Task{Kind: taskDeleteServer, Call: call, ServerID: id, Server: &s})
		return nil
	})
}

// deleteServer is the task that takes a server's volumes away and then its
// device directory. It waits for devices that are still open: a machine that
// is gone holds nothing.
func (c *Cloud) deleteServer(ctx context.Context, t Task) error {
	if err := c.wait(ctx, t, "server.deleting"); err != nil {
		return err
	}
	for _, d := range t.Server.Disks {
		if err := c.disconnect(ctx, t.Server.Key, d.VolumeID, 0); err != nil {
			return err
		}
		err := c.update(func() error {
			v, ok := c.volumes.Get(d.VolumeID)
			if !ok {
				return nil
			}
			v.dropAttachment(d.AttachmentID)
			v.Status, v.UpdatedAt = v.settled(), now()
			if d.DeleteOnTermination && v.Status == "available" {
				v.Status = "deleting"
				c.start(Task{Kind: taskDeleteVolume, Call: t.Call, VolumeID: v.ID})
			}
			c.volumes.Put(v.ID, v)
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := c.plane.RemoveServer(t.Server.Key); err != nil {
		c.logFailure(t, err)
	}
	return c.settle(t, nil)
}

// ChangeServer changes a server's status, lock, name or metadata through fn.
func (c *Cloud) ChangeServer(call Call, id string, fn func(s *Server) error) (Server, error) {
	var s Server
	err := c.update(func() error {
		var err error
		if s, err = c.visibleServer(call, id); err != nil {
			return err
		}
		if err := fn(&s); err != nil {
			return err
		}
		s.UpdatedAt = now()
		c.servers.Put(id, s)
		return nil
	})
	return s, err
}

// Server returns one server that the caller may see.
func (c *Cloud) Server(call Call, id string) (s Server, err error) {
	c.view(func() { s, err = c.visibleServer(call, id) })
	return s, err
}

// ServerByKey returns the server with that key.
func (c *Cloud) ServerByKey(key string) (s Server, ok bool) {
	c.view(func() { s, ok = c.serverByKey(key) })
	return s, ok
}

// Servers returns the servers that the caller may see, newest first.
func (c *Cloud) Servers(call Call, all bool, filter func(*Server) bool) []Server {
	var list []Server
	c.view(func() {
		c.servers.Each(func(s *Server) bool {
			if (s.ProjectID == call.ProjectID || all && call.Admin) && (filter == nil || filter(s)) {
				list = append(list, *s)
			}
			return true
		})
	})
	newestFirst(list, func(s *Server) uint64 { return s.Seq })
	return list
}

func (c *Cloud) visibleServer(call Call, id string) (Server, error) {
	s, ok := c.servers.Get(id)
	if !ok || !call.sees(s.ProjectID) {
		return Server{}, rest.NotFound("Instance %s could not be found.", id)
	}
	return s, nil
}

func (c *Cloud) serverByKey(key string) (found Server, ok bool) {
	c.servers.Each(func(s *Server) bool {
		if s.Key == key {
			found, ok = *s, true
		}
		return !ok
	})
	return found, ok
}

func (c *Cloud) rawServer(id string) (s Server, ok bool) {
	c.view(func() { s, ok = c.servers.Get(id) })
	return s, ok
}
