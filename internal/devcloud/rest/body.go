package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

func rawOrHTML(body string) any {
	if json.Valid([]byte(body)) {
		return json.RawMessage(body)
	}
	return HTML(body)
}

// Field is a key of a JSON object and its value.
type Field struct {
	Name  string
	Value json.RawMessage
}

// Fields returns the keys of a JSON object in their order. A later key of the
// same name replaces an earlier one.
func Fields(raw []byte) ([]Field, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	var fields []Field
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, ok := tok.(string)
		if !ok {
			return nil, fmt.Errorf("not a key: %v", tok)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, err
		}
		fields = append(fields, Field{name, value})
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more after the object")
	}
	return fields, nil
}

// Member returns the value of one key of a JSON object, nil where there is none.
func Member(raw []byte, name string) json.RawMessage {
	fields, err := Fields(raw)
	if err != nil {
		return nil
	}
	var value json.RawMessage
	for _, f := range fields {
		if f.Name == name {
			value = f.Value
		}
	}
	return value
}

// IsNull reports whether a value is absent or null.
func IsNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// CheckKeys refuses an object with keys that a schema does not name. name is
// the object's own, as the message gives it.
func CheckKeys(name string, raw json.RawMessage, allowed ...string) error {
	fields, err := Fields(raw)
	if err != nil {
		return InvalidField(name, raw, "%s is not of type 'object'", Python(raw))
	}
	var unknown []string
	for _, f := range fields {
		if !contains(allowed, f.Name) {
			unknown = append(unknown, "'"+f.Name+"'")
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	verb := "was"
	if len(unknown) > 1 {
		verb = "were"
	}
	return InvalidField(name, raw, "Additional properties are not allowed (%s %s unexpected)", strings.Join(unknown, ", "), verb)
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// InvalidField is the 400 of a value that a schema refuses.
func InvalidField(name string, value json.RawMessage, format string, args ...any) error {
	shown := Python(value)
	if len(value) > 0 && value[0] == '"' {
		shown = plainString(value)
	}
	return BadRequest("Invalid input for field/attribute %s. Value: %s. %s", name, shown, fmt.Sprintf(format, args...))
}

func plainString(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return string(raw)
	}
	return s
}

// PythonList writes texts as Python writes a list of them.
func PythonList(items []string) string {
	parts := make([]string, len(items))
	for i, item := range items {
		parts[i] = quote(item)
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// Python writes a JSON value as Python shows it, which is how OpenStack's
// messages quote requests.
func Python(raw json.RawMessage) string {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return "None"
	}
	switch raw[0] {
	case '{':
		fields, err := Fields(raw)
		if err != nil {
			return string(raw)
		}
		parts := make([]string, len(fields))
		for i, f := range fields {
			parts[i] = quote(f.Name) + ": " + Python(f.Value)
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case '[':
		var items []json.RawMessage
		if json.Unmarshal(raw, &items) != nil {
			return string(raw)
		}
		parts := make([]string, len(items))
		for i, item := range items {
			parts[i] = Python(item)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case '"':
		return quote(plainString(raw))
	}
	switch string(raw) {
	case "null":
		return "None"
	case "true":
		return "True"
	case "false":
		return "False"
	}
	return string(raw)
}

func quote(s string) string {
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		return `"` + s + `"`
	}
	s = strings.NewReplacer(`\`, `\\`, "'", `\'`, "\n", `\n`, "\t", `\t`, "\r", `\r`).Replace(s)
	return "'" + s + "'"
}
