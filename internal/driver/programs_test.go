package driver_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/luks"
)

// listed are the programs that the packages say they run.
func listed() []string {
	all := slices.Concat(filesystem.Programs(), luks.Programs())
	slices.Sort(all)
	return all
}

func TestTheNodeImageHoldsExactlyTheProgramsThatTheDriverRuns(t *testing.T) {
	dockerfile, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	list := regexp.MustCompile(`(?s)\nARG NODE_TOOLS="(.*?)"\n`).FindSubmatch(dockerfile)
	if list == nil {
		t.Fatal("the Dockerfile has no NODE_TOOLS")
	}
	var image []string
	for tool := range strings.FieldsSeq(strings.ReplaceAll(string(list[1]), "\\\n", " ")) {
		name, _, _ := strings.Cut(tool, ":")
		image = append(image, name)
	}
	slices.Sort(image)
	if diff := cmp.Diff(listed(), image); diff != "" {
		t.Errorf("what the driver runs (-) and what is in the image (+) differ:\n%s", diff)
	}
}

// runners are the functions that run a program, and which of their arguments is
// its name.
func runners() map[string]int {
	return map[string]int{"tool": 1, "change": 1, "Tool": 2, "Command": 0, "CommandContext": 1, "LookPath": 0}
}

func TestTheProgramsThatTheCodeRunsAreListed(t *testing.T) {
	// mount is run by mount-utils.
	found := map[string]bool{"mount": true}
	for dir, files := range sources(t) {
		constants := constants(files)
		for _, file := range files {
			for _, imported := range file.Imports {
				if path, _ := strconv.Unquote(imported.Path.Value); (path == "os/exec" || path == "k8s.io/utils/exec") && dir != "../filesystem" {
					t.Errorf("%s imports %s: programs are run by internal/filesystem, which lists them", dir, path)
				}
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok {
					for _, name := range programs(call, constants) {
						found[name] = true
					}
				}
				return true
			})
		}
	}
	var names []string
	for name := range found {
		names = append(names, name)
	}
	slices.Sort(names)
	if diff := cmp.Diff(listed(), names); diff != "" {
		t.Errorf("what Programs() lists (-) and what the code runs (+) differ:\n%s", diff)
	}
}

// sources are the driver's files, by their directories.
func sources(t *testing.T) map[string][]*ast.File {
	t.Helper()
	all := map[string][]*ast.File{}
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if slices.Contains([]string{"bench", "demo", "devcloud", "guest", "nodetest", "testdata"}, entry.Name()) {
				return filepath.SkipDir // not in the driver
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		all[filepath.Dir(path)] = append(all[filepath.Dir(path)], file)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// constants are the string constants of a package.
func constants(files []*ast.File) map[string]string {
	all := map[string]string{}
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok {
				for i, value := range spec.Values {
					if text, ok := literal(value); ok && i < len(spec.Names) {
						all[spec.Names[i].Name] = text
					}
				}
			}
			return true
		})
	}
	return all
}

// programs are the names of the programs that a call runs; none where the name
// is handed through.
func programs(call *ast.CallExpr, constants map[string]string) []string {
	function, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return nil
	}
	at, ok := runners()[function.Sel.Name]
	if !ok || at >= len(call.Args) {
		return nil
	}
	switch name := call.Args[at].(type) {
	case *ast.BasicLit:
		text, _ := literal(name)
		return []string{text}
	case *ast.Ident:
		if text, ok := constants[name.Name]; ok {
			return []string{text}
		}
	case *ast.BinaryExpr: // "mkfs." + the filesystem
		prefix, _ := literal(name.X)
		var all []string
		for _, t := range filesystem.Types() {
			all = append(all, prefix+t.Name)
		}
		return all
	}
	return nil
}

func literal(e ast.Expr) (string, bool) {
	if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
		text, err := strconv.Unquote(lit.Value)
		return text, err == nil
	}
	return "", false
}
