package nova

import (
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/fault"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
)

// attachmentView is an attachment as Nova shows it; what a microversion adds
// or takes is left out otherwise.
type attachmentView struct {
	ID                  string         `json:"id,omitempty"`
	ServerID            string         `json:"serverId"`
	VolumeID            string         `json:"volumeId"`
	Device              *rest.Nullable `json:"device,omitempty"`
	Tag                 *rest.Nullable `json:"tag,omitempty"`
	DeleteOnTermination *bool          `json:"delete_on_termination,omitempty"`
	AttachmentID        string         `json:"attachment_id,omitempty"`
	MappingID           string         `json:"bdm_uuid,omitempty"`
}

// viewAttachment shows an attachment. created is the answer to its creation,
// which never changed with 2.89.
func (r *request) viewAttachment(serverID string, d state.Disk, created bool) attachmentView {
	view := attachmentView{ID: d.VolumeID, ServerID: serverID, VolumeID: d.VolumeID}
	if d.Device != "" || created {
		view.Device = &rest.Nullable{Value: d.Device}
	}
	if r.version.AtLeast(70) {
		view.Tag = &rest.Nullable{Value: state.Or(d.Tag)}
	}
	if r.version.AtLeast(79) {
		view.DeleteOnTermination = &d.DeleteOnTermination
	}
	if r.version.AtLeast(89) && !created {
		view.ID, view.AttachmentID, view.MappingID = "", d.AttachmentID, d.MappingID
	}
	return view
}

func (s *Service) listAttachments(r *request) (*rest.Response, error) {
	server, err := s.cloud.Server(r.Call, rest.LowerID(r.PathValue("id")))
	if err != nil {
		return nil, err
	}
	disks := server.Disks
	offset, err := number(r, "offset", 0)
	if err != nil {
		return nil, err
	}
	limit, err := number(r, "limit", len(disks))
	if err != nil {
		return nil, err
	}
	disks = disks[min(offset, len(disks)):]
	disks = disks[:min(limit, len(disks))]
	views := make([]attachmentView, len(disks))
	for i, d := range disks {
		views[i] = r.viewAttachment(server.ID, d, false)
	}
	return ok(rest.Object{"volumeAttachments": views})
}

func number(r *request, name string, otherwise int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, rest.BadRequest("Invalid input for query parameters %s. Value: %s. '%s' does not match '^[0-9]*$'", name, text, text)
	}
	return n, nil
}

func (s *Service) getAttachment(r *request) (*rest.Response, error) {
	server, err := s.cloud.Server(r.Call, rest.LowerID(r.PathValue("id")))
	if err != nil {
		return nil, err
	}
	d, found := server.Disk(rest.LowerID(r.PathValue("volume")))
	if !found {
		return nil, rest.NotFound("Instance %s is not attached to volume %s", server.ID, r.PathValue("volume"))
	}
	return ok(rest.Object{"volumeAttachment": r.viewAttachment(server.ID, d, false)})
}

type attachBody struct {
	VolumeID            json.RawMessage `json:"volumeId"`
	Device              *string         `json:"device"`
	Tag                 *string         `json:"tag"`
	DeleteOnTermination bool            `json:"delete_on_termination"`
}

// deviceName is how Nova's schema has a device.
var deviceName = regexp.MustCompile(`(^/dev/x{0,1}[a-z]{0,1}d{0,1})([a-z]+)[0-9]*$`)

// attachSpec reads and checks the body of an attachment.
func (r *request) attachSpec() (state.AttachSpec, error) {
	var spec state.AttachSpec
	if err := rest.Required(r.Body, "volumeAttachment"); err != nil {
		return spec, err
	}
	raw := rest.Member(r.Body, "volumeAttachment")
	keys := []string{"volumeId", "device"}
	if r.version.AtLeast(49) {
		keys = append(keys, "tag")
	}
	if r.version.AtLeast(79) {
		keys = append(keys, "delete_on_termination")
	}
	if err := rest.CheckKeys("volumeAttachment", raw, keys...); err != nil {
		return spec, err
	}
	var body attachBody
	if err := json.Unmarshal(raw, &body); err != nil {
		return spec, rest.BadRequest("Malformed request body")
	}
	if body.VolumeID == nil {
		return spec, rest.InvalidField("volumeAttachment", raw, "'volumeId' is a required property")
	}
	if body.Device != nil && !deviceName.MatchString(*body.Device) {
		return spec, rest.InvalidField("device", rest.Member(raw, "device"), "'%s' does not match '%s'", *body.Device, deviceName)
	}
	var id string
	if err := json.Unmarshal(body.VolumeID, &id); err != nil || !isUUID(id) {
		return spec, rest.InvalidField("volumeId", body.VolumeID, "%s is not a 'uuid'", rest.Python(body.VolumeID))
	}
	return state.AttachSpec{
		ServerID: r.PathValue("id"), VolumeID: id, Device: state.Or(body.Device), Tag: body.Tag,
		DeleteOnTermination: body.DeleteOnTermination, Offloaded: r.version.AtLeast(20), Multiattach: r.version.AtLeast(60),
	}, nil
}

// attach accepts an attachment. As Nova does, it looks first, waits for its
// turn at the server, and only then reserves the volume.
func (s *Service) attach(r *request) (*rest.Response, error) {
	spec, err := r.attachSpec()
	if err != nil {
		return nil, err
	}
	asked := spec // the answer repeats the ids as they were written
	spec.ServerID, spec.VolumeID = rest.LowerID(spec.ServerID), rest.LowerID(spec.VolumeID)
	if err := s.cloud.CheckAttach(r.Call, spec); err != nil {
		return nil, err
	}
	ctx := context.WithoutCancel(r.Context()) // Nova goes on, whoever listens
	if err := s.cloud.ReserveDevice(spec); err != nil {
		return nil, err
	}
	var disk state.Disk
	err = s.cloud.Serial(ctx, "server/"+spec.ServerID, func() error {
		if err := r.Pause(ctx); err != nil {
			return err
		}
		var err error
		disk, err = s.cloud.Attach(r.Call, spec)
		return err
	})
	if err != nil {
		return nil, err
	}
	if f := r.Request.Fault; f != nil && f.Async == fault.Ghost && f.After == http.StatusInternalServerError && f.Body == "" {
		return nil, state.MessagingTimeout()
	}
	if r.version.AtLeast(101) {
		return accepted(nil)
	}
	disk.VolumeID = asked.VolumeID
	return ok(rest.Object{"volumeAttachment": r.viewAttachment(asked.ServerID, disk, true)})
}

func (s *Service) detach(r *request) (*rest.Response, error) {
	if err := r.Pause(r.Context()); err != nil {
		return nil, err
	}
	return &rest.Response{Status: http.StatusAccepted}, s.cloud.Detach(r.Call, rest.LowerID(r.PathValue("id")), rest.LowerID(r.PathValue("volume")))
}
