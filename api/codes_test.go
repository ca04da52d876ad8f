package api_test

import (
	"cmp"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/factor"
	"github.com/handstamp/handstamp/pkg/keyring"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/password"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/sharedsignal"
	"github.com/handstamp/handstamp/pkg/statuslist"
	minted "github.com/handstamp/handstamp/pkg/token"
	"github.com/handstamp/handstamp/pkg/upstream"
	"github.com/handstamp/handstamp/pkg/user"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// source is the Go source of a package, without tests.
func source(t *testing.T, dir string) []*ast.File {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no source in %s: %v", dir, err)
	}
	var out []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, f)
	}
	return out
}

func literal(e ast.Expr) string {
	if l, ok := e.(*ast.BasicLit); ok && l.Kind == token.STRING {
		if s, err := strconv.Unquote(l.Value); err == nil {
			return s
		}
	}
	return ""
}

// codesInSource finds the codes that the rooms and the door give by themselves: those of problems and those of pages.
func codesInSource(t *testing.T) (problems, onPages map[string]bool) {
	t.Helper()
	problems, onPages = map[string]bool{}, map[string]bool{}
	rooms, err := filepath.Glob("*/*.go")
	if err != nil || len(rooms) == 0 {
		t.Fatalf("no rooms: %v", err)
	}
	dirs := map[string]bool{}
	for _, name := range rooms {
		dirs[filepath.Dir(name)] = true
	}
	for dir := range dirs {
		for _, f := range source(t, dir) {
			ast.Inspect(f, func(n ast.Node) bool {
				composite, ok := n.(*ast.CompositeLit)
				if !ok {
					return true
				}
				given := map[string]string{} // the fields with a literal; the others are empty
				for _, e := range composite.Elts {
					if kv, ok := e.(*ast.KeyValueExpr); ok {
						if key, ok := kv.Key.(*ast.Ident); ok {
							given[key.Name] = literal(kv.Value)
						}
					}
				}
				_, page := given["page"]
				switch {
				case typeName(composite.Type) == "Problem":
					problems[given["Code"]] = true
				case typeName(composite.Type) == "PageError":
					onPages[given["Code"]] = true
				case given["code"] != "": // a row of the table of errors
					problems[given["code"]] = true
					if page {
						onPages[cmp.Or(given["pageCode"], given["code"])] = true
					}
				}
				return true
			})
		}
	}
	delete(problems, "") // those of the protocol, see oauthProblem
	delete(onPages, "")
	return problems, onPages
}

// typeName is the name of a type, without that of its package.
func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// codesInProtocol reads one of the tables of PROTOCOL.md: code → its cells.
func codesInProtocol(t *testing.T, heading string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n### "+heading+"\n")
	if !ok {
		t.Fatalf("PROTOCOL.md has no section %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n#")
	out := map[string][]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|(.*)\\|$").FindAllStringSubmatch(section, -1) {
		var cells []string
		for cell := range strings.SplitSeq(row[2], "|") {
			cells = append(cells, strings.TrimSpace(cell))
		}
		out[row[1]] = cells
	}
	return out
}

// codesInContract finds which statuses the document gives with each code of a kind of error.
func codesInContract(t *testing.T, kind, member string) map[string]string {
	t.Helper()
	statuses := map[string]map[string]bool{}
	for _, o := range operations(contract(t)) {
		for status, r := range o.Responses.Map() {
			for _, m := range r.Value.Content {
				for _, code := range enumOf(m.Schema, kind, member) {
					if statuses[code] == nil {
						statuses[code] = map[string]bool{}
					}
					statuses[code][status] = true
				}
			}
		}
	}
	out := map[string]string{}
	for code, set := range statuses {
		out[code] = strings.Join(slices.Sorted(maps.Keys(set)), ", ")
	}
	return out
}

// enumOf is what an answer narrows the code of an error to.
func enumOf(s *openapi3.SchemaRef, kind, member string) (out []string) {
	if s.Ref != "#/components/schemas/"+kind {
		return nil
	}
	for _, part := range s.Value.AllOf {
		if p := part.Value.Properties[member]; p != nil {
			for _, v := range p.Value.Enum {
				out = append(out, fmt.Sprint(v))
			}
		}
	}
	return out
}

func same(t *testing.T, what string, got, want map[string]bool) {
	t.Helper()
	for code := range got {
		if !want[code] {
			t.Errorf("%s: %s is too much", what, code)
		}
	}
	for code := range want {
		if !got[code] {
			t.Errorf("%s: %s is missing", what, code)
		}
	}
}

func keys[V any](m map[string]V) map[string]bool {
	out := map[string]bool{}
	for k := range m {
		out[k] = true
	}
	return out
}

// TestCodes holds source, document and PROTOCOL.md to the same codes with the same statuses.
func TestCodes(t *testing.T) {
	doc := contract(t)
	enum := func(schema, member string) map[string]bool {
		out := map[string]bool{}
		for _, v := range doc.Components.Schemas[schema].Value.Properties[member].Value.Enum {
			out[fmt.Sprint(v)] = true
		}
		return out
	}
	problems, pages := codesInSource(t)
	for _, code := range []oauth.ErrorCode{oauth.InvalidClient, oauth.InvalidGrant, oauth.UnauthorizedClient, oauth.InvalidScope,
		oauth.TemporarilyUnavailable} {
		problems[string(code)] = true // what login, sign-up and logout pass on
	}
	t.Run("problems", func(t *testing.T) {
		same(t, "openapi.yaml", enum("Problem", "code"), problems)
		table := codesInProtocol(t, "Problem documents")
		same(t, "PROTOCOL.md", keys(table), problems)
		for code, statuses := range codesInContract(t, "Problem", "code") {
			if table[code][0] != statuses {
				t.Errorf("%s: %s in PROTOCOL.md, %s in openapi.yaml", code, table[code][0], statuses)
			}
		}
	})
	t.Run("oauth", func(t *testing.T) {
		standard := standardCodes(t)
		table := codesInProtocol(t, "OAuth errors")
		all := maps.Clone(standard)
		for _, code := range []string{"invalid_token", "insufficient_scope", "unauthorized"} { // RFC 6750, section 3.1
			all[code] = true
		}
		for _, code := range []string{"origin_not_allowed", "cross_site", "client_header_required"} { // no page of the client
			all[code] = true
		}
		same(t, "PROTOCOL.md", keys(table), all)
		used := codesInContract(t, "OAuthError", "error")
		same(t, "openapi.yaml", enum("OAuthError", "error"), keys(used))
		for code, statuses := range used {
			if !all[code] || table[code][1] != statuses {
				t.Errorf("%s: %s in PROTOCOL.md, %s in openapi.yaml", code, table[code][1], statuses)
			}
		}
	})
	t.Run("pages", func(t *testing.T) { same(t, "PROTOCOL.md", keys(codesInProtocol(t, "Pages")), pages) })
}

// standardCodes are the codes of pkg/oauth, each of which a standard gives.
func standardCodes(t *testing.T) map[string]bool {
	t.Helper()
	given := map[string]bool{}
	for code := range strings.FieldsSeq(`
		invalid_request invalid_client invalid_grant unauthorized_client unsupported_grant_type invalid_scope
		access_denied unsupported_response_type server_error temporarily_unavailable
		invalid_target
		interaction_required login_required account_selection_required consent_required invalid_request_uri
		invalid_request_object request_not_supported
		request_uri_not_supported registration_not_supported
		unmet_authentication_requirements
		unsupported_token_type
		authorization_pending slow_down expired_token
		invalid_dpop_proof use_dpop_nonce`) { // RFC 6749, 8707, OpenID Connect Core, its unmet requirements, RFC 7009, 8628, 9449
		given[code] = true
	}
	codes := map[string]bool{}
	for _, f := range source(t, "../pkg/oauth") {
		ast.Inspect(f, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok {
				if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "ErrorCode" {
					codes[literal(spec.Values[0])] = true
				}
			}
			return true
		})
	}
	for code := range codes {
		if !given[code] {
			t.Errorf("no standard gives the code %s", code)
		}
	}
	if len(codes) < 10 {
		t.Fatalf("found %d codes only", len(codes))
	}
	return codes
}

// mapping is what an error of a feature becomes: status and code in the first-party API, at an OAuth endpoint, on a
// page. Empty: it cannot get there.
type mapping struct {
	err                  error
	problem, oauth, page string
}

// mappings are the errors that requests can meet.
func mappings() map[string]mapping {
	const down, oauthDown, grant = "503 unavailable", "503 temporarily_unavailable", "400 invalid_grant"
	return map[string]mapping{
		"user.ErrNotFound":           {user.ErrNotFound, "404 not_found", "", "404 not_found"},
		"user.ErrEmailTaken":         {user.ErrEmailTaken, "409 email_taken", "", ""},
		"user.ErrChanged":            {user.ErrChanged, "409 conflict", "", ""},
		"user.ErrInvalidEmail":       {user.ErrInvalidEmail, "400 invalid_request", "", ""},
		"user.ErrInvalidName":        {user.ErrInvalidName, "400 invalid_request", "", ""},
		"user.ErrInvalidRole":        {user.ErrInvalidRole, "400 invalid_request", "", ""},
		"user.ErrInvalidAttribute":   {user.ErrInvalidAttribute, "400 invalid_request", "", ""},
		"user.ErrSignupClosed":       {user.ErrSignupClosed, "403 signup_disabled", "", "403 signup_disabled"},
		"user.ErrTooManyAttempts":    {&user.AttemptError{}, "429 too_many_attempts", "", "429 too_many_attempts"},
		"user.ErrInvalidCredentials": {user.ErrInvalidCredentials, "401 invalid_credentials", "", ""},
		"user.ErrFactorNeeded":       {user.ErrFactorNeeded, "403 mfa_required", grant, ""},
		"user.ErrFactorUsed":         {user.ErrFactorUsed, "401 invalid_code", grant, ""},

		"factor.ErrNotFound": {factor.ErrNotFound, "404 not_found", "", ""},
		"factor.ErrTooMany":  {factor.ErrTooMany, "409 too_many_factors", "", ""},
		"factor.ErrCode":     {factor.ErrCode, "401 invalid_code", "", ""},
		"factor.ErrLogin":    {factor.ErrLogin, "401 invalid_mfa_token", "", ""},
		"factor.ErrName":     {factor.ErrName, "400 invalid_request", "", ""},
		"factor.ErrMethod":   {factor.ErrMethod, "400 invalid_request", "", ""},

		"session.ErrNotFound":       {session.ErrNotFound, "404 not_found", grant, ""},
		"session.ErrMalformed":      {session.ErrMalformed, "401 invalid_grant", grant, ""},
		"session.ErrWrongClient":    {session.ErrWrongClient, "401 invalid_grant", grant, ""},
		"session.ErrEnded":          {session.ErrEnded, "401 invalid_grant", grant, ""},
		"session.ErrReuse":          {session.ErrReuse, "401 invalid_grant", grant, ""},
		"session.ErrLate":           {session.ErrLate, "401 invalid_grant", grant, ""},
		"session.ErrBusy":           {session.ErrBusy, down, oauthDown, ""},
		"session.ErrUserDisabled":   {session.ErrUserDisabled, "401 invalid_credentials", grant, ""},
		"session.ErrUserChanged":    {session.ErrUserChanged, "401 invalid_credentials", grant, ""},
		"session.ErrClientDisabled": {session.ErrClientDisabled, "400 invalid_client", "401 invalid_client", ""},
		"session.ErrScope":          {session.ErrScope, "400 invalid_scope", "400 invalid_scope", ""},
		"session.ErrChild":          {session.ErrChild, "400 invalid_request", "400 invalid_request", ""},

		"oauth.ErrClientNotFound": {oauth.ErrClientNotFound, "404 not_found", "401 invalid_client", "404 not_found"},
		"oauth.ErrCodeNotFound":   {oauth.ErrCodeNotFound, "", grant, ""},
		"oauth.ErrCodeUsed":       {oauth.ErrCodeUsed, "", grant, ""},

		"password.ErrMalformed":   {password.ErrMalformed, "400 invalid_request", "", ""},
		"password.ErrTooShort":    {password.ErrTooShort, "400 weak_password", "", ""},
		"password.ErrTooLong":     {password.ErrTooLong, "400 weak_password", "", ""},
		"password.ErrCommon":      {password.ErrCommon, "400 weak_password", "", ""},
		"password.ErrUnknownHash": {password.ErrUnknownHash, down, "", "503 unavailable"},

		"statuslist.ErrNotFound":          {statuslist.ErrNotFound, "404 not_found", "", ""},
		"sharedsignal.ErrStreamNotFound":  {sharedsignal.ErrStreamNotFound, "404 not_found", "", ""},
		"sharedsignal.ErrStreamExists":    {sharedsignal.ErrStreamExists, "409 conflict", "", ""},
		"sharedsignal.ErrTooSoon":         {sharedsignal.ErrTooSoon, "429 too_many_attempts", "", ""},
		"sharedsignal.ErrTooManySubjects": {sharedsignal.ErrTooManySubjects, "403 not_allowed", "", ""},
		"sharedsignal.ErrSubject":         {sharedsignal.ErrSubject, "400 invalid_request", "", ""},
		"sharedsignal.ErrEndpoint":        {sharedsignal.ErrEndpoint, "400 invalid_request", "", ""},

		"blocklist.ErrCursorGone": {blocklist.ErrCursorGone, "410 cursor_gone", "", ""},

		"keyring.ErrUnknownAlgorithm": {keyring.ErrUnknownAlgorithm, down, oauthDown, ""},
		"keyring.ErrNotReady":         {keyring.ErrNotReady, down, oauthDown, ""},
		"keyring.ErrConflict":         {keyring.ErrConflict, down, oauthDown, ""},
		"token.ErrClaims":             {minted.ErrClaims, down, oauthDown, ""},

		"upstream.ErrNotFound":        {upstream.ErrNotFound, "404 not_found", "", "404 not_found"},
		"upstream.ErrReplayed":        {upstream.ErrReplayed, "401 invalid_credentials", "", ""},
		"upstream.ErrConflict":        {upstream.ErrConflict, "409 conflict", "", ""},
		"upstream.ErrLastCredential":  {upstream.ErrLastCredential, "409 last_credential", "", ""},
		"upstream.ErrSealed":          {upstream.ErrSealed, "409 needs_reauth", "", ""},
		"upstream.ErrBusy":            {upstream.ErrBusy, down, "", ""},
		"upstream.ErrReauthNeeded":    {upstream.ErrReauthNeeded, "409 needs_reauth", "", ""},
		"upstream.ErrNotSupported":    {upstream.ErrNotSupported, "400 not_supported", "", ""},
		"upstream.ErrState":           {upstream.ErrState, "400 expired", "", "400 expired"},
		"upstream.ErrDenied":          {upstream.ErrDenied, "403 access_denied", "", "403 access_denied"},
		"upstream.ErrUnavailable":     {upstream.ErrUnavailable, "502 provider_unavailable", "", "502 provider_unavailable"},
		"upstream.ErrInvalidAnswer":   {upstream.ErrInvalidAnswer, "401 invalid_credentials", "", "502 provider_answer"},
		"upstream.ErrMisconfigured":   {upstream.ErrMisconfigured, "502 provider_misconfigured", "", "502 provider_misconfigured"},
		"upstream.ErrNotAllowed":      {upstream.ErrNotAllowed, "403 not_allowed", "", "403 not_allowed"},
		"upstream.ErrUnknownProvider": {upstream.ErrUnknownProvider, "404 unknown_provider", "", "404 unknown_provider"},
		"upstream.ErrUserDisabled":    {upstream.ErrUserDisabled, "401 invalid_credentials", "", "403 not_allowed"},
		"upstream.ErrIdentityTaken":   {upstream.ErrIdentityTaken, "409 identity_taken", "", "409 identity_taken"},
		"upstream.ErrProviderLinked":  {upstream.ErrProviderLinked, "409 provider_linked", "", "409 provider_linked"},
		"upstream.ErrAmbiguousEmail":  {upstream.ErrAmbiguousEmail, "409 ambiguous_email", "", "409 ambiguous_email"},
		"upstream.ErrLookalikeEmail":  {upstream.ErrLookalikeEmail, "409 lookalike_email", "", "409 lookalike_email"},
		"upstream.ErrEmailRequired":   {upstream.ErrEmailRequired, "403 email_required", "", "403 email_required"},
		"upstream.ErrSignupClosed":    {upstream.ErrSignupClosed, "403 signup_disabled", "", "403 signup_disabled"},

		"verifier.ErrInvalid":     {verifier.ErrInvalid, "401 invalid_token", "401 invalid_token", ""},
		"verifier.ErrMalformed":   {verifier.ErrMalformed, "401 invalid_token", "401 invalid_token", ""},
		"verifier.ErrUnknownKey":  {verifier.ErrUnknownKey, "401 invalid_token", "401 invalid_token", ""},
		"verifier.ErrSignature":   {verifier.ErrSignature, "401 invalid_token", "401 invalid_token", ""},
		"verifier.ErrIssuer":      {verifier.ErrIssuer, "401 invalid_token", "401 invalid_token", ""},
		"verifier.ErrAudience":    {verifier.ErrAudience, "401 invalid_token", "401 invalid_token", ""},
		"verifier.ErrExpired":     {verifier.ErrExpired, "401 invalid_token", "401 invalid_token", ""},
		"verifier.ErrNotYetValid": {verifier.ErrNotYetValid, "401 invalid_token", "401 invalid_token", ""},
		"verifier.ErrLifetime":    {verifier.ErrLifetime, "401 invalid_token", "401 invalid_token", ""},
		"verifier.ErrBlocked":     {verifier.ErrBlocked, "401 invalid_token", "401 invalid_token", ""},
		"verifier.ErrUnavailable": {verifier.ErrUnavailable, down, oauthDown, ""},
		"verifier.ErrClosed":      {verifier.ErrClosed, down, oauthDown, ""},
		"verifier.ErrNoToken":     {verifier.ErrNoToken, "401 unauthorized", "401 unauthorized", ""},
		"verifier.ErrRequest":     {verifier.ErrRequest, "400 invalid_request", "400 invalid_request", ""},
	}
}

// elsewhere are the errors that no request can meet, and why.
func elsewhere() map[string]string {
	return map[string]string{
		"oauth.ErrClientExists":           "clients are created on the command line",
		"oauth.ErrClientChanged":          "clients are updated on the command line",
		"oauth.ErrBrowserSessionNotFound": "browserSession: nobody is logged in",
		"oauth.ErrRequestNotFound":        "oauth.takePushed: invalid_request",
		"keyring.ErrUpcoming":             "keys are rotated on the command line",
		"keyring.ErrNotFound":             "keys are revoked on the command line",
		"keyring.ErrSealed":               "stops the start",
		"keyring.ErrCorrupt":              "stops the start",
		"seal.ErrNoMasterKey":             "service.MasterKey: the first start makes one, any other stops",
		"egress.ErrURL":                   "upstream says ErrMisconfigured or ErrInvalidAnswer, sharedsignal and oauth try again",
		"egress.ErrAddress":               "upstream says ErrMisconfigured or ErrInvalidAnswer, sharedsignal and oauth try again",
		"egress.ErrTooLarge":              "upstream says ErrMisconfigured or ErrInvalidAnswer, sharedsignal and oauth try again",
		"seal.ErrForm":                    "keyring, upstream and sharedsignal say ErrSealed instead",
		"seal.ErrKey":                     "keyring, upstream and sharedsignal say ErrSealed instead",
		"token.ErrHint":                   "readLogout: such a hint proves nothing and is ignored",
		"verifier.ErrKey":                 "keys of this service are in its own keyring",
		"verifier.ErrIssuerMismatch":      "the service does not ask an issuer for metadata",
		"verifier.ErrEntries":             "the service does not read a feed",
	}
}

// errorAnswer is what a handler's error becomes under a path.
func errorAnswer(path string, err error) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	door.New(door.Config{}).WriteError(err, echo.New().NewContext(httptest.NewRequest(http.MethodGet, path, http.NoBody), w))
	return w
}

// TestSentinels holds every exported error of the features to the table of what it becomes.
func TestSentinels(t *testing.T) {
	found := map[string]bool{}
	for _, feature := range []string{"user", "factor", "session", "oauth", "password", "blocklist", "statuslist", "sharedsignal",
		"keyring",
		"token", "upstream", "verifier", "seal", "egress"} {
		for _, f := range source(t, "../pkg/"+feature) {
			for _, d := range f.Decls {
				decl, ok := d.(*ast.GenDecl)
				if !ok || decl.Tok != token.VAR {
					continue
				}
				for _, spec := range decl.Specs {
					for _, name := range spec.(*ast.ValueSpec).Names { //nolint:forcetypeassert // var has no others
						if strings.HasPrefix(name.Name, "Err") {
							found[feature+"."+name.Name] = true
						}
					}
				}
			}
		}
	}
	table := keys(mappings())
	for name, reason := range elsewhere() {
		if table[name] || reason == "" {
			t.Errorf("%s is in both tables, or without a reason", name)
		}
		table[name] = true
	}
	same(t, "tables", table, found)

	for name, m := range mappings() {
		wrapped := fmt.Errorf("what was being done: %w", m.err)
		for path, wanted := range map[string]string{"/v1/x": m.problem, "/oauth2/x": m.oauth} {
			w := errorAnswer(path, wrapped)
			r := servicetest.Response{Status: w.Code, Header: w.Header(), Body: w.Body.String()}
			if got := fmt.Sprint(r.Status, " ", r.Code()); wanted != "" && got != wanted {
				t.Errorf("%s under %s: %s, want %s", name, path, got, wanted)
			}
			if r.Status == 503 && r.Header.Get("Retry-After") == "" {
				t.Errorf("%s under %s: 503 without Retry-After", name, path)
			}
			told := r.Code() == "invalid_request" || r.Code() == "weak_password" // what is wrong with the caller's own input
			if !told && strings.Contains(r.Body, "what was being done") {
				t.Errorf("%s under %s tells the caller what only the log may know: %s", name, path, r.Body)
			}
		}
		if p := door.AsPageError(wrapped); m.page != "" && fmt.Sprint(p.Status, " ", p.Code) != m.page {
			t.Errorf("%s on a page: %d %s, want %s", name, p.Status, p.Code, m.page)
		}
	}
	t.Run("ok/anything else is a failure that can be repeated", func(t *testing.T) {
		other := errors.New("dial tcp 10.0.0.7:5432: connection refused")
		for path, wanted := range map[string]string{"/v1/x": "unavailable", "/oauth2/x": "temporarily_unavailable"} {
			w := errorAnswer(path, other)
			r := servicetest.Response{Status: w.Code, Body: w.Body.String()}
			if r.Status != 503 || r.Code() != wanted || strings.Contains(r.Body, "10.0.0.7") {
				t.Errorf("%s: %d %s", path, r.Status, r.Body)
			}
		}
	})
	t.Run("fail/a fault is a server error", func(t *testing.T) {
		fault := &door.Problem{Status: 500, Code: "internal", Title: "Internal error"}
		for path, wanted := range map[string]string{"/v1/x": "internal", "/oauth2/x": "server_error"} {
			w := errorAnswer(path, fault)
			r := servicetest.Response{Status: w.Code, Body: w.Body.String()}
			if r.Status != 500 || r.Code() != wanted {
				t.Errorf("%s: %d %s", path, r.Status, r.Body)
			}
		}
	})
}

// kindsElsewhere are the security events that no route records, and what does.
func kindsElsewhere() map[string]string {
	return map[string]string{
		"KindUserCreated":    "the command line",
		"KindUserDisabled":   "the command line",
		"KindUserEnabled":    "the command line",
		"KindRolesChanged":   "the command line",
		"KindClientCreated":  "the command line",
		"KindClientUpdated":  "the command line",
		"KindClientDisabled": "the command line",
		"KindClientEnabled":  "the command line",
		"KindClientDeleted":  "the command line",
		"KindKeyRotated":     "the keyring, by schedule, and the command line",
		"KindKeyRevoked":     "the command line",
		"KindTokensBlocked":  "the command line",
	}
}

// TestRoutesNameTheirEvents holds the table of routes to the kinds of security events: each is recorded by a route or elsewhere.
func TestRoutesNameTheirEvents(t *testing.T) {
	recorded := map[audit.Kind]bool{}
	for _, r := range service.Routes() {
		for _, kind := range r.Audit {
			recorded[kind] = true
		}
	}
	found, known := map[string]bool{}, kindsElsewhere()
	for _, f := range source(t, "../pkg/audit") {
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || typeName(spec.Type) != "Kind" {
				return true
			}
			for i, name := range spec.Names {
				found[name.Name] = true
				if byRoute := recorded[audit.Kind(literal(spec.Values[i]))]; byRoute == (known[name.Name] != "") {
					t.Errorf("%s: recorded by a route %t, elsewhere by %q", name.Name, byRoute, known[name.Name])
				}
			}
			return true
		})
	}
	for name := range known {
		if !found[name] {
			t.Errorf("there is no %s", name)
		}
	}
}
