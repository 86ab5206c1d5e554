package upstream

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"go/ast"
	"go/parser"
	"go/token"
)

// suiteModule is the module whose source tells what the suite reads.
const suiteModule = "k8s.io/kubernetes"

// Shape is what the suite reads at one place of a test driver file.
type Shape struct {
	// Fields are the keys of a struct.
	Fields map[string]*Shape
	// Elem is what a list or a map holds.
	Elem *Shape
	// Keys are the keys that make sense in a map; nil: all.
	Keys []string
}

// Schema is what the suite understands of a test driver file.
type Schema struct {
	Root *Shape
	// Capabilities are all that the suite knows.
	Capabilities []string
}

// ReadSchema learns from the source of Kubernetes, in dir, what its storage
// suite reads from a test driver file. The suite's own type for it is not
// exported, and the suite ignores what it doesn't know.
func ReadSchema(dir string) (Schema, error) {
	s := &source{root: dir, packages: map[string]*sourcePackage{}}
	capabilities, err := s.constants("test/e2e/storage/framework", "Capability")
	if err != nil {
		return Schema{}, err
	}
	timeouts, err := s.named("test/e2e/framework", "TimeoutContext")
	if err != nil {
		return Schema{}, err
	}
	root, err := s.named("test/e2e/storage/external", "driverDefinition")
	if err != nil {
		return Schema{}, err
	}
	info := root.Fields["DriverInfo"]
	if info == nil || info.Fields["Capabilities"] == nil || root.Fields["Timeouts"] == nil {
		return Schema{}, fmt.Errorf("%s: the suite's driverDefinition has no DriverInfo.Capabilities or no Timeouts any more", dir)
	}
	info.Fields["Capabilities"].Keys = capabilities
	for name := range timeouts.Fields {
		root.Fields["Timeouts"].Keys = append(root.Fields["Timeouts"].Keys, name)
	}
	return Schema{Root: root, Capabilities: capabilities}, nil
}

// source reads types from Go source, package by package.
type source struct {
	root     string
	packages map[string]*sourcePackage
}

type sourcePackage struct {
	dir   string
	files []*ast.File
}

// load parses a package of the suite's module, without its tests.
func (s *source) load(dir string) (*sourcePackage, error) {
	if p := s.packages[dir]; p != nil {
		return p, nil
	}
	names, err := filepath.Glob(filepath.Join(s.root, dir, "*.go"))
	if err != nil {
		return nil, fmt.Errorf("look for the suite's source: %w", err)
	}
	p := &sourcePackage{dir: dir}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("parse the suite's source: %w", err)
		}
		p.files = append(p.files, file)
	}
	if len(p.files) == 0 {
		return nil, fmt.Errorf("no Go source in %s", filepath.Join(s.root, dir))
	}
	s.packages[dir] = p
	return p, nil
}

// named returns the shape of a type.
func (s *source) named(dir, name string) (*Shape, error) {
	p, err := s.load(dir)
	if err != nil {
		return nil, err
	}
	for _, file := range p.files {
		for _, decl := range file.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok || gen.Tok != token.TYPE {
				continue
			}
			for _, spec := range gen.Specs {
				if t, ok := spec.(*ast.TypeSpec); ok && t.Name.Name == name {
					return s.shape(dir, file, t.Type)
				}
			}
		}
	}
	return nil, fmt.Errorf("%s: there is no type %s any more", dir, name)
}

// constants returns the values of the string constants of a type.
func (s *source) constants(dir, typeName string) ([]string, error) {
	p, err := s.load(dir)
	if err != nil {
		return nil, err
	}
	var values []string
	for _, file := range p.files {
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			if t, ok := spec.Type.(*ast.Ident); ok && t.Name == typeName {
				for _, v := range spec.Values {
					if literal, ok := v.(*ast.BasicLit); ok {
						values = append(values, strings.Trim(literal.Value, `"`))
					}
				}
			}
			return true
		})
	}
	if len(values) == 0 {
		return nil, fmt.Errorf("%s: there are no constants of type %s any more", dir, typeName)
	}
	slices.Sort(values)
	return values, nil
}

// shape returns what a type expression reads.
func (s *source) shape(dir string, file *ast.File, expr ast.Expr) (*Shape, error) {
	switch t := expr.(type) {
	case *ast.StarExpr:
		return s.shape(dir, file, t.X)
	case *ast.InterfaceType:
		return &Shape{}, nil
	case *ast.ArrayType:
		elem, err := s.shape(dir, file, t.Elt)
		return &Shape{Elem: elem}, err
	case *ast.MapType:
		elem, err := s.shape(dir, file, t.Value)
		return &Shape{Elem: elem}, err
	case *ast.StructType:
		return s.structShape(dir, file, t)
	case *ast.Ident:
		if isPredeclared(t.Name) {
			return &Shape{}, nil
		}
		return s.named(dir, t.Name)
	case *ast.SelectorExpr:
		return s.selected(file, t)
	}
	return nil, fmt.Errorf("%s: a type of a kind that isn't understood here: %T", dir, expr)
}

func (s *source) structShape(dir string, file *ast.File, t *ast.StructType) (*Shape, error) {
	shape := &Shape{Fields: map[string]*Shape{}}
	for _, field := range t.Fields.List {
		if field.Tag != nil || len(field.Names) == 0 {
			return nil, fmt.Errorf("%s: a field with a tag, or an embedded one, isn't understood here", dir)
		}
		for _, name := range field.Names {
			fieldShape, err := s.shape(dir, file, field.Type)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name.Name, err)
			}
			shape.Fields[name.Name] = fieldShape
		}
	}
	return shape, nil
}

// selected returns the shape of a type of another package.
func (s *source) selected(file *ast.File, t *ast.SelectorExpr) (*Shape, error) {
	qualifier, ok := t.X.(*ast.Ident)
	if !ok {
		return nil, errors.New("a selector of something else than a package")
	}
	imported := importPath(file, qualifier.Name)
	if dir, ok := strings.CutPrefix(imported, suiteModule+"/"); ok {
		return s.named(dir, t.Sel.Name)
	}
	switch imported + "." + t.Sel.Name {
	case "k8s.io/apimachinery/pkg/util/sets.String": // map[string]struct{}
		return &Shape{Elem: &Shape{Fields: map[string]*Shape{}}}, nil
	case "k8s.io/api/core/v1.PersistentVolumeAccessMode", "time.Duration":
		return &Shape{}, nil
	}
	return nil, fmt.Errorf("type %s of %s isn't understood here", t.Sel.Name, imported)
}

// importPath returns what a name stands for in a file.
func importPath(file *ast.File, name string) string {
	for _, spec := range file.Imports {
		imported := strings.Trim(spec.Path.Value, `"`)
		switch {
		case spec.Name != nil && spec.Name.Name == name:
			return imported
		case spec.Name == nil && path.Base(imported) == name:
			return imported
		}
	}
	return name
}

func isPredeclared(name string) bool {
	return slices.Contains([]string{"string", "bool", "int", "int32", "int64", "float64", "any"}, name)
}
