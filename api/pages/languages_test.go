package pages

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"html"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func catalogs(t *testing.T) map[string]map[string]string {
	t.Helper()
	found := map[string]map[string]string{}
	if err := readLanguages(files, "languages", found); err != nil {
		t.Fatal(err)
	}
	return found
}

func TestBuiltInLanguagesSayTheSame(t *testing.T) {
	all := catalogs(t)
	want := all[english]
	if len(all) < 2 {
		t.Fatalf("%d languages", len(all))
	}
	for lang, catalog := range all {
		t.Run("ok/"+lang, func(t *testing.T) {
			if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(catalog))); diff != "" {
				t.Errorf("keys differ:\n%s", diff)
			}
			for key, text := range catalog {
				if strings.TrimSpace(text) == "" {
					t.Errorf("%s is empty", key)
				}
				a, b := placeholders(want[key]), placeholders(text)
				slices.Sort(a)
				slices.Sort(b)
				if !slices.Equal(slices.Compact(a), slices.Compact(b)) {
					t.Errorf("%s has the placeholders %v, want %v", key, b, a)
				}
			}
			// encoding/json takes the last of two equal names without a word.
			raw, err := files.ReadFile("languages/" + lang + ".json")
			if err != nil {
				t.Fatal(err)
			}
			seen := map[string]bool{}
			for _, m := range regexp.MustCompile(`(?m)^\s*"([^"]+)":`).FindAllSubmatch(raw, -1) {
				if seen[string(m[1])] {
					t.Errorf("%s stands twice", m[1])
				}
				seen[string(m[1])] = true
			}
		})
	}
}

func TestEveryTextThatPagesUseExists(t *testing.T) {
	catalog := catalogs(t)[english]
	used := map[string]bool{}
	names, err := fs.Glob(files, "templates/*.html")
	if err != nil {
		t.Fatal(err)
	}
	call := regexp.MustCompile(`\.(?:T|Rich) "([^"]+)"`)
	for _, name := range names {
		raw, err := files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range call.FindAllSubmatch(raw, -1) {
			used[string(m[1])] = true
			if _, ok := catalog[string(m[1])]; !ok {
				t.Errorf("%s uses %q", name, m[1])
			}
		}
	}
	for _, method := range []string{"totp", "email", "recovery"} {
		for _, part := range []string{"lead", "label", "use"} {
			used["mfa."+method+"."+part] = true
		}
	}
	for _, id := range messageIDs(t) {
		parts := []string{""}
		if strings.HasPrefix(id, "fault.") {
			parts = []string{".title", ".text", ".advice"}
		} else if strings.HasPrefix(id, "done.") {
			parts = []string{".title", ".text"}
		}
		for _, part := range parts {
			used[id+part] = true
			if _, ok := catalog[id+part]; !ok {
				t.Errorf("no text for %s", id+part)
			}
		}
	}
	for _, key := range mailKeys() {
		used[key] = true
		if _, ok := catalog[key]; !ok {
			t.Errorf("no text for %s", key)
		}
	}
	for _, unit := range []string{"second", "seconds", "minute", "minutes", "hours", "days"} {
		used["wait."+unit] = true
	}
	for key := range catalog {
		if strings.HasPrefix(key, "detail.") {
			used[key] = true // by its text
		}
		if !used[key] && !strings.HasPrefix(key, "scope.") && !strings.HasPrefix(key, "language.") {
			t.Errorf("nothing uses %s", key)
		}
	}
}

// messageIDs reads the constants from the source, so that none can be forgotten.
func messageIDs(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "messages.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "MessageID" {
			for _, v := range spec.Values {
				id, err := strconv.Unquote(v.(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, id)
			}
		}
		return true
	})
	if len(ids) < 30 {
		t.Fatalf("found only %v", ids)
	}
	return ids
}

func TestLanguage(t *testing.T) {
	r, err := New(Branding{}, fstest.MapFS{
		"pt-BR.json": {Data: []byte(`{"language.name": "Português", "login.title": "Entrar"}`)},
		"ar.json":    {Data: []byte(`{"language.direction": "rtl", "login.title": "تسجيل الدخول"}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ locales, accept, want string }{
		"ok/nothing":                 {"", "", "en"},
		"ok/accept":                  {"", "de-AT,de;q=0.9,en;q=0.8", "de"},
		"ok/accept, second choice":   {"", "fr,de;q=0.5", "de"},
		"ok/ui_locales":              {"de", "en", "de"},
		"ok/ui_locales, second":      {"fr de en", "", "de"},
		"ok/ui_locales, region":      {"de-CH", "", "de"},
		"ok/ui_locales unknown":      {"fr", "de", "de"},
		"ok/nothing fits":            {"fr", "it", "en"},
		"ok/operator's":              {"pt", "", "pt-BR"},
		"ok/operator's, rtl":         {"", "ar-EG", "ar"},
		"ok/underscore":              {"de_DE", "", "de"},
		"fail/malformed locales":     {"!!! \x00 <script>", "de", "de"},
		"fail/malformed accept":      {"", "de;q=x;;,", "en"},
		"fail/endless":               {strings.Repeat("fr ", 1e5), strings.Repeat("fr,", 1e5), "en"},
		"ok/wildcard":                {"", "*", "en"},
		"ok/British is English":      {"en-GB", "de", "en"},
		"fail/malformed, then valid": {"?? de", "", "de"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := r.Language(tt.locales, tt.accept); got != tt.want {
				t.Errorf("Language(%.40q, %.40q) = %q, want %q", tt.locales, tt.accept, got, tt.want)
			}
		})
	}
}

func TestOperatorsLanguages(t *testing.T) {
	const evil = `<script>alert(1)</script>{client}`
	raw, err := json.Marshal(map[string]string{"lead.client": evil, "scope.orders:read": "See your orders <b>all</b>"})
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Branding{}, fstest.MapFS{
		"en.json":    {Data: raw},
		"ar.json":    {Data: []byte(`{"language.direction": "rtl", "login.title": "تسجيل الدخول"}`)},
		"README.md":  {Data: []byte("not a language")},
		"dir/x.json": {Data: []byte("not read")},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Run("ok/texts are text", func(t *testing.T) {
		root := parse(t, render(t, r, "en", Login{Client: Client{Name: "{client}<b>"}}).Body.String())
		if len(elements(root, "script")) > 1 || len(elements(root, "b")) > 0 ||
			!strings.Contains(text(root), `<script>alert(1)</script>{client}<b>`) {
			t.Error(text(root))
		}
	})
	t.Run("ok/own scopes", func(t *testing.T) {
		if got := text(parse(t, render(t, r, "en", Consent{Scopes: []string{"orders:read"}}).Body.String())); !strings.Contains(got,
			"See your orders <b>all</b>") {
			t.Error(got)
		}
	})
	t.Run("ok/right to left, the rest English", func(t *testing.T) {
		root := parse(t, render(t, r, "ar", Login{}).Body.String())
		if dir, _ := attr(elements(root, "html")[0], "dir"); dir != "rtl" || !strings.Contains(text(root), "تسجيل الدخول") ||
			!strings.Contains(text(root), "Email address") {
			t.Errorf("%q %s", dir, text(root))
		}
	})
	for name, tt := range map[string]struct{ file, data, says string }{
		"fail/misspelt key":        {"fr.json", `{"login.titel": "x"}`, `unknown key "login.titel"`},
		"fail/unknown placeholder": {"fr.json", `{"lead.client": "vers {clien}"}`, "{clien}"},
		"fail/direction":           {"fr.json", `{"language.direction": "up"}`, "ltr or rtl"},
		"fail/not JSON":            {"fr.json", `{`, "fr.json"},
		"fail/not texts":           {"fr.json", `{"login.title": 1}`, "fr.json"},
		"fail/name":                {"french.json.json", `{}`, "french.json.json"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(Branding{}, fstest.MapFS{tt.file: {Data: []byte(tt.data)}})
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want one that says %q", err, tt.says)
			}
		})
	}
}

func TestWait(t *testing.T) {
	r := newRenderer(t, Branding{})
	for d, want := range map[time.Duration][2]string{
		0:                       {"a second", "einer Sekunde"},
		1500 * time.Millisecond: {"2 seconds", "2 Sekunden"},
		26 * time.Second:        {"26 seconds", "26 Sekunden"},
		60 * time.Second:        {"a minute", "einer Minute"},
		61 * time.Second:        {"2 minutes", "2 Minuten"},
		2 * time.Hour:           {"120 minutes", "120 Minuten"},
		3 * time.Hour:           {"3 hours", "3 Stunden"},
		72 * time.Hour:          {"72 hours", "72 Stunden"},
		7 * 24 * time.Hour:      {"7 days", "7 Tagen"},
	} {
		for i, lang := range []string{"en", "de"} {
			page := Login{Form: Form{Error: TooManyAttempts.With().Wait(d)}}
			if got := text(parse(t, render(t, r, lang, page).Body.String())); !strings.Contains(got, " in "+want[i]) {
				t.Errorf("%v: no %q in %s", d, want[i], got)
			}
		}
	}
}

func TestOperatorsScopes(t *testing.T) {
	r, err := New(Branding{Scopes: []Scope{
		{Name: "orders:write", Text: "Change your <b>orders</b>"}, {Name: "orders:read", Text: "See your orders"}, {Name: "bare"},
	}}, fstest.MapFS{"de.json": {Data: []byte(`{"scope.orders:read": "Ihre Bestellungen sehen"}`)}})
	if err != nil {
		t.Fatal(err)
	}
	asked := Consent{Scopes: []string{"x", "bare", "orders:read", "openid", "orders:write", "email"}}
	for lang, want := range map[string][]string{
		"en": {"Know who you are here", "See your email address", "Change your <b>orders</b>", "See your orders", "bare", "x"},
		"de": {"<b>orders</b>", "Ihre Bestellungen sehen", "bare"},
	} {
		got := text(parse(t, render(t, r, lang, asked).Body.String()))
		for _, line := range want {
			before, after, found := strings.Cut(got, line)
			if got = after; !found {
				t.Errorf("%s: no %q after %q", lang, line, before)
			}
		}
	}
	if _, err := New(Branding{Scopes: []Scope{{Name: "two words"}}}, nil); err == nil {
		t.Error("a scope with a space was accepted")
	}
}

func TestDetail(t *testing.T) {
	r := newRenderer(t, Branding{})
	for detail, want := range map[string]string{
		"the client is not known here": "die Anwendung ist hier nicht bekannt",
		"client_id is missing":         "client_id fehlt",
		"<b> is given more than once":  "<b> kommt mehrmals vor",
		"what a provider says":         "what a provider says",
	} {
		for lang, text := range map[string]string{"de": want, "en": detail} {
			page := render(t, r, lang, Error{What: FaultRequest.With(), Detail: detail}).Body.String()
			if !strings.Contains(html.UnescapeString(page), `dir="auto">`+text+"<") {
				t.Errorf("%s: no %q", lang, text)
			}
		}
	}
}
