package disk

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk/loop"
)

// Attachment is a volume attached to a server.
type Attachment struct {
	Server   string
	VolumeID string
	Device   string // as the server sees it: "/dev/vdb"
	Loop     string // the kernel's name for it: "loop3"
	ReadOnly bool
}

// slot is the place an attachment has in the store.
type slot struct{ server, volumeID string }

// attachment is an Attachment with its loop device. It never changes once it is
// bound; until then it only keeps the device name taken.
type attachment struct {
	Attachment
	loop  loop.Device
	bound bool
}

func (a *attachment) slot() slot { return slot{a.Server, a.VolumeID} }

// label is what the loop device carries: "vdb node-1 <volume id>", the id cut to
// what fits. It has to differ from every other label on the machine: mkfs.btrfs
// takes two loop devices of one label for the same disk.
func label(device, server, volumeID string) string {
	text := device + " " + server + " " + volumeID
	return text[:min(len(text), loop.MaxLabel)]
}

// parseLabel is the reverse of label; ok is false for anything else.
func parseLabel(text, volumeID string) (device, server string, ok bool) {
	fields := strings.Split(text, " ")
	if len(fields) != 3 || !validDeviceName(fields[0]) || !validServer(fields[1]) {
		return "", "", false
	}
	return fields[0], fields[1], text == label(fields[0], fields[1], volumeID)
}

// Attachments returns every attachment, ordered by server and device.
func (s *Store) Attachments() []Attachment {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Attachment, 0, len(s.attached))
	for _, a := range s.attached {
		if a.bound {
			all = append(all, a.Attachment)
		}
	}
	slices.SortFunc(all, func(a, b Attachment) int {
		return cmp.Or(cmp.Compare(a.Server, b.Server),
			cmp.Compare(len(a.Device), len(b.Device)), cmp.Compare(a.Device, b.Device))
	})
	return all
}

// find returns the attachment of a volume to a server. The caller holds the
// volume's lock.
func (s *Store) find(server, volumeID string) (*attachment, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.attached[slot{server, volumeID}]
	return a, ok
}

// findLoop returns the attachment that a loop device belongs to.
func (s *Store) findLoop(d loop.Device) (Attachment, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.attached {
		if a.bound && a.loop == d {
			return a.Attachment, true
		}
	}
	return Attachment{}, false
}

// reserve takes the lowest free device name of the server.
func (s *Store) reserve(server, volumeID string, readOnly bool) (*attachment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.servers[server] {
		return nil, fmt.Errorf("server %s: %w", server, ErrNotFound)
	}
	taken := map[string]bool{}
	for _, a := range s.attached {
		if a.Server != server {
			continue
		}
		if linkName(a.VolumeID) == linkName(volumeID) {
			return nil, fmt.Errorf("volume %s is attached there and begins with the same %d characters, which are all a virtio disk shows: %w",
				a.VolumeID, linkIDLength, ErrInvalid)
		}
		taken[a.Device] = true
	}
	n := 1 // vda is the server's own disk
	for taken["/dev/"+deviceName(n)] {
		n++
	}
	a := &attachment{Attachment: Attachment{
		Server: server, VolumeID: volumeID, Device: "/dev/" + deviceName(n), ReadOnly: readOnly,
	}}
	s.attached[a.slot()] = a
	return a, nil
}

// settle replaces a reservation by the bound attachment.
func (s *Store) settle(a *attachment, d loop.Device) *attachment {
	s.mu.Lock()
	defer s.mu.Unlock()
	bound := &attachment{Attachment: a.Attachment, loop: d, bound: true}
	bound.Loop = d.Name()
	s.attached[a.slot()] = bound
	return bound
}

// forget gives the device name free.
func (s *Store) forget(a *attachment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.attached, a.slot())
}

// attachedTo returns what is attached, or being attached, to the server.
func (s *Store) attachedTo(server string) []*attachment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attachedToLocked(server)
}

func (s *Store) attachedToLocked(server string) []*attachment {
	var found []*attachment
	for _, a := range s.attached {
		if a.Server == server {
			found = append(found, a)
		}
	}
	return found
}

// DeviceDir returns the directory that is the server's /dev.
func (s *Store) DeviceDir(server string) string {
	return filepath.Join(s.serverDir(server), "dev")
}

func (s *Store) serverDir(server string) string { return filepath.Join(s.dir, "servers", server) }
