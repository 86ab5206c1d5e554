package node

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
)

// TestEachKindOfErrorIsInTheTable, so that none is taken for Internal or not counted by an
// oversight. Those that never reach a caller are told here.
func TestEachKindOfErrorIsInTheTable(t *testing.T) {
	inner := []string{"blockdev.ErrClaimed", "filesystem.ErrNeedsMount"}
	var kinds []string
	for _, dir := range []string{".", "../blockdev", "../filesystem", "../luks", "../mkfs", "../keylock"} {
		kind, prefix := regexp.MustCompile(`^Err[A-Z]`), filepath.Base(dir)+"."
		if dir == "." {
			kind, prefix = regexp.MustCompile(`^err[A-Z]`), ""
		}
		for _, file := range sources(t, dir) {
			for _, d := range file.Decls {
				g, ok := d.(*ast.GenDecl)
				if !ok || g.Tok != token.VAR {
					continue
				}
				for _, spec := range g.Specs {
					for _, name := range spec.(*ast.ValueSpec).Names {
						if kind.MatchString(name.Name) && !slices.Contains(inner, prefix+name.Name) {
							kinds = append(kinds, prefix+name.Name)
						}
					}
				}
			}
		}
	}
	var told []string
	for _, file := range sources(t, ".") {
		ast.Inspect(file, func(n ast.Node) bool {
			row, ok := n.(*ast.CompositeLit)
			if !ok || row.Type != nil || len(row.Elts) != 3 {
				return true
			}
			switch e := row.Elts[0].(type) {
			case *ast.Ident:
				told = append(told, e.Name)
			case *ast.SelectorExpr:
				told = append(told, fmt.Sprint(e.X, ".", e.Sel))
			}
			return true
		})
	}
	for _, k := range kinds {
		if n := count(told, k); n != 1 {
			t.Errorf("%s is %d times in the table of codes and reasons", k, n)
		}
	}
	if len(kinds) < 25 || len(codeTable()) != len(kinds)+2 { // and the two of contexts
		t.Errorf("%d kinds of errors: %v; %d rows", len(kinds), kinds, len(codeTable()))
	}
}

func sources(t *testing.T, dir string) (files []*ast.File) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(paths) == 0 {
		t.Fatal(dir, err)
	}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}

func count(all []string, one string) (n int) {
	for _, a := range all {
		if a == one {
			n++
		}
	}
	return n
}

// TestEachRefusalHasOneReason: whatever says that the state of the node forbids a call.
func TestEachRefusalHasOneReason(t *testing.T) {
	waits := []error{errNotStaged, errNoZone, filesystem.ErrTooSmall, filesystem.ErrOnlineGrowth} // nothing is wrong with the disk
	for _, row := range codeTable() {
		refuses := row.code == codes.FailedPrecondition || row.code == codes.AlreadyExists || errors.Is(row.err, filesystem.ErrGivenUp) || errors.Is(row.err, filesystem.ErrCorrupt)
		if want := refuses && !slices.Contains(waits, row.err); want != (reasonOf(row.err) != noRefusal) {
			t.Errorf("%v: reason %q", row.err, row.reason)
		}
		// What has to be repeated may be a refusal all the same.
		if got := reasonOf(fmt.Errorf("%w: %w", errNotYet, row.err)); got != reasonOf(row.err) {
			t.Errorf("%v, not yet: reason %q", row.err, got)
		}
	}
	for _, tt := range []struct {
		err  error
		want reason
	}{
		{fmt.Errorf("%w: %w", errInvalid, filesystem.ErrReadOnly), noRefusal},
		{fmt.Errorf("%w: x", blockdev.ErrHeld), held},
		{fmt.Errorf("%w: x", blockdev.ErrUnsafe), wrongSerial},
		{&filesystem.NotBlankError{}, notBlank},
	} {
		if got := reasonOf(tt.err); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.err, got, tt.want)
		}
	}
}
