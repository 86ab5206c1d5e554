package state

import (
	"encoding/json"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk/configdrive"
)

// Zones returns the availability zones: those of the servers, and the default.
func (c *Cloud) Zones() []string {
	zones := []string{DefaultZone}
	c.view(func() {
		c.servers.Each(func(s *Server) bool {
			zones = append(zones, s.Zone)
			return true
		})
	})
	slices.Sort(zones)
	return slices.Compact(zones)
}

// zoneExists reports whether a zone can be named. Only under the lock.
func (c *Cloud) zoneExists(zone string) bool {
	found := zone == DefaultZone
	c.servers.Each(func(s *Server) bool {
		found = found || s.Zone == zone
		return !found
	})
	return found
}

// Connect brings every server and every attachment back to the data plane, as
// they are known: after a reboot of the machine there are none. An attachment
// that does not come back is logged: the volume may have lost its file.
func (c *Cloud) Connect() error {
	var servers []Server
	attachments := map[string][]string{}
	c.view(func() {
		c.servers.Each(func(s *Server) bool {
			if s.Status != "BUILD" {
				servers = append(servers, *s)
			}
			return true
		})
		c.volumes.Each(func(v *Volume) bool {
			for _, a := range v.Attachments {
				if a.Status == attached {
					attachments[a.ServerID] = append(attachments[a.ServerID], v.ID)
				}
			}
			return true
		})
	})
	for _, s := range servers {
		if err := c.plane.AddServer(s.Key, ConfigDrive(s)); err != nil {
			return fmt.Errorf("server %s: %w", s.Key, err)
		}
		for _, v := range attachments[s.ID] {
			if err := c.plane.Attach(s.Key, v); err != nil {
				c.log.Warn("an attachment did not come back", zap.String("volume", v), zap.String("server", s.Key), zap.Error(err))
			}
		}
	}
	return nil
}

// Metadata is what a server may know about itself, as Nova writes it.
type Metadata struct {
	UUID             string            `json:"uuid"`
	Meta             map[string]string `json:"meta,omitempty"`
	Hostname         string            `json:"hostname"`
	Name             string            `json:"name"`
	LaunchIndex      int               `json:"launch_index"`
	AvailabilityZone string            `json:"availability_zone"`
	RandomSeed       string            `json:"random_seed,omitempty"`
	ProjectID        string            `json:"project_id"`
	Devices          []string          `json:"devices"`
	DedicatedCPUs    []int             `json:"dedicated_cpus"`
}

// MetadataOf returns what a server may know about itself.
func MetadataOf(s Server) Metadata {
	return Metadata{
		UUID: s.ID, Meta: s.Metadata, Hostname: s.Name + ".novalocal", Name: s.Name, AvailabilityZone: s.Zone,
		ProjectID: s.ProjectID, Devices: []string{}, DedicatedCPUs: []int{},
	}
}

// networkData is the network_data.json of a server without networks.
const networkData = `{"links": [], "networks": [], "services": []}`

// ConfigDrive returns the files of a server's config drive.
func ConfigDrive(s Server) map[string][]byte {
	meta, err := json.Marshal(MetadataOf(s))
	if err != nil {
		meta = []byte("{}") // strings and numbers only: cannot happen
	}
	return configdrive.Files(configdrive.Documents{Meta: meta, Network: []byte(networkData)})
}
