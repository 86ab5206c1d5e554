package logging

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// One thing has one key wherever it is logged, so that one search finds all lines about it.
func TestAThingHasOneKeyWhereverItIsLogged(t *testing.T) {
	other := map[string]string{
		"volume": "volumeID", "id": "volumeID", "sourceVolumeID": "volumeID", "node": "nodeID or nodeName", "server": "serverID", "snapshot": "snapshotID",
		"claim": "pvc", "persistentVolume": "pv", "took": "duration", "elapsed": "duration", "err": "error", "reqID": "requestID", "osRequestID": "openstackRequestID",
		"disk": "device", "dev": "device", "fstype": "fsType", "filesystem": "fsType", "target": "path",
	}
	lowerCamel := regexp.MustCompile(`^[a-z][a-zA-Z0-9]*$`)
	// Not part of the driver.
	apart := regexp.MustCompile(`^\.\./(devcloud|demo|bench|guest|deployers|logging)/|_test\.go$`)
	found := 0
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || apart.MatchString(path) {
			return err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			key, ok := keyOf(n)
			if !ok {
				return true
			}
			found++
			if better := other[key]; better != "" || !lowerCamel.MatchString(key) {
				t.Errorf("%s: key %q: want %s", set.Position(n.Pos()), key, map[bool]string{true: "lowerCamel", false: better}[better == ""])
			}
			return true
		})
		return nil
	})
	if err != nil || found == 0 {
		t.Errorf("%d keys, %v", found, err)
	}
}

// keyOf returns the key of a call as zap.String("key", …).
func keyOf(n ast.Node) (key string, ok bool) {
	call, ok := n.(*ast.CallExpr)
	if !ok || len(call.Args) != 2 {
		return "", false
	}
	function, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return "", false
	}
	if of, ok := function.X.(*ast.Ident); !ok || of.Name != "zap" {
		return "", false
	}
	literal, ok := call.Args[0].(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return "", false
	}
	key, err := strconv.Unquote(literal.Value)
	return key, err == nil
}
