package charts

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v2"
)

// schemas are JSON schemas by the name of the file that kubeconform looks for.
type schemas map[string]map[string]any

func schemaName(group, version, kind string) string {
	return strings.ToLower(fmt.Sprintf("%s_%s_%s.json", cmp.Or(group, version), version, kind))
}

// schemaLocation is schemaName in the words of kubeconform, for which the group
// of v1 is v1.
const schemaLocation = "{{ .Group }}_{{ .ResourceAPIVersion }}_{{ .ResourceKind }}.json"

// fromOpenAPI converts the OpenAPI document (version 2) of an API server, or of
// Kubernetes' source. The schemas are strict: what is not in them is an error.
func fromOpenAPI(t *testing.T, document []byte) schemas {
	t.Helper()
	var api struct {
		Definitions map[string]map[string]any `json:"definitions"`
	}
	if err := json.Unmarshal(document, &api); err != nil {
		t.Fatalf("OpenAPI document: %v", err)
	}
	for _, definition := range api.Definitions {
		tighten(definition)
	}
	found := schemas{}
	for name, definition := range api.Definitions {
		kinds, _ := definition["x-kubernetes-group-version-kind"].([]any)
		if len(kinds) != 1 {
			continue // types that every group has, such as DeleteOptions
		}
		kind, _ := kinds[0].(map[string]any)
		needed := map[string]any{}
		require(needed, api.Definitions, name)
		schema := map[string]any{"$schema": "http://json-schema.org/draft-07/schema#", "definitions": needed, "$ref": "#/definitions/" + name}
		found[schemaName(fmt.Sprint(kind["group"]), fmt.Sprint(kind["version"]), fmt.Sprint(kind["kind"]))] = schema
	}
	return found
}

// require adds a definition and all that it refers to.
func require(needed map[string]any, all map[string]map[string]any, name string) {
	if needed[name] != nil {
		return
	}
	needed[name] = all[name]
	var follow func(v any)
	follow = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				require(needed, all, strings.TrimPrefix(ref, "#/definitions/"))
			}
			for _, part := range v {
				follow(part)
			}
		case []any:
			for _, part := range v {
				follow(part)
			}
		}
	}
	follow(all[name])
}

// tighten turns a schema of OpenAPI into a strict JSON schema.
func tighten(schema map[string]any) {
	delete(schema, "description")
	switch {
	case schema["format"] == "int-or-string", schema["x-kubernetes-int-or-string"] == true:
		clear(schema)
		schema["type"] = []any{"integer", "string"}
		return
	case schema["format"] == "quantity":
		schema["type"] = []any{"number", "string"}
	case schema["nullable"] == true:
		schema["type"] = []any{schema["type"], "null"}
	}
	if properties, ok := schema["properties"].(map[string]any); ok {
		if schema["additionalProperties"] == nil && schema["x-kubernetes-preserve-unknown-fields"] != true {
			schema["additionalProperties"] = false
		}
		for _, property := range properties {
			if property, ok := property.(map[string]any); ok {
				tighten(property)
			}
		}
	}
	for _, key := range []string{"items", "additionalProperties"} {
		if part, ok := schema[key].(map[string]any); ok {
			tighten(part)
		}
	}
}

// fromCRD converts a CustomResourceDefinition.
func fromCRD(t *testing.T, path string) schemas {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var crd struct {
		Spec struct {
			Group    string
			Names    struct{ Kind string }
			Versions []struct {
				Name   string
				Schema struct {
					OpenAPIV3Schema any `yaml:"openAPIV3Schema"`
				}
			}
		}
	}
	if err := yaml.Unmarshal(text, &crd); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	found := schemas{}
	for _, version := range crd.Spec.Versions {
		// By way of JSON, for maps that have strings for keys.
		plain, err := json.Marshal(stringKeys(version.Schema.OpenAPIV3Schema))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		schema := map[string]any{}
		if err := json.Unmarshal(plain, &schema); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		tighten(schema)
		found[schemaName(crd.Spec.Group, version.Name, crd.Spec.Names.Kind)] = schema
	}
	if len(found) == 0 {
		t.Fatalf("%s is no CustomResourceDefinition", path)
	}
	return found
}

// write puts the schemas into a directory, for kubeconform.
func (s schemas) write(t *testing.T, dir string) {
	t.Helper()
	for name, schema := range s {
		text, err := json.Marshal(schema)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSchemasOfKubernetesAreMadeStrict(t *testing.T) {
	found := fromOpenAPI(t, []byte(`{"definitions": {
		"v1.Thing": {"type": "object", "x-kubernetes-group-version-kind": [{"group": "g", "version": "v1", "kind": "Thing"}],
			"properties": {"port": {"$ref": "#/definitions/IntOrString"}, "labels": {"type": "object", "additionalProperties": {"type": "string"}}}},
		"IntOrString": {"type": "string", "format": "int-or-string", "description": "either"},
		"Other": {"type": "object", "properties": {"x": {"type": "string"}}}}}`))
	want := schemas{"g_v1_thing.json": {
		"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/definitions/v1.Thing",
		"definitions": map[string]any{
			"IntOrString": map[string]any{"type": []any{"integer", "string"}},
			"v1.Thing": map[string]any{
				"type": "object", "additionalProperties": false,
				"x-kubernetes-group-version-kind": []any{map[string]any{"group": "g", "version": "v1", "kind": "Thing"}},
				"properties": map[string]any{
					"port":   map[string]any{"$ref": "#/definitions/IntOrString"},
					"labels": map[string]any{"type": "object", "additionalProperties": map[string]any{"type": "string"}},
				},
			},
		},
	}}
	if !same(found, want) {
		t.Errorf("got %v\nwant %v", found, want)
	}
}
