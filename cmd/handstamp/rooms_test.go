package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const modulePath = "github.com/handstamp/handstamp"

// room is what a package may lean on.
type room struct {
	imports []string // rooms of this module
	modules []string // third-party modules
}

// rooms is the plan of the house: arrows point down only. A package that is not here has no place yet.
func rooms() map[string]room {
	ground := []string{"pkg/verifier", "pkg/seal", "pkg/egress", "pkg/id", "pkg/clock", "pkg/password", "pkg/audit",
		"migrations"}
	first := []string{"pkg/user", "pkg/blocklist", "pkg/keyring", "pkg/outbox", "pkg/mail", "pkg/limit"}
	second := []string{"pkg/session", "pkg/token", "pkg/upstream", "pkg/factor"}
	third := []string{"pkg/account", "pkg/oauth", "pkg/statuslist", "pkg/sharedsignal"}
	features := slices.Concat(third, second, first, []string{"pkg/seal", "pkg/egress", "pkg/clock", "pkg/password", "pkg/audit"})

	underFirst := []string{"pkg/seal", "pkg/id", "pkg/clock", "pkg/password", "pkg/audit", "pkg/verifier"}
	underSecond := []string{"pkg/blocklist", "pkg/keyring", "pkg/user", "pkg/mail", "pkg/seal", "pkg/egress", "pkg/id", "pkg/clock",
		"pkg/audit", "pkg/verifier"}
	underDialect := slices.Concat([]string{"migrations", "pkg/store", "pkg/verifier"}, features)
	everything := slices.Concat(ground, first, second, third,
		[]string{"pkg/store", "pkg/store/postgres", "pkg/store/sqlite", "api", "api/pages"}, apiRooms())

	const (
		jwt    = "github.com/golang-jwt/jwt/v5"
		crypto = "golang.org/x/crypto"
		text   = "golang.org/x/text"
		echo   = "github.com/labstack/echo/v4"
		pgx    = "github.com/jackc/pgx/v5"
		goose  = "github.com/pressly/goose/v3"
		cobra  = "github.com/spf13/cobra"
	)
	// A room of the api: never another room, never a dialect. Only they know Echo.
	aRoom := room{imports: slices.Concat([]string{"api/door", "api/pages", "pkg/verifier"}, features), modules: []string{echo}}
	return map[string]room{
		"migrations":   {modules: []string{goose}},
		"pkg/audit":    {},
		"pkg/password": {modules: []string{crypto, text}},
		"pkg/seal":     {},
		"pkg/egress":   {},
		"pkg/id":       {},
		"pkg/clock":    {},
		"pkg/verifier": {modules: []string{jwt}},

		"pkg/bff":          {imports: []string{"pkg/verifier"}, modules: []string{"golang.org/x/oauth2"}},
		"pkg/bff/bfftest":  {imports: []string{"pkg/bff"}},
		"pkg/bff/sqlstore": {imports: []string{"pkg/bff"}},

		"pkg/user":          {imports: underFirst, modules: []string{text, "golang.org/x/net"}},
		"pkg/blocklist":     {imports: underFirst},
		"pkg/keyring":       {imports: underFirst},
		"pkg/outbox":        {imports: []string{"pkg/clock"}},
		"pkg/mail/mailtest": {modules: []string{"github.com/emersion/go-smtp", "github.com/emersion/go-sasl"}},
		"pkg/mail": {
			imports: []string{"pkg/seal", "pkg/audit", "pkg/outbox"},
			modules: []string{"github.com/wneessen/go-mail", "golang.org/x/net"},
		},
		"pkg/limit": {modules: []string{"github.com/hashicorp/golang-lru/v2"}},

		"pkg/factor": {
			imports: underSecond,
			modules: []string{"github.com/pquerna/otp", "github.com/piglig/go-qr"},
		},
		"pkg/session":               {imports: underSecond},
		"pkg/token":                 {imports: underSecond, modules: []string{jwt}},
		"pkg/upstream/upstreamtest": {imports: []string{"pkg/upstream"}, modules: []string{jwt}},
		"pkg/upstream": {
			imports: underSecond,
			modules: []string{jwt, "golang.org/x/oauth2", "github.com/coreos/go-oidc/v3", "github.com/go-jose/go-jose/v4"},
		},

		"pkg/account": {imports: []string{"pkg/session", "pkg/user", "pkg/mail", "pkg/seal", "pkg/password", "pkg/audit", "pkg/clock"}},

		"pkg/sharedsignal": {imports: []string{"pkg/egress", "pkg/outbox", "pkg/token", "pkg/session", "pkg/user", "pkg/seal"}},

		"pkg/statuslist": {imports: []string{"pkg/token", "pkg/blocklist", "pkg/audit", "pkg/clock"}},

		"pkg/oauth": {imports: slices.Concat([]string{"pkg/statuslist", "pkg/outbox"}, second, underSecond), modules: []string{jwt}},
		"pkg/store": {imports: features},

		"pkg/store/postgres":          {imports: underDialect, modules: []string{pgx, goose}},
		"pkg/store/sqlite":            {imports: underDialect, modules: []string{"modernc.org/sqlite", goose}},
		"pkg/store/postgres/pgtest":   {modules: []string{pgx}},
		"pkg/store/sqlite/sqlitetest": {imports: []string{"pkg/store/sqlite"}},
		"pkg/session/sessiontest":     {},
		"pkg/store/storetest": {
			imports: slices.Concat([]string{"pkg/store", "pkg/verifier"}, features),
			modules: []string{"github.com/google/go-cmp", "pgregory.net/rapid", goose},
		},

		"api": {imports: []string{"api/door"}, modules: []string{echo}},
		"api/door": {
			imports: slices.Concat([]string{"api/pages", "pkg/verifier"}, features),
			modules: []string{echo, "github.com/prometheus/client_golang", "golang.org/x/sys"},
		},
		"api/documents":  aRoom,
		"api/feed":       aRoom,
		"api/firstparty": aRoom,
		"api/gateway":    aRoom,
		"api/oauth2":     aRoom,
		"api/operate":    aRoom,
		"api/signals":    aRoom,
		"api/signin":     aRoom,
		"api/pages":      {modules: []string{text}},

		"cmd/handstamp": {
			imports: slices.Concat([]string{"cmd/handstamp/service", "cmd/handstamp/demo"}, everything),
			modules: []string{cobra, "github.com/spf13/pflag", "go.yaml.in/yaml/v3", "github.com/prometheus/client_golang",
				"golang.org/x/sync", "golang.org/x/sys"},
		},
		"cmd/handstamp/demo":    {imports: []string{"pkg/verifier", "pkg/oauth", "pkg/audit"}},
		"cmd/handstamp/service": {imports: everything, modules: []string{"github.com/prometheus/client_golang"}},
		"cmd/handstamp/service/servicetest": {
			imports: slices.Concat([]string{"cmd/handstamp/service", "pkg/store/postgres/pgtest"}, everything),
			modules: []string{"github.com/prometheus/client_golang"},
		},
		"cmd/stampede":             {modules: []string{cobra, "github.com/HdrHistogram/hdrhistogram-go", "golang.org/x/sys"}},
		"cmd/stampede/bench":       {imports: everything, modules: []string{pgx}},
		"examples":                 {},
		"examples/vectors":         {},
		"examples/mobile-sim":      {},
		"examples/resource-server": {imports: []string{"pkg/verifier"}},
		"examples/nuxt":            {imports: []string{"pkg/bff", "pkg/bff/sqlstore"}, modules: []string{"modernc.org/sqlite"}},
		"examples/web-app":         {imports: []string{"pkg/bff", "pkg/bff/sqlstore"}, modules: []string{"modernc.org/sqlite"}},
	}
}

// apiRooms are the rooms of the api, and their door.
func apiRooms() []string {
	return []string{
		"api/door", "api/documents", "api/feed", "api/firstparty", "api/gateway", "api/oauth2", "api/operate", "api/signals",
		"api/signin",
	}
}

// pkg is what `go list -json` tells of a package.
type pkg struct {
	ImportPath, Dir, Name string
	GoFiles               []string
	Imports               []string
	Standard              bool
	Module                *struct{ Path, Version string }
}

func (p pkg) room() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, modulePath), "/")
}

// listPackages runs go list at the top of the module.
func listPackages(t *testing.T, args ...string) []pkg {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(goList(t,
		append([]string{"-json=ImportPath,Dir,Name,GoFiles,Imports,Standard,Module"}, args...)...)))
	var listed []pkg
	for {
		var p pkg
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return listed
		} else if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, p)
	}
}

func goList(t *testing.T, args ...string) []byte {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...)
	command.Dir = filepath.Join("..", "..")
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, &stderr)
	}
	return out
}

func TestRooms(t *testing.T) {
	plan := rooms()
	external := externalModules(t)
	for _, p := range listPackages(t, "./...") {
		t.Run(p.room(), func(t *testing.T) {
			room, ok := plan[p.room()]
			if !ok {
				t.Fatalf("package %s has no place in the plan of the house", p.ImportPath)
			}
			for _, path := range p.Imports {
				if neighbour, inside := strings.CutPrefix(path, modulePath+"/"); inside {
					if !slices.Contains(room.imports, neighbour) {
						t.Errorf("imports %s, which is not below it", neighbour)
					}
				} else if module := external[path]; module != "" && !slices.Contains(room.modules, module) {
					t.Errorf("imports %s of module %s, which is not its business", path, module)
				}
			}
		})
	}
}

// externalModules returns the module of each third-party package that any package of this module is built from.
func externalModules(t *testing.T) map[string]string {
	t.Helper()
	modules := make(map[string]string)
	for _, p := range listPackages(t, "-deps", "./...") {
		if p.Module != nil && p.Module.Path != modulePath {
			modules[p.ImportPath] = p.Module.Path
		}
	}
	return modules
}

// The plan itself points down only: whoever may be imported may not import back, through any number of rooms.
func TestPlanHasNoCycle(t *testing.T) {
	plan := rooms()
	var climb func(path []string)
	climb = func(path []string) {
		here := path[len(path)-1]
		for _, next := range plan[here].imports {
			if _, ok := plan[next]; !ok {
				t.Errorf("%s may import %s, which is not in the plan", here, next)
			} else if slices.Contains(path, next) {
				t.Fatalf("cycle: %s -> %s", strings.Join(path, " -> "), next)
			} else {
				climb(append(slices.Clip(path), next))
			}
		}
	}
	// The rooms of the top floor reach all others; walking down from them once is enough.
	for _, top := range []string{"api", "pkg/store/postgres", "pkg/store/sqlite", "pkg/store/storetest"} {
		climb([]string{top})
	}
}

// Others import the verifier and the back end for front ends, and must not get a server with them.
func TestImportableRoomsDependOnLittle(t *testing.T) {
	const jwt, oauth2 = "github.com/golang-jwt/jwt/v5", "golang.org/x/oauth2"
	for room, allowed := range map[string]struct{ rooms, modules []string }{
		"pkg/verifier":     {[]string{"pkg/verifier"}, []string{jwt}},
		"pkg/bff":          {[]string{"pkg/bff", "pkg/verifier"}, []string{jwt, oauth2}},
		"pkg/bff/sqlstore": {[]string{"pkg/bff/sqlstore", "pkg/bff", "pkg/verifier"}, []string{jwt, oauth2}},
	} {
		for _, p := range listPackages(t, "-deps", "./"+room) {
			if !p.Standard && !slices.Contains(allowed.rooms, p.room()) &&
				(p.Module == nil || !slices.Contains(allowed.modules, p.Module.Path)) {
				t.Errorf("%s depends on %s", room, p.ImportPath)
			}
		}
	}
}

// A room that holds more than eight things, or a file of more than 400 lines, is two.
func TestRoomsAreSmall(t *testing.T) {
	const maxFields, maxLines = 8, 400
	for _, p := range listPackages(t, "./api/...") {
		if !slices.Contains(apiRooms(), p.room()) {
			continue
		}
		files, routed := token.NewFileSet(), make(map[string]bool)
		fields := make(map[string]int)
		for _, name := range p.GoFiles {
			tree, err := parser.ParseFile(files, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			if lines := files.File(tree.Pos()).LineCount(); lines > maxLines {
				t.Errorf("%s/%s has %d lines, more than %d", p.room(), name, lines, maxLines)
			}
			ast.Inspect(tree, func(node ast.Node) bool {
				switch node := node.(type) {
				case *ast.FuncDecl: // what has handlers is a room, or a part of one
					if star, ok := receiverType(node); ok {
						routed[star] = true
					}
				case *ast.TypeSpec:
					if s, ok := node.Type.(*ast.StructType); ok {
						for _, f := range s.Fields.List {
							fields[node.Name.Name] += max(1, len(f.Names))
						}
					}
				}
				return true
			})
		}
		if p.room() == "api/door" {
			routed["Config"] = true
		}
		for name := range routed {
			if fields[name] > maxFields {
				t.Errorf("%s.%s has %d fields, more than %d", p.room(), name, fields[name], maxFields)
			}
		}
	}
}

// receiverType is the struct whose pointer has a method.
func receiverType(fn *ast.FuncDecl) (string, bool) {
	if fn.Recv == nil {
		return "", false
	}
	star, ok := fn.Recv.List[0].Type.(*ast.StarExpr)
	if !ok {
		return "", false
	}
	name, ok := star.X.(*ast.Ident)
	return name.Name, ok && name.Name != "Problem" // which is no room but a document (RFC 9457)
}

func TestPackageComments(t *testing.T) {
	for _, p := range listPackages(t, "./...") {
		t.Run(p.room(), func(t *testing.T) {
			comments := make(map[string]string)
			for _, name := range p.GoFiles {
				file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil,
					parser.PackageClauseOnly|parser.ParseComments)
				if err != nil {
					t.Fatal(err)
				}
				if text := file.Doc.Text(); text != "" {
					comments[name] = text
				}
			}
			if len(comments) != 1 {
				t.Errorf("%d package comments, want one in one file", len(comments))
			}
			want := []string{"Package " + p.Name + " "}
			if p.Name == "main" {
				program := filepath.Base(p.Dir)
				want = []string{"Command " + program + " ", strings.ToUpper(program[:1]) + program[1:] + " "}
			}
			for name, text := range comments {
				if !slices.ContainsFunc(want, func(start string) bool { return strings.HasPrefix(text, start) }) {
					t.Errorf("%s: package comment must begin with one of %q", name, want)
				}
			}
		})
	}
}

// Older versions have known injections, and the simple protocol puts values into the text of a statement.
func TestDB02_PgxVersionAndProtocol(t *testing.T) {
	for module, least := range map[string][3]int{"github.com/jackc/pgx/v5": {5, 9, 2}, "github.com/labstack/echo/v4": {4, 16, 0}} {
		version := strings.TrimSpace(string(goList(t, "-m", "-f", "{{.Version}}", module)))
		var got [3]int
		if _, err := fmt.Sscanf(version, "v%d.%d.%d", &got[0], &got[1], &got[2]); err != nil || slices.Compare(got[:], least[:]) < 0 {
			t.Errorf("%s is %s, must be at least %v", module, version, least)
		}
	}
	compared := make(map[ast.Node]bool) // a comparison is how a configuration that asks for it is refused
	inspectSource(t, func(at token.Position, node ast.Node) bool {
		switch node := node.(type) {
		case *ast.BinaryExpr:
			compared[node.X], compared[node.Y] = true, true
		case *ast.CaseClause:
			for _, value := range node.List {
				compared[value] = true
			}
		case *ast.SelectorExpr:
			if node.Sel.Name == "QueryExecModeSimpleProtocol" && !compared[node] {
				t.Errorf("%s: uses the simple protocol", at)
			}
		}
		return true
	})
}

// Encrypted tokens are not part of the contract; their decoders have been a way in (PBES2 counts, compression bombs). One library
// for upstream providers contains them, so only the room that talks to providers may have it among its dependencies.
func TestJWT19_NoJWE(t *testing.T) {
	for _, name := range []string{"verifier", "token", "keyring", "session", "blocklist", "user"} {
		for _, p := range listPackages(t, "-e", "-deps", "./pkg/"+name) {
			if p.Module != nil && slices.ContainsFunc([]string{"go-jose", "square/", "lestrrat-go", "jose2go", "jwe"},
				func(s string) bool { return strings.Contains(p.ImportPath, s) }) {
				t.Errorf("pkg/%s depends on %s", name, p.ImportPath)
			}
		}
	}
	inspectSource(t, func(at token.Position, node ast.Node) bool {
		switch node := node.(type) {
		case *ast.Ident:
			if slices.Contains([]string{"JSONWebEncryption", "ParseEncrypted", "ParseEncryptedCompact", "ParseSignedAndEncrypted",
				"PBES2_HS256_A128KW"}, node.Name) {
				t.Errorf("%s: uses %s", at, node.Name)
			}
		case *ast.ImportSpec:
			if path, _ := strconv.Unquote(node.Path.Value); path == "compress/flate" {
				t.Errorf("%s: imports %s", at, path)
			}
		}
		return true
	})
}

// Two purposes with one label would have one secret, so that the labels stand in one table.
func TestLabelsOfSecretsStandInPkgSeal(t *testing.T) {
	inspectSource(t, func(at token.Position, node ast.Node) bool {
		if strings.HasSuffix(at.Filename, filepath.Join("pkg", "seal", "label.go")) {
			return false
		}
		switch node := node.(type) {
		case *ast.BasicLit:
			if text, err := strconv.Unquote(node.Value); err == nil && strings.HasPrefix(text, "handstamp/v1/") {
				t.Errorf("%s: label %s is not in the table of pkg/seal", at, text)
			}
		case *ast.ImportSpec:
			inSeal := filepath.Base(filepath.Dir(at.Filename)) == "seal"
			if path, _ := strconv.Unquote(node.Path.Value); !inSeal && (path == "crypto/hkdf" || path == "golang.org/x/crypto/hkdf") {
				t.Errorf("%s: derives secrets, which is the business of pkg/seal", at)
			}
		}
		return true
	})
}

// A client that is made elsewhere would call addresses that pkg/egress refuses. The verifier and the back end for front ends are
// told their issuer by the operator, and programs call themselves or what they test.
func TestCallsGoThroughPkgEgress(t *testing.T) {
	top, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	inspectSource(t, func(at token.Position, node ast.Node) bool {
		path := strings.TrimPrefix(filepath.ToSlash(at.Filename), filepath.ToSlash(top)+"/")
		for _, free := range []string{"pkg/egress/", "pkg/verifier/", "pkg/bff/", "examples/", "cmd/stampede/",
			"cmd/handstamp/healthcheck.go"} {
			if strings.HasPrefix(path, free) || strings.HasSuffix(filepath.Dir(path), "test") {
				return false
			}
		}
		var used ast.Node
		var names []string
		switch node := node.(type) {
		case *ast.CompositeLit:
			used, names = node.Type, []string{"Client", "Transport"}
		case *ast.SelectorExpr:
			used, names = node, []string{"DefaultClient", "DefaultTransport", "Get", "Head", "Post", "PostForm"}
		}
		selected, ok := used.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if name, ok := selected.X.(*ast.Ident); ok && name.Name == "http" && slices.Contains(names, selected.Sel.Name) {
			t.Errorf("%s: http.%s; calls of the service go through pkg/egress", at, selected.Sel.Name)
		}
		return true
	})
}

// inspectSource walks the syntax of every file that is built into a program, tests left out. visit returns false to
// leave out what is beneath a node.
func inspectSource(t *testing.T, visit func(at token.Position, node ast.Node) bool) {
	t.Helper()
	files := token.NewFileSet()
	for _, p := range listPackages(t, "./...") {
		for _, name := range p.GoFiles {
			tree, err := parser.ParseFile(files, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(tree, func(node ast.Node) bool {
				return node == nil || visit(files.Position(node.Pos()), node)
			})
		}
	}
}
