package nova

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
)

func links(r *request, id string) []rest.Object {
	return []rest.Object{
		{"rel": "self", "href": r.Base() + "/compute/v2.1/servers/" + id},
		{"rel": "bookmark", "href": r.Base() + "/compute/servers/" + id},
	}
}

// hostID is how a project sees the host of its servers: hidden, but the same
// for servers on the same host.
func hostID(projectID string) string {
	sum := sha256.Sum224([]byte(projectID + "devcloud"))
	return hex.EncodeToString(sum[:])
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

func nullable(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// viewServer shows a server as it is shown one by one and in detailed lists.
func (r *request) viewServer(s state.Server) rest.Object {
	volumes := []rest.Object{}
	for _, d := range s.Disks {
		volume := rest.Object{"id": d.VolumeID}
		if r.version.AtLeast(3) {
			volume["delete_on_termination"] = d.DeleteOnTermination
		}
		volumes = append(volumes, volume)
	}
	metadata := s.Metadata
	if metadata == nil {
		metadata = map[string]string{}
	}
	power, known := map[string]int{"BUILD": 0, "ERROR": 0, "PAUSED": 3, "SHUTOFF": 4, "SUSPENDED": 4}[s.Status]
	if !known {
		power = 1
	}
	var launched any
	if !s.LaunchedAt.IsZero() {
		launched = rest.Seconds(s.LaunchedAt)
	}
	view := rest.Object{
		"id": s.ID, "name": s.Name, "status": s.Shown(), "tenant_id": s.ProjectID, "user_id": s.UserID, "metadata": metadata,
		"hostId": hostID(s.ProjectID), "created": stamp(s.CreatedAt), "updated": stamp(s.UpdatedAt), "addresses": rest.Object{},
		"accessIPv4": "", "accessIPv6": "", "links": links(r, s.ID), "OS-DCF:diskConfig": "MANUAL",
		"OS-EXT-AZ:availability_zone": s.Zone, "config_drive": "True", "key_name": nil, "OS-SRV-USG:launched_at": launched,
		"OS-SRV-USG:terminated_at": nil, "OS-EXT-STS:task_state": nullable(s.TaskState), "OS-EXT-STS:vm_state": s.VMState(),
		"OS-EXT-STS:power_state": power, "os-extended-volumes:volumes_attached": volumes,
	}
	image := rest.Object{"id": s.ImageID, "links": []rest.Object{{"rel": "bookmark", "href": r.Base() + "/compute/images/" + s.ImageID}}}
	if view["image"] = image; s.ImageID == "" {
		view["image"] = ""
	}
	r.flavorAndProgress(view, s)
	r.newerFields(view, s)
	return view
}

func (r *request) flavorAndProgress(view rest.Object, s state.Server) {
	view["flavor"] = rest.Object{"id": s.FlavorID, "links": []rest.Object{{"rel": "bookmark", "href": r.Base() + "/compute/flavors/" + s.FlavorID}}}
	if r.version.AtLeast(47) {
		view["flavor"] = rest.Object{"vcpus": 1, "ram": 256, "disk": 1, "ephemeral": 0, "swap": 0, "original_name": "m1.tiny", "extra_specs": rest.Object{}}
	}
	switch s.Status {
	case "ACTIVE", "BUILD":
		view["progress"] = 0
	case "ERROR":
		view["fault"] = rest.Object{"code": 500, "created": stamp(s.UpdatedAt), "message": "No valid host was found. "}
	}
}

// newerFields adds what came with microversions.
func (r *request) newerFields(view rest.Object, s state.Server) {
	for _, field := range []struct {
		minor int
		name  string
		value any
	}{
		{9, "locked", s.Locked}, {19, "description", nil}, {26, "tags", []string{}}, {63, "trusted_image_certificates", nil},
		{71, "server_groups", []string{}}, {73, "locked_reason", nil}, {90, "OS-EXT-SRV-ATTR:hostname", s.Name},
	} {
		if r.version.AtLeast(field.minor) {
			view[field.name] = field.value
		}
	}
}
