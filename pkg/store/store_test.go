package store_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// mostMethods is how many methods an interface may declare. A sum of interfaces declares none of its own: who needs a
// feature's data should not have to name another feature's.
const mostMethods = 8

func TestInterfacesAreSmall(t *testing.T) {
	files, err := filepath.Glob("../*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for node := range ast.Preorder(file) {
			spec, ok := node.(*ast.TypeSpec)
			if !ok {
				continue
			}
			face, ok := spec.Type.(*ast.InterfaceType)
			if !ok {
				continue
			}
			seen++
			if n := declared(face); n > mostMethods {
				t.Errorf("%s: %s declares %d methods, at most %d are allowed: split it by feature", name, spec.Name, n, mostMethods)
			}
		}
	}
	if seen < 15 {
		t.Errorf("only %d interfaces were found", seen)
	}
}

// declared counts the methods that an interface declares itself, not those of the interfaces that it embeds.
func declared(face *ast.InterfaceType) (n int) {
	for _, field := range face.Methods.List {
		n += len(field.Names)
	}
	return n
}
