package rest

import "encoding/json"

// Null is null in JSON. A nil pointer to it can be left out, one that points is null.
type Null struct{}

// MarshalJSON writes null.
func (*Null) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// Nullable is a string, or null when it is empty.
type Nullable struct{ Value string }

// MarshalJSON writes the string or null.
func (n *Nullable) MarshalJSON() ([]byte, error) {
	if n.Value == "" {
		return []byte("null"), nil
	}
	return json.Marshal(n.Value)
}
