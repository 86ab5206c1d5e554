package cinder

import (
	"encoding/json"
	"net/http"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
)

// actions are the names under which the actions of a volume are counted.
func actions() map[string]string {
	return map[string]string{
		"os-extend": "volume.extend", "os-retype": "volume.retype", "os-reset_status": "volume.reset", "os-force_delete": "volume.delete",
		"os-detach": "volume.detach", "os-force_detach": "volume.detach", "os-attach": "volume.attach", "os-reserve": "volume.reserve",
		"os-unreserve": "volume.unreserve", "os-begin_detaching": "volume.begin_detaching", "os-roll_detaching": "volume.roll_detaching",
		"os-set_bootable": "volume.set_bootable", "os-update_readonly_flag": "volume.set_readonly",
	}
}

func actionOf(body []byte) (name string, value json.RawMessage) {
	fields, err := rest.Fields(body)
	if err != nil || len(fields) != 1 {
		return "", nil
	}
	return fields[0].Name, fields[0].Value
}

func volumeOperation(r *rest.Request) string {
	name, _ := actionOf(r.Body)
	if op, found := actions()[name]; found {
		return op
	}
	return "volume.action"
}

// volumeAction answers POST …/volumes/{id}/action.
func (s *Service) volumeAction(r *request) (*rest.Response, error) {
	name, value := actionOf(r.Body)
	id := r.PathValue("id")
	done := &rest.Response{Status: http.StatusAccepted, Header: http.Header{"Content-Type": {"application/json"}}}
	switch name {
	case "os-extend":
		return done, s.extend(r, id, value)
	case "os-retype":
		b := bodyReader{raw: value}
		kind, policy := b.id("new_type"), b.id("migration_policy")
		if kind == "" {
			return nil, rest.InvalidField(name, value, "'new_type' is a required property")
		}
		if policy != "" && policy != "on-demand" && policy != "never" {
			return nil, rest.InvalidField("migration_policy", rest.Member(value, "migration_policy"), "'%s' is not one of ['on-demand', 'never']", policy)
		}
		return done, s.cloud.RetypeVolume(r.Call, id, kind, policy)
	case "os-reset_status":
		return done, s.reset(r, id, value)
	case "os-force_delete":
		if !r.Admin {
			return nil, denied("volume_extension:volume_admin_actions:force_delete")
		}
		return done, s.cloud.ForceDeleteVolume(r.Call, id)
	case "os-detach", "os-force_detach":
		v, err := s.cloud.Volume(r.Call, id)
		if err != nil {
			return nil, err
		}
		if attached := v.Attached(); len(attached) > 0 {
			return nil, conflictWithNova(r, attached[0].ServerID)
		}
		return nil, rest.BadRequest("Invalid volume: Unable to detach volume. Volume status must be 'in-use' and attach_status must be 'attached' to detach.")
	case "os-set_bootable", "os-update_readonly_flag":
		b := bodyReader{raw: value}
		flag := b.flag("bootable")
		_, err := s.cloud.ChangeVolume(r.Call, id, func(v *state.Volume) {
			if name == "os-set_bootable" {
				v.Bootable = flag
			}
		})
		return &rest.Response{Status: http.StatusOK}, err
	}
	if name == "" {
		return nil, rest.BadRequest("Malformed request body")
	}
	return nil, rest.BadRequest("There is no such action: %s. Verify the request body and Content-Type header and try again.", name)
}

func (s *Service) extend(r *request, id string, value json.RawMessage) error {
	b := bodyReader{raw: value}
	const kinds = "'integer', 'string'"
	size := b.size("new_size", kinds)
	if raw := rest.Member(value, "new_size"); b.err == nil && raw != nil && rest.IsNull(raw) {
		b.err = rest.InvalidField("new_size", raw, "None is not of type %s", kinds)
	}
	if b.err == nil && size == 0 {
		b.err = rest.InvalidField("os-extend", value, "'new_size' is a required property")
	}
	if b.err != nil {
		return b.err
	}
	return s.cloud.ExtendVolume(r.Call, id, size, r.version.AtLeast(42))
}

func (s *Service) reset(r *request, id string, value json.RawMessage) error {
	if !r.Admin {
		return denied("volume_extension:volume_admin_actions:reset_status")
	}
	b := bodyReader{raw: value}
	status, attach := b.id("status"), b.id("attach_status")
	if b.err != nil {
		return b.err
	}
	if status == "" && attach == "" {
		return rest.BadRequest("Must specify 'status', 'attach_status' or 'migration_status' for update.")
	}
	if status == "deleting" {
		return rest.BadRequest("Cannot reset-state to deleting")
	}
	v, err := s.cloud.Volume(r.Call, id)
	if err != nil {
		return err
	}
	if status == "" {
		status = v.Status
	}
	return s.cloud.ResetVolume(r.Call, id, status, attach == "detached")
}

// conflictWithNova is Cinder's refusal to take a volume from under a server.
// With a token of an application credential it cannot even ask Nova.
func conflictWithNova(r *request, serverID string) error {
	if r.Delegated {
		return rest.Fail(http.StatusInternalServerError, "The server has either erred or is incapable of performing the requested operation.")
	}
	return rest.Conflict("ConflictNovaUsingAttachment: Detach volume from instance %s using the Compute API", serverID)
}
