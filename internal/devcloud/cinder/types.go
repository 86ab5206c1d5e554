package cinder

import (
	"maps"
	"net/http"
	"slices"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
)

func (s *Service) typeRoutes(add adder) {
	const create, remove = "volume_extension:type_create", "volume_extension:type_delete"
	add("GET", "/types", "type.list", s.listTypes)
	add("GET", "/types/default", "type.get", s.defaultType)
	add("GET", "/types/{id}", "type.get", s.getType)
	add("POST", "/types", "type.create", admin(create, s.createType))
	add("DELETE", "/types/{id}", "type.delete", admin(remove, s.deleteType))
	add("GET", "/types/{id}/extra_specs", "type.specs.get", s.getSpecs)
	add("POST", "/types/{id}/extra_specs", "type.specs.update", admin("volume_extension:types_extra_specs:create", s.addSpecs))
	add("GET", "/qos-specs", "qos.list", admin("volume_extension:qos_specs_manage:get_all", s.listQoS))
	add("POST", "/qos-specs", "qos.create", admin("volume_extension:qos_specs_manage:create", s.createQoS))
	add("GET", "/qos-specs/{id}", "qos.get", admin("volume_extension:qos_specs_manage:get", s.getQoS))
	add("GET", "/qos-specs/{id}/associate", "qos.associate", admin("volume_extension:qos_specs_manage:associate", s.associateQoS))
}

type typeView struct {
	ID          string             `json:"id"`
	Name        string             `json:"name"`
	Public      bool               `json:"is_public"`
	Description *string            `json:"description"`
	ExtraSpecs  *map[string]string `json:"extra_specs,omitempty"`
	QoS         *rest.Nullable     `json:"qos_specs_id,omitempty"`
	Access      bool               `json:"os-volume-type-access:is_public"`
}

// visibleSpecs are the extra specs of types that everybody may see.
func visibleSpecs() []string {
	return []string{"RESKEY:availability_zones", "multiattach", "replication_enabled"}
}

func (r *request) viewType(t state.VolumeType) typeView {
	view := typeView{ID: t.ID, Name: t.Name, Public: t.Public, Access: t.Public, Description: t.Description}
	specs := notNil(t.ExtraSpecs)
	if r.Admin {
		view.QoS = &rest.Nullable{Value: t.QoSID}
	} else {
		specs = maps.Clone(specs)
		maps.DeleteFunc(specs, func(key, _ string) bool { return !slices.Contains(visibleSpecs(), key) })
	}
	view.ExtraSpecs = &specs
	return view
}

func (s *Service) listTypes(r *request) (*rest.Response, error) {
	p, err := parsePage(r.URL.Query())
	if err != nil {
		return nil, err
	}
	if _, err := filters(r.URL.Query(), "is_public", "extra_specs"); err != nil {
		return nil, err
	}
	list, more, err := cut(s.cloud.Types(), p, func(t *state.VolumeType) string { return t.ID }, func(marker string) error {
		return rest.NotFound("Volume type %s could not be found.", marker)
	})
	if err != nil {
		return nil, err
	}
	views := make([]typeView, len(list))
	for i, t := range list {
		views[i] = r.viewType(t)
	}
	body := rest.Object{"volume_types": views}
	if more {
		body["volume_type_links"] = r.next(list[len(list)-1].ID)
	}
	return ok(body)
}

func (s *Service) typeReply(r *request, t state.VolumeType, err error) (*rest.Response, error) {
	if err != nil {
		return nil, err
	}
	return ok(rest.Object{"volume_type": r.viewType(t)})
}

func (s *Service) defaultType(r *request) (*rest.Response, error) {
	t, err := s.cloud.DefaultVolumeType()
	return s.typeReply(r, t, err)
}

func (s *Service) getType(r *request) (*rest.Response, error) {
	t, err := s.cloud.Type(r.PathValue("id"))
	return s.typeReply(r, t, err)
}

// createType makes a type. Its extra specs decide where its volumes are made:
// volume_backend_name names a backend, RESKEY:availability_zones the only zones in
// which volumes of the type may be asked for.
func (s *Service) createType(r *request) (*rest.Response, error) {
	b := bodyReader{raw: rest.Member(r.Body, "volume_type")}
	name, description, specs := b.id("name"), b.text("description"), b.metadata("extra_specs")
	if b.raw == nil || b.err == nil && name == "" {
		return nil, rest.Malformed()
	}
	if b.err != nil {
		return nil, b.err
	}
	t, err := s.cloud.PutType("", func(t *state.VolumeType) {
		t.Name, t.Description = name, description
		applySpecs(t, specs)
	})
	return s.typeReply(r, t, err)
}

func applySpecs(t *state.VolumeType, specs map[string]string) {
	t.ExtraSpecs = maps.Clone(notNil(t.ExtraSpecs))
	maps.Copy(t.ExtraSpecs, specs)
	if backend, given := specs["volume_backend_name"]; given {
		t.Backend = backend
	}
}

func (s *Service) deleteType(r *request) (*rest.Response, error) {
	return &rest.Response{Status: http.StatusAccepted}, s.cloud.DeleteType(r.PathValue("id"))
}

func (s *Service) getSpecs(r *request) (*rest.Response, error) {
	t, err := s.cloud.Type(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return ok(rest.Object{"extra_specs": notNil(t.ExtraSpecs)})
}

func (s *Service) addSpecs(r *request) (*rest.Response, error) {
	b := bodyReader{raw: r.Body}
	specs := b.metadata("extra_specs")
	if b.err != nil {
		return nil, b.err
	}
	if _, err := s.cloud.PutType(r.PathValue("id"), func(t *state.VolumeType) { applySpecs(t, specs) }); err != nil {
		return nil, err
	}
	return ok(rest.Object{"extra_specs": notNil(specs)})
}

type qosView struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Consumer string            `json:"consumer"`
	Specs    map[string]string `json:"specs"`
}

func viewQoS(q state.QoS) qosView { return qosView{q.ID, q.Name, q.Consumer, notNil(q.Specs)} }

func (s *Service) listQoS(*request) (*rest.Response, error) {
	views := []qosView{}
	for _, q := range s.cloud.QoSList() {
		views = append(views, viewQoS(q))
	}
	return ok(rest.Object{"qos_specs": views})
}

func (s *Service) getQoS(r *request) (*rest.Response, error) {
	q, err := s.cloud.QoS(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return ok(rest.Object{"qos_specs": viewQoS(q)})
}

func (s *Service) createQoS(r *request) (*rest.Response, error) {
	b := bodyReader{raw: r.Body}
	specs := b.metadata("qos_specs")
	if b.err != nil {
		return nil, b.err
	}
	name, consumer := specs["name"], specs["consumer"]
	if name == "" {
		return nil, rest.Malformed()
	}
	if consumer == "" {
		consumer = "back-end"
	}
	delete(specs, "name")
	delete(specs, "consumer")
	q, err := s.cloud.CreateQoS(name, consumer, specs)
	if err != nil {
		return nil, err
	}
	return ok(rest.Object{"qos_specs": viewQoS(q)})
}

func (s *Service) associateQoS(r *request) (*rest.Response, error) {
	q, err := s.cloud.QoS(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	_, err = s.cloud.PutType(r.URL.Query().Get("vol_type_id"), func(t *state.VolumeType) { t.QoSID = q.ID })
	return &rest.Response{Status: http.StatusAccepted}, err
}
