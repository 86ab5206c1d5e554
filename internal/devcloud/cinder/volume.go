package cinder

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
)

func (s *Service) volumeRoutes(add adder) {
	add("POST", "/volumes", "volume.create", s.createVolume)
	add("GET", "/volumes", "volume.list", s.listVolumes(false))
	add("GET", "/volumes/detail", "volume.list", s.listVolumes(true))
	add("GET", "/volumes/summary", "volume.summary", since(12, s.volumeSummary))
	add("GET", "/volumes/{id}", "volume.get", s.getVolume)
	add("PUT", "/volumes/{id}", "volume.update", s.updateVolume)
	add("DELETE", "/volumes/{id}", "volume.delete", s.deleteVolume)
	s.metadataRoutes(add, "/volumes/{id}/metadata", "volume", s.volumeMetadata)
}

// hintsKey is where a creation has its hints for the scheduler.
const hintsKey = "OS-SCH-HNT:scheduler_hints"

// volumeSpec reads and checks the body of a creation.
func (r *request) volumeSpec() (state.VolumeSpec, error) {
	var spec state.VolumeSpec
	if err := rest.Required(r.Body, "volume"); err != nil {
		return spec, err
	}
	raw := rest.Member(r.Body, "volume")
	fields, err := rest.Fields(r.Body)
	if err != nil {
		return spec, rest.Malformed()
	}
	for _, f := range fields {
		if f.Name != "volume" && f.Name != hintsKey {
			return spec, rest.BadRequest("Additional properties are not allowed ('%s' was unexpected)", f.Name)
		}
	}
	if r.version.AtLeast(53) {
		err := rest.CheckKeys("volume", raw,
			"name", "description", "display_name", "display_description", "volume_type", "metadata", "snapshot_id", "source_volid",
			"consistencygroup_id", "size", "availability_zone", "multiattach", "image_id", "imageRef", "group_id", "backup_id")
		if err != nil {
			return spec, err
		}
	}
	b := bodyReader{raw: raw}
	spec.Name = b.label("name", "display_name")
	spec.Description = b.label("description", "display_description")
	spec.Type, spec.Zone = b.id("volume_type"), b.id("availability_zone")
	spec.SnapshotID, spec.SourceID = b.uuid("snapshot_id"), b.uuid("source_volid")
	spec.BackupID = b.uuid("backup_id") // also below 3.47, which brought it
	spec.Metadata = b.metadata("metadata")
	if zone := rest.Member(raw, "availability_zone"); string(zone) == `""` {
		b.fail(rest.InvalidField("availability_zone", zone, "'' is too short"))
	}
	spec.Size = b.size("size", "'integer', 'string', 'null'")
	if !r.version.AtLeast(50) {
		spec.Multiattach = b.flag("multiattach")
	}
	if hints := rest.Member(r.Body, hintsKey); !rest.IsNull(hints) {
		if _, err := rest.Fields(hints); err != nil {
			b.fail(rest.InvalidField(hintsKey, hints, "%s is not of type 'object', 'null'", rest.Python(hints)))
		}
	}
	spec.SameHost, spec.DifferentHost = b.hint(r.Body, "same_host"), b.hint(r.Body, "different_host")
	if b.err == nil && spec.Size == 0 && spec.SnapshotID == "" && spec.SourceID == "" && spec.BackupID == "" {
		b.err = rest.Malformed()
	}
	return spec, b.err
}

func (s *Service) createVolume(r *request) (*rest.Response, error) {
	spec, err := r.volumeSpec()
	if err != nil {
		return nil, err
	}
	v, err := s.cloud.CreateVolume(r.Call, spec)
	if err != nil {
		return nil, err
	}
	return accepted(rest.Object{"volume": r.viewVolume(v, s.cloud.TypeNames(), true)})
}

func (s *Service) getVolume(r *request) (*rest.Response, error) {
	v, err := s.cloud.Volume(r.Call, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return ok(rest.Object{"volume": r.viewVolume(v, s.cloud.TypeNames(), false)})
}

func (s *Service) deleteVolume(r *request) (*rest.Response, error) {
	query := r.URL.Query()
	cascade := truth(query.Get("cascade"))
	if truth(query.Get("force")) {
		if !r.version.AtLeast(23) || !r.Admin {
			return nil, denied("volume:force_delete")
		}
		return &rest.Response{Status: http.StatusAccepted}, s.cloud.ForceDeleteVolume(r.Call, r.PathValue("id"))
	}
	return &rest.Response{Status: http.StatusAccepted}, s.cloud.DeleteVolume(r.Call, r.PathValue("id"), cascade)
}

func (s *Service) updateVolume(r *request) (*rest.Response, error) {
	raw := rest.Member(r.Body, "volume")
	if raw == nil {
		return nil, rest.Malformed()
	}
	if err := rest.CheckKeys("volume", raw, "name", "description", "display_name", "display_description", "metadata"); err != nil {
		return nil, err
	}
	b := bodyReader{raw: raw}
	name, description, metadata := b.label("name", "display_name"), b.label("description", "display_description"), b.metadata("metadata")
	if b.err != nil {
		return nil, b.err
	}
	v, err := s.cloud.ChangeVolume(r.Call, r.PathValue("id"), func(v *state.Volume) {
		if name != nil {
			v.Name = name
		}
		if description != nil {
			v.Description = description
		}
		if metadata != nil {
			v.Metadata = metadata
		}
	})
	if err != nil {
		return nil, err
	}
	return ok(rest.Object{"volume": r.viewVolume(v, s.cloud.TypeNames(), false)})
}

func (s *Service) volumeSummary(r *request) (*rest.Response, error) {
	count, size := 0, int64(0)
	for _, v := range s.cloud.Volumes(r.Call, truth(r.URL.Query().Get("all_tenants")), nil) {
		count, size = count+1, size+v.Size
	}
	return ok(rest.Object{"volume-summary": rest.Object{"total_count": count, "total_size": size}})
}

// volumeMetadata returns a volume's metadata, after change where that is not nil.
func (s *Service) volumeMetadata(r *request, change func(map[string]string) map[string]string) (map[string]string, error) {
	if change == nil {
		v, err := s.cloud.Volume(r.Call, r.PathValue("id"))
		return v.Metadata, err
	}
	verb := "Updating"
	if r.Method == http.MethodDelete {
		verb = "Deleting"
	}
	return s.cloud.SetVolumeMetadata(r.Call, r.PathValue("id"), verb, change)
}

// bodyReader reads the members of an object and keeps the first error.
type bodyReader struct {
	raw json.RawMessage
	err error
}

func (b *bodyReader) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

// text reads a string of at most 255 characters, under its first name that is there.
func (b *bodyReader) text(names ...string) *string {
	return b.bounded(func(s string) string { return s }, names...)
}

// label reads a name or a description like text. Cinder takes off the white
// space around it before it counts.
func (b *bodyReader) label(names ...string) *string { return b.bounded(strings.TrimSpace, names...) }

func (b *bodyReader) bounded(clean func(string) string, names ...string) *string {
	for _, name := range names {
		raw := rest.Member(b.raw, name)
		if rest.IsNull(raw) {
			continue
		}
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			b.fail(rest.InvalidField(name, raw, "%s is not of type 'string', 'null'", rest.Python(raw)))
			return nil
		}
		s = clean(s)
		if n := utf8.RuneCountInString(s); n > 255 {
			b.fail(rest.BadRequest("Invalid input received: %s has %d characters, more than 255.", names[0], n))
		}
		return &s
	}
	return nil
}

func (b *bodyReader) id(name string) string { return state.Or(b.text(name)) }

// uuid reads an id that may be left out; Cinder's schema for it has alternatives.
func (b *bodyReader) uuid(name string) string {
	return b.checkedUUID(name, "%s is not valid under any of the given schemas")
}

// onlyUUID reads an id that may be nothing else.
func (b *bodyReader) onlyUUID(name string) string { return b.checkedUUID(name, "%s is not a 'uuid'") }

func (b *bodyReader) checkedUUID(name, complaint string) string {
	id := b.id(name)
	if id != "" && !isUUID(id) {
		raw := rest.Member(b.raw, name)
		b.fail(rest.InvalidField(name, raw, complaint, rest.Python(raw)))
	}
	return rest.LowerID(id)
}

// metadataKey is Cinder's pattern for the keys of metadata.
var metadataKey = regexp.MustCompile(`^[a-zA-Z0-9_:. /-]{1,255}$`)

// metadata reads an object of strings; nil where there is none.
func (b *bodyReader) metadata(name string) map[string]string {
	raw := rest.Member(b.raw, name)
	if rest.IsNull(raw) {
		return nil
	}
	fields, err := rest.Fields(raw)
	if err != nil {
		b.fail(rest.InvalidField(name, raw, "%s is not of type 'object', 'null'", rest.Python(raw)))
		return nil
	}
	m := make(map[string]string, len(fields))
	for _, f := range fields {
		var s string
		if err := json.Unmarshal(f.Value, &s); err != nil {
			b.fail(rest.InvalidField(f.Name, f.Value, "%s is not of type 'string'", rest.Python(f.Value)))
			return nil
		}
		if utf8.RuneCountInString(s) > 255 {
			b.fail(rest.InvalidField(f.Name, f.Value, "%s is too long", rest.Python(f.Value)))
		}
		if !metadataKey.MatchString(f.Name) {
			b.fail(rest.InvalidField(name, raw, "'%s' does not match any of the regexes: '^[a-zA-Z0-9-_:. /]{1,255}$'", f.Name))
		}
		m[f.Name] = s
	}
	return m
}

// hint reads a scheduler hint: the id of a volume, or a list of them.
func (b *bodyReader) hint(body json.RawMessage, name string) []string {
	raw := rest.Member(rest.Member(body, hintsKey), name)
	if rest.IsNull(raw) {
		return nil
	}
	var ids []string
	if len(raw) > 0 && raw[0] == '"' {
		ids = make([]string, 1)
		_ = json.Unmarshal(raw, &ids[0])
	} else if json.Unmarshal(raw, &ids) != nil {
		b.fail(rest.InvalidField(name, raw, "%s is not valid under any of the given schemas", rest.Python(raw)))
		return nil
	}
	if slices.ContainsFunc(ids, func(id string) bool { return !isUUID(id) }) {
		b.fail(rest.InvalidField(name, raw, "%s is not valid under any of the given schemas", rest.Python(raw)))
		return nil
	}
	return ids
}

// size reads a number of GiB that may be written as a string; 0 where there is
// none. The kinds are those that its schema allows.
func (b *bodyReader) size(name, kinds string) int64 {
	raw := rest.Member(b.raw, name)
	if rest.IsNull(raw) {
		return 0
	}
	text := string(raw)
	if raw[0] == '"' {
		if json.Unmarshal(raw, &text) != nil || !digits(text) {
			b.fail(rest.InvalidField(name, raw, "%s does not match '^[0-9]+$'", rest.Python(raw)))
			return 0
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil:
		b.fail(rest.InvalidField(name, raw, "%s is not of type %s", rest.Python(raw), kinds))
	case n < 1:
		b.fail(rest.InvalidField(name, raw, "%d is less than the minimum of 1", n))
	case n > 1<<31-1:
		b.fail(rest.InvalidField(name, raw, "%d is greater than the maximum of %d", n, 1<<31-1))
	}
	return n
}

// flag reads a boolean, which may also be written as a string or number.
func (b *bodyReader) flag(name string) bool {
	raw := rest.Member(b.raw, name)
	if rest.IsNull(raw) {
		return false
	}
	var value any
	if json.Unmarshal(raw, &value) != nil {
		return false
	}
	text := fmt.Sprint(value)
	switch text {
	case "true", "True", "TRUE", "1", "on", "yes", "t", "y", "false", "False", "FALSE", "0", "off", "no", "f", "n":
		return truth(text)
	}
	b.fail(rest.InvalidField(name, raw, "%s is not a 'boolean'", rest.Python(raw)))
	return false
}

func digits(s string) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}

func truth(s string) bool {
	switch s {
	case "true", "True", "TRUE", "1", "on", "yes", "t", "y":
		return true
	}
	return false
}
