package openstack

import (
	"bytes"
	"encoding/json"
	"time"
)

// timestamp reads the times of Cinder, which are UTC and do not say so. One
// that can't be read is zero: no decision hangs on it.
type timestamp struct{ time.Time }

// UnmarshalJSON never fails.
func (t *timestamp) UnmarshalJSON(text []byte) error {
	*t = timestamp{}
	s := string(bytes.Trim(text, `"`))
	for _, layout := range []string{"2006-01-02T15:04:05.999999", time.RFC3339Nano} {
		if v, err := time.Parse(layout, s); err == nil {
			t.Time = v.UTC()
			return nil
		}
	}
	return nil
}

// truth reads a boolean that Cinder writes as a string.
type truth bool

// UnmarshalJSON takes true and "true", in any case, for true, and all else for
// false.
func (b *truth) UnmarshalJSON(text []byte) error {
	*b = truth(bytes.EqualFold(bytes.Trim(text, `"`), []byte("true")))
	return nil
}

// texts are metadata, whose values some clouds write as numbers or truths.
type texts map[string]string

// UnmarshalJSON never fails; what is no object has no metadata.
func (t *texts) UnmarshalJSON(text []byte) error {
	var values map[string]json.RawMessage
	*t = nil
	if json.Unmarshal(text, &values) != nil || values == nil {
		return nil //nolint:nilerr // see above
	}
	*t = make(texts, len(values))
	for key, raw := range values {
		var value string
		if json.Unmarshal(raw, &value) != nil {
			value = string(raw)
		}
		(*t)[key] = value
	}
	return nil
}
