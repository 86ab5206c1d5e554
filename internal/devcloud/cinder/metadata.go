package cinder

import (
	"net/http"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
)

// metadataOf returns the metadata of the thing that a request names, after
// change where that is not nil.
type metadataOf func(r *request, change func(map[string]string) map[string]string) (map[string]string, error)

// metadataRoutes adds the requests about the metadata of one kind of thing.
func (s *Service) metadataRoutes(add adder, path, kind string, of metadataOf) {
	add("GET", path, kind+".metadata.get", func(r *request) (*rest.Response, error) {
		m, err := of(r, nil)
		resp, err := metadataReply(m, err)
		if err == nil {
			resp.Header = http.Header{"Content-Type": {htmlType}} // as Cinder's conditional answers have it
		}
		return resp, err
	})
	add("POST", path, kind+".metadata.update", func(r *request) (*rest.Response, error) {
		return changeMetadata(r, of, false)
	})
	add("PUT", path, kind+".metadata.update", func(r *request) (*rest.Response, error) {
		return changeMetadata(r, of, true)
	})
	add("GET", path+"/{key}", kind+".metadata.get", func(r *request) (*rest.Response, error) {
		m, err := of(r, nil)
		return metaReply(r, kind, m, err)
	})
	add("PUT", path+"/{key}", kind+".metadata.update", func(r *request) (*rest.Response, error) {
		b := bodyReader{raw: r.Body}
		meta := b.metadata("meta")
		if b.err != nil {
			return nil, b.err
		}
		key := r.PathValue("key")
		value, found := meta[key]
		if !found || len(meta) != 1 {
			return nil, rest.BadRequest("Request body and URI mismatch")
		}
		m, err := of(r, func(m map[string]string) map[string]string { m[key] = value; return m })
		return metaReply(r, kind, m, err)
	})
	add("DELETE", path+"/{key}", kind+".metadata.delete", func(r *request) (*rest.Response, error) {
		key := r.PathValue("key")
		m, err := of(r, nil)
		if _, found := m[key]; err == nil && !found {
			err = noKey(r, kind)
		}
		if err == nil {
			_, err = of(r, func(m map[string]string) map[string]string { delete(m, key); return m })
		}
		return &rest.Response{Status: http.StatusOK}, err
	})
}

func metadataReply(m map[string]string, err error) (*rest.Response, error) {
	if err != nil {
		return nil, err
	}
	return ok(rest.Object{"metadata": notNil(m)})
}

func metaReply(r *request, kind string, m map[string]string, err error) (*rest.Response, error) {
	if err != nil {
		return nil, err
	}
	value, found := m[r.PathValue("key")]
	if !found {
		return nil, noKey(r, kind)
	}
	return ok(rest.Object{"meta": map[string]string{r.PathValue("key"): value}})
}

func changeMetadata(r *request, of metadataOf, replace bool) (*rest.Response, error) {
	b := bodyReader{raw: r.Body, err: rest.Required(r.Body, "metadata")}
	changes := b.metadata("metadata")
	if b.err == nil && changes == nil {
		b.err = rest.Malformed()
	}
	if b.err != nil {
		return nil, b.err
	}
	return metadataReply(of(r, func(m map[string]string) map[string]string {
		if replace {
			return changes
		}
		for k, v := range changes {
			m[k] = v
		}
		return m
	}))
}

// noKey is the 404 of a key of metadata. A request whose key has a slash never
// comes here, however the slash is written: the path of a WSGI application is
// decoded before it is cut, so that Cinder knows no such address.
func noKey(r *request, kind string) error {
	return rest.NotFound("%s %s has no metadata with key %s.", map[string]string{"volume": "Volume", "snapshot": "Snapshot"}[kind], r.PathValue("id"), r.PathValue("key"))
}
