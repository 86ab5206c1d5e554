package upstream

import (
	"errors"
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"
)

// CheckFiles checks the test driver files of this package against the suite
// whose source is in dir.
func CheckFiles(dir string) error {
	schema, err := ReadSchema(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range definitions() {
		data, err := files.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if err := schema.Check(data); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// Check returns what is wrong with a test driver file: keys that the suite
// would ignore, capabilities that nobody decided on, and those whose value has
// no reason beside it.
func (s Schema) Check(file []byte) error {
	var document yaml.Node
	if err := yaml.Unmarshal(file, &document); err != nil {
		return fmt.Errorf("no YAML: %w", err)
	}
	if len(document.Content) != 1 {
		return errors.New("not one document")
	}
	// Unmarshal into a node takes a key twice; into a map it doesn't.
	var plain map[string]any
	if err := document.Decode(&plain); err != nil {
		return fmt.Errorf("no mapping: %w", err)
	}
	errs := compare(document.Content[0], s.Root, "")
	return errors.Join(append(errs, s.undecided(document.Content[0])...)...)
}

// compare returns the keys below node that the suite doesn't read.
func compare(node *yaml.Node, shape *Shape, at string) []error {
	var errs []error
	switch node.Kind {
	case yaml.MappingNode:
		for i := 0; i < len(node.Content); i += 2 {
			key, value := node.Content[i], node.Content[i+1]
			below := shape.below(key.Value)
			if below == nil {
				errs = append(errs, fmt.Errorf("line %d: the suite knows no key %q in %s", key.Line, key.Value, place(at)))
				continue
			}
			errs = append(errs, compare(value, below, at+"."+key.Value)...)
		}
	case yaml.SequenceNode:
		if shape.Elem == nil {
			return []error{fmt.Errorf("line %d: the suite wants no list in %s", node.Line, place(at))}
		}
		for _, item := range node.Content {
			errs = append(errs, compare(item, shape.Elem, at)...)
		}
	case yaml.ScalarNode:
		if shape.Fields != nil && node.Tag != "!!null" {
			errs = append(errs, fmt.Errorf("line %d: the suite wants keys in %s", node.Line, place(at)))
		}
	default:
		errs = append(errs, fmt.Errorf("line %d: neither keys nor a value in %s", node.Line, place(at)))
	}
	return errs
}

// below returns what is read at a key, nil if the key is unknown.
func (s *Shape) below(key string) *Shape {
	switch {
	case s.Fields != nil:
		return s.Fields[key]
	case s.Elem == nil, s.Keys != nil && !slices.Contains(s.Keys, key):
		return nil
	}
	return s.Elem
}

// undecided returns the capabilities that the file doesn't mention, and those
// that have no comment.
func (s Schema) undecided(root *yaml.Node) []error {
	capabilities := child(child(root, "DriverInfo"), "Capabilities")
	var errs []error
	for _, name := range s.Capabilities {
		key, value := pair(capabilities, name)
		switch {
		case key == nil:
			errs = append(errs, fmt.Errorf("capability %s is not decided on", name))
		case value.Tag != "!!bool":
			errs = append(errs, fmt.Errorf("line %d: capability %s is neither true nor false", value.Line, name))
		case key.HeadComment == "" && value.LineComment == "":
			errs = append(errs, fmt.Errorf("line %d: capability %s has no reason beside it", key.Line, name))
		}
	}
	return errs
}

func child(node *yaml.Node, key string) *yaml.Node {
	_, value := pair(node, key)
	return value
}

func pair(node *yaml.Node, key string) (k, v *yaml.Node) {
	if node == nil || node.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i < len(node.Content); i += 2 {
		if node.Content[i].Value == key {
			return node.Content[i], node.Content[i+1]
		}
	}
	return nil, nil
}

func place(at string) string {
	if at == "" {
		return "the file"
	}
	return at[1:]
}
