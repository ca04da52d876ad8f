package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/upstream"
)

// contract is the document that the service serves.
func contract(t *testing.T) *openapi3.T {
	t.Helper()
	text, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// operation is one operation of the document.
type operation struct {
	method, path string
	*openapi3.Operation
}

func (o operation) String() string { return o.method + " " + o.path }

func operations(doc *openapi3.T) []operation {
	var out []operation
	for _, path := range slices.Sorted(maps.Keys(doc.Paths.Map())) {
		for method, o := range doc.Paths.Value(path).Operations() {
			out = append(out, operation{method, path, o})
		}
	}
	slices.SortFunc(out, func(a, b operation) int { return strings.Compare(a.path+a.method, b.path+b.method) })
	return out
}

// TestContractDocument holds the document to the specification and to what a reader may expect of it.
func TestContractDocument(t *testing.T) {
	doc := contract(t)
	if err := doc.Validate(t.Context(), openapi3.IsOpenAPI31OrLater(), openapi3.EnableSchemaFormatValidation(),
		openapi3.EnableExamplesValidation()); err != nil {
		t.Fatal(err)
	}
	ids, tags := map[string]string{}, map[string]bool{}
	for _, tag := range doc.Tags {
		tags[tag.Name] = false
	}
	for _, o := range operations(doc) {
		if o.OperationID == "" || ids[o.OperationID] != "" {
			t.Errorf("%s: operationId %q is missing or that of %s", o, o.OperationID, ids[o.OperationID])
		}
		ids[o.OperationID] = o.String()
		if o.Summary == "" || strings.HasSuffix(o.Summary, ".") {
			t.Errorf("%s: summary %q", o, o.Summary)
		}
		if len(o.Tags) != 1 {
			t.Errorf("%s: tags %v", o, o.Tags)
		}
		for _, tag := range o.Tags {
			if _, ok := tags[tag]; !ok {
				t.Errorf("%s: tag %q is not described", o, tag)
			}
			tags[tag] = true
		}
		if o.Security == nil {
			t.Errorf("%s: does not say who may call it", o)
		}
		lintResponses(t, o)
		lintParameters(t, o)
	}
	for tag, used := range tags {
		if !used {
			t.Errorf("tag %q is not used", tag)
		}
	}
	lintComponents(t, doc)
}

func lintResponses(t *testing.T, o operation) {
	t.Helper()
	kinds := map[byte]bool{}
	for status, r := range o.Responses.Map() {
		kinds[status[0]] = true
		if _, err := strconv.Atoi(status); err != nil {
			t.Errorf("%s %s: the status is not exact", o, status)
		}
		if r.Value.Description == nil || *r.Value.Description == "" {
			t.Errorf("%s %s: no description", o, status)
		}
		if r.Value.Headers["X-Request-Id"] == nil {
			t.Errorf("%s %s: no X-Request-Id", o, status)
		}
		if r.Value.Headers["Cache-Control"] == nil {
			t.Errorf("%s %s: no Cache-Control", o, status)
		}
		for name, h := range r.Value.Headers {
			if !h.Value.Required || h.Value.Description == "" {
				t.Errorf("%s %s: header %s is not required or not described", o, status, name)
			}
		}
		for mediaType, m := range r.Value.Content {
			if m.Schema == nil {
				t.Errorf("%s %s %s: no schema", o, status, mediaType)
				continue
			}
			if mediaType != "application/yaml" {
				lintClosed(t, fmt.Sprint(o, " ", status, " ", mediaType), m.Schema.Value)
			}
		}
	}
	for _, kind := range []byte("45") {
		if kind == '4' && o.method == http.MethodGet && len(*o.Security) == 0 {
			continue // nothing may be wrong about it
		}
		if !kinds[kind] {
			t.Errorf("%s: no %cxx answer", o, kind)
		}
	}
	if !kinds['2'] && !kinds['3'] {
		t.Errorf("%s: no success", o)
	}
}

// lintClosed finds objects of answers that let unknown members pass.
func lintClosed(t *testing.T, where string, s *openapi3.Schema) {
	t.Helper()
	if s.Type.Is("object") && (s.AdditionalProperties.Has == nil || *s.AdditionalProperties.Has) {
		t.Errorf("%s: the object is open", where)
	}
	for name, p := range s.Properties {
		lintClosed(t, where+"."+name, p.Value)
	}
	if s.Items != nil {
		lintClosed(t, where+"[]", s.Items.Value)
	}
	for _, part := range s.AllOf {
		lintClosed(t, where, part.Value)
	}
}

func lintParameters(t *testing.T, o operation) {
	t.Helper()
	for _, p := range o.Parameters {
		if p.Value.Description == "" || p.Value.Schema == nil {
			t.Errorf("%s: parameter %s has no description or no schema", o, p.Value.Name)
		}
		if p.Value.In == "path" && !strings.Contains(o.path, "{"+p.Value.Name+"}") {
			t.Errorf("%s: parameter %s is not in the path", o, p.Value.Name)
		}
	}
	if o.RequestBody == nil {
		return
	}
	for mediaType, m := range o.RequestBody.Value.Content {
		closed := m.Schema.Value.AdditionalProperties.Has != nil && !*m.Schema.Value.AdditionalProperties.Has
		if json := mediaType == "application/json"; json != closed {
			t.Errorf("%s %s: JSON bodies are closed, forms are open (RFC 6749, section 3.2)", o, mediaType)
		}
	}
}

// lintComponents finds components that nothing refers to.
func lintComponents(t *testing.T, doc *openapi3.T) {
	t.Helper()
	text, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	check := func(kind, name string) {
		if !bytes.Contains(text, []byte("'#/components/"+kind+"/"+name+"'")) &&
			!bytes.Contains(text, []byte(" #/components/"+kind+"/"+name+"\n")) {
			t.Errorf("component %s/%s is not used", kind, name)
		}
	}
	for name := range doc.Components.Schemas {
		check("schemas", name)
	}
	for name := range doc.Components.Responses {
		check("responses", name)
	}
	for name := range doc.Components.Headers {
		check("headers", name)
	}
	for name := range doc.Components.Parameters {
		check("parameters", name)
	}
	used := map[string]bool{}
	for _, o := range operations(doc) {
		if o.Security != nil {
			for _, requirement := range *o.Security {
				for name := range requirement {
					used[name] = true
				}
			}
		}
	}
	for name := range doc.Components.SecuritySchemes {
		if !used[name] {
			t.Errorf("security scheme %s is not used", name)
		}
	}
}

// TestContractRoutes holds the document and the table of routes against each other, both ways.
func TestContractRoutes(t *testing.T) {
	s := servicetest.Start(t, servicetest.SQLite(t))
	documented := map[string]bool{}
	for _, o := range operations(contract(t)) {
		documented[o.String()] = true
	}
	served := map[string]bool{}
	for _, r := range s.API.Answered() {
		served[r.Method+" "+templateOf(r.Path)] = true
	}
	for route := range served {
		method, path, _ := strings.Cut(route, " ")
		switch method {
		case http.MethodHead: // comes with GET
			if !documented["GET "+path] {
				t.Errorf("%s: there is no GET", route)
			}
		case http.MethodOptions: // comes with CORS
			if !slices.ContainsFunc(slices.Collect(maps.Keys(documented)), func(o string) bool { return strings.HasSuffix(o, " "+path) }) {
				t.Errorf("%s: the path is not documented", route)
			}
		default:
			if !documented[route] {
				t.Errorf("%s is served and not documented", route)
			}
		}
	}
	for route := range documented {
		if !served[route] {
			t.Errorf("%s is documented and not served", route)
		}
	}
}

// templateOf is a path of the router in the document's form.
func templateOf(path string) string {
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		if name, ok := strings.CutPrefix(segment, ":"); ok {
			segments[i] = "{" + name + "}"
		}
		if segment == "*" {
			segments[i] = "{name}"
		}
	}
	return strings.Join(segments, "/")
}

// checked is a transport that holds every exchange with the service against the document: what is answered must be
// documented in every part, and what is answered with success must have been asked as documented.
type checked struct {
	t      *testing.T
	doc    *openapi3.T
	router routers.Router
	seen   map[string]bool // "operationId status"
}

func newChecked(t *testing.T) *checked {
	t.Helper()
	doc := contract(t)
	doc.Servers = nil // whatever address
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	for _, mediaType := range []string{"text/html", "text/css", "text/event-stream", "image/svg+xml", "application/blocklist+jwt",
		"application/statuslist+jwt"} {
		openapi3filter.RegisterBodyDecoder(mediaType, openapi3filter.PlainBodyDecoder)
	}
	openapi3filter.RegisterBodyDecoder("application/jwk-set+json", openapi3filter.JSONBodyDecoder)
	return &checked{t: t, doc: doc, router: router, seen: map[string]bool{}}
}

// RoundTrip implements http.RoundTripper.
func (c *checked) RoundTrip(r *http.Request) (*http.Response, error) {
	var sent []byte
	if r.Body != nil {
		var err error
		if sent, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body = http.NoBody
		if len(sent) > 0 {
			r.Body = io.NopCloser(bytes.NewReader(sent))
		}
	}
	response, err := (&http.Transport{
		DisableKeepAlives:     true,
		DisableCompression:    true,
		ExpectContinueTimeout: time.Minute,
	}).RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	copied := r.Clone(r.Context())
	copied.Body = io.NopCloser(bytes.NewReader(sent))
	c.check(copied, response, body)
	return response, nil
}

func (c *checked) check(r *http.Request, response *http.Response, body []byte) {
	c.t.Helper()
	route, params, err := c.router.FindRoute(r)
	if err != nil {
		c.t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
		return
	}
	c.seen[fmt.Sprint(route.Operation.OperationID, " ", response.StatusCode)] = true
	options := &openapi3filter.Options{
		AuthenticationFunc:                openapi3filter.NoopAuthenticationFunc,
		IncludeResponseStatus:             true,
		MultiError:                        true,
		RejectWhenRequestBodyNotSpecified: true,
	}
	input := &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route, Options: options}
	if response.StatusCode < 400 {
		if err := openapi3filter.ValidateRequest(r.Context(), input); err != nil {
			c.t.Errorf("%s %s was answered %d, but the document does not allow the request: %v", r.Method, r.URL, response.StatusCode, err)
		}
	}
	for name, values := range response.Header { // a body that is compressed all the same
		if name == "Content-Encoding" && len(values) > 0 {
			c.t.Errorf("%s %s: compressed without being asked", r.Method, r.URL)
		}
	}
	err = openapi3filter.ValidateResponse(r.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input,
		Status:                 response.StatusCode,
		Header:                 response.Header,
		Body:                   io.NopCloser(bytes.NewReader(body)),
		Options:                options,
	})
	if err != nil {
		c.t.Errorf("%s %s was answered\n%d %v\n%s\nwhich the document does not allow: %v", r.Method, r.URL, response.StatusCode,
			response.Header, body[:min(len(body), 1000)], err)
	}
}

// exchange sends one request and wants a status.
func (c *checked) exchange(s *servicetest.Service, status int, method, path string, header http.Header,
	body string) servicetest.Response {
	c.t.Helper()
	var reader io.Reader = http.NoBody
	if body != "" {
		reader = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(c.t.Context(), method, s.URL+path, reader)
	if err != nil {
		c.t.Fatal(err)
	}
	maps.Copy(r.Header, header)
	response, err := (&http.Client{
		Transport:     c,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}).Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if response.StatusCode != status {
		c.t.Errorf("%s %s: %d %s, want %d", method, path, response.StatusCode, text, status)
	}
	return servicetest.Response{Status: response.StatusCode, Header: response.Header, Body: string(text)}
}

// json sends a JSON document, with an access token unless it is empty.
func (c *checked) json(s *servicetest.Service, status int, method, path, accessToken string, body any) servicetest.Response {
	c.t.Helper()
	if body == nil {
		return c.exchange(s, status, method, path, bearer(accessToken), "")
	}
	text, err := json.Marshal(body)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.exchange(s, status, method, path, bearer(accessToken, "Content-Type", "application/json"), string(text))
}

// form posts a form given as names and values in turn.
func (c *checked) form(s *servicetest.Service, status int, path string, h http.Header, pairs ...string) servicetest.Response {
	c.t.Helper()
	values := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		values.Add(pairs[i], pairs[i+1])
	}
	h = extended(h, "Content-Type", "application/x-www-form-urlencoded")
	return c.exchange(s, status, http.MethodPost, path, h, values.Encode())
}

// extended is a header with further fields.
func extended(h http.Header, pairs ...string) http.Header {
	out := header(pairs...)
	maps.Copy(out, h)
	return out
}

// object is a JSON object.
type object map[string]any

// regexpAsset finds a file that a page needs.
var regexpAsset = regexp.MustCompile(`/assets/[a-z0-9]+\.css`)

// notSeen are the documented answers that TestContractExchanges cannot ask for, and why.
func notSeen(operation string, status string) string {
	if status == "500" {
		return "a fault that is not known; one that were would be mended"
	}
	if strings.HasPrefix(operation, "providerCallback") ||
		slices.Contains([]string{"beginProvider", "beginIdentity", "identityToken", "removeIdentity", "loginByIDToken"}, operation) {
		return "needs a provider that answers"
	}
	switch operation + " " + status {
	case "signup 401", "updateMe 404", "deleteMe 404", "changePassword 404", "changePassword 409", "signupForm 401",
		"addTOTP 404":
		return "needs another request at the same instant: race tests of the stores"
	case "blocklist 500", "revoke 503":
		return "see 500"
	}
	return ""
}

// TestContractExchanges asks for every answer that is documented, and holds requests and answers against the document.
func TestContractExchanges(t *testing.T) {
	c := newChecked(t)
	exchanges := func(t *testing.T, db servicetest.Database) {
		outer := c.t
		c.t = t
		defer func() { c.t = outer }()
		s := servicetest.Start(t, db, func(cfg *service.Config) {
			cfg.LoginAttempts, cfg.StatusList = 20, true
			cfg.TrustedProxies = []string{"127.0.0.1"}
		}, withProvider)
		addClient(t, s, oauth.Client{
			ID:         "backend",
			Type:       oauth.Confidential,
			SecretHash: oauth.HashSecret(secretOf("backend")),
			Grants:     []string{oauth.GrantClientCredentials},
			Scopes:     []string{"reports:read"},
		})
		registerClient(t, s, oauth.Client{ID: "app", PostLogoutRedirectURIs: []string{appRedirect}, Origins: []string{gatewayOrigin}})
		registerClient(t, s, oauth.Client{ID: "other", ThirdParty: true})
		addClient(t, s, oauth.Client{
			ID:               "pages",
			Type:             oauth.Public,
			Grants:           []string{oauth.GrantRefreshToken},
			RefreshTransport: oauth.TransportCookie,
		})
		if err := s.Clients.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.documents(s)
		withCookie := c.cookies(s)
		c.account(s)
		c.protocol(s)
		c.blocklist(s)
		c.statusLists(s)
		c.signals(s)
		c.gateways(s)
		c.identities(s)
		c.pages(s)
		factorsGone := c.factors(s)
		c.limits(s)
		c.proving(db, s)
		c.closed(db, s)
		c.throttled(db)
		c.unavailable(s, withCookie)
		factorsGone()
	}
	t.Run("sqlite", func(t *testing.T) { exchanges(t, servicetest.SQLite(t)) })
	t.Run("postgres", func(t *testing.T) { exchanges(t, servicetest.Postgres(t)) })
	for _, o := range operations(c.doc) {
		for status := range o.Responses.Map() {
			if !c.seen[o.OperationID+" "+status] && notSeen(o.OperationID, status) == "" {
				t.Errorf("%s (%s): no test sees %s", o, o.OperationID, status)
			}
		}
	}
}

func withProvider(c *service.Config) {
	c.Providers = []upstream.Config{{
		ID:           "corp",
		Type:         upstream.OIDC,
		Issuer:       "https://127.0.0.1:1",
		ClientID:     "x",
		ClientSecret: "y",
	}}
}

func (c *checked) documents(s *servicetest.Service) {
	for _, path := range []string{"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration", "/openapi.yaml",
		"/healthz", "/readyz", "/"} {
		c.exchange(s, http.StatusOK, http.MethodGet, path, nil, "")
	}
	c.exchange(s, http.StatusFound, http.MethodGet, "/favicon.ico", nil, "")
	c.exchange(s, http.StatusFound, http.MethodGet, "/.well-known/change-password", nil, "")
	c.exchange(s, http.StatusSeeOther, http.MethodGet, "/oauth2/login", nil, "")
	c.exchange(s, http.StatusSeeOther, http.MethodGet, "/oauth2/signup", nil, "")
	for _, path := range []string{"/.well-known/jwks.json", "/v1/blocklist"} {
		r := c.exchange(s, http.StatusOK, http.MethodGet, path, nil, "")
		c.exchange(s, http.StatusNotModified, http.MethodGet, path, header("If-None-Match", r.Header.Get("ETag")), "")
	}
}

func (c *checked) account(s *servicetest.Service) {
	c.t.Helper()
	ann := object{"email": "ann@example.com", "password": servicetest.Password}
	c.json(s, 201, "POST", "/v1/signup", "", object{
		"email":     "ann@example.com",
		"password":  servicetest.Password,
		"name":      "Ann",
		"client_id": "default",
	})
	c.json(s, 409, "POST", "/v1/signup", "", ann)
	c.json(s, 400, "POST", "/v1/signup", "", object{"email": "ann@example.com", "password": "12345678"})
	c.json(s, 400, "POST", "/v1/login", "", object{"email": "ann@example.com", "password": servicetest.Password, "role": "admin"})
	c.json(s, 400, "POST", "/v1/login", "", object{
		"email":     "ann@example.com",
		"password":  servicetest.Password,
		"client_id": "nobody",
	})
	c.json(s, 400, "POST", "/v1/login", "", object{
		"email":     "ann@example.com",
		"password":  servicetest.Password,
		"client_id": "backend",
	})
	c.json(s, 400, "POST", "/v1/login", "", object{
		"email":    "ann@example.com",
		"password": servicetest.Password,
		"scope":    "everything",
	})
	c.json(s, 401, "POST", "/v1/login", "", object{"email": "ann@example.com", "password": "not the password"})

	token := c.json(s, 200, "POST", "/v1/login", "", ann).Tokens(c.t)
	for _, route := range bearerRoutes() {
		if strings.HasPrefix(route.Path, "/oauth2/") {
			continue
		}
		path := filled(route.Path, sid(c.t, token.AccessToken))
		c.exchange(s, 401, route.Method, path, nil, "")
		c.exchange(s, 401, route.Method, path, bearer("no.access.token"), "")
		c.exchange(s, 400, route.Method, path, header("Authorization", "Bearer a b"), "")
	}
	c.json(s, 200, "GET", "/v1/me", token.AccessToken, nil)
	c.json(s, 200, "PATCH", "/v1/me", token.AccessToken, object{"name": "Ann B."})
	c.json(s, 200, "PATCH", "/v1/me", token.AccessToken, object{"name": nil})
	c.json(s, 400, "PATCH", "/v1/me", token.AccessToken, object{"name": strings.Repeat("x", 201)})
	c.json(s, 200, "GET", "/v1/sessions", token.AccessToken, nil)
	c.json(s, 404, "DELETE", "/v1/sessions/nothing", token.AccessToken, nil)
	c.json(s, 204, "DELETE", "/v1/sessions/"+sid(c.t, c.json(s, 200, "POST", "/v1/login", "", ann).Tokens(c.t).AccessToken),
		token.AccessToken, nil)
	c.json(s, 204, "DELETE", "/v1/sessions?except=current", token.AccessToken, nil)
	c.json(s, 400, "DELETE", "/v1/sessions?except=others", token.AccessToken, nil)
	c.json(s, 400, "POST", "/v1/password/change", token.AccessToken, object{
		"current_password": servicetest.Password,
		"new_password":     "short",
	})
	c.json(s, 403, "POST", "/v1/password/change", token.AccessToken, object{
		"current_password": "not the password",
		"new_password":     "copper-heron-51",
	})
	token = c.json(s, 200, "POST", "/v1/password/change", token.AccessToken, object{
		"current_password": servicetest.Password,
		"new_password":     "copper-heron-51",
	}).Tokens(c.t)
	c.json(s, 204, "DELETE", "/v1/sessions", token.AccessToken, nil)

	c.recovery(s)

	ben := s.SignUp(c.t, "ben@example.com")
	c.json(s, 204, "POST", "/v1/logout", ben.AccessToken, nil)
	ben = s.LogIn(c.t, "ben@example.com")
	c.json(s, 204, "POST", "/v1/logout", "", object{"refresh_token": ben.RefreshToken})
	c.json(s, 401, "POST", "/v1/logout", "", object{"refresh_token": "hsr_nonsense"})
	c.json(s, 400, "POST", "/v1/logout", "", object{"refresh_token": 7})
	c.json(s, 204, "DELETE", "/v1/me", s.LogIn(c.t, "ben@example.com").AccessToken, nil)

	// What the service says it reads is what the document says.
	token = s.SignUp(c.t, "cat@example.com")
	receiver := addReceiver(c.t, s)
	for _, o := range operations(c.doc) {
		if o.RequestBody == nil || o.RequestBody.Value.Content["application/json"] == nil {
			continue
		}
		access := token.AccessToken
		if o.path == "/v1/logout" {
			access = "" // else the body is not read
		}
		if strings.HasPrefix(o.path, "/v1/ssf/") {
			access = receiver.token
		}
		r := c.json(s, 400, o.method, strings.Replace(o.path, "{provider}", "corp", 1), access, object{"no such field": 1})
		var body struct{ Detail string }
		r.JSON(c.t, &body)
		_, list, _ := strings.Cut(body.Detail, "the fields are ")
		got, want := strings.Split(list, ", "), slices.Sorted(
			maps.Keys(o.RequestBody.Value.Content["application/json"].Schema.Value.Properties))
		if slices.Sort(got); !slices.Equal(got, want) && (list != "" || len(want) > 0) {
			c.t.Errorf("%s reads %v, documented are %v", o, got, want)
		}
	}
	for _, path := range []string{"DELETE /v1/sessions", "GET /v1/forward-auth"} {
		method, path, _ := strings.Cut(path, " ")
		r := c.json(s, 400, method, path+"?no-such-parameter=1", token.AccessToken, nil)
		var body struct{ Detail string }
		r.JSON(c.t, &body)
		_, list, _ := strings.Cut(body.Detail, "the parameters are ")
		var want []string
		for _, p := range c.doc.Paths.Value(path).GetOperation(method).Parameters {
			want = append(want, p.Value.Name)
		}
		if got := strings.Split(list, ", "); !slices.Equal(got, want) {
			c.t.Errorf("%s %s reads %v, documented are %v", method, path, got, want)
		}
	}
}

func (c *checked) protocol(s *servicetest.Service) {
	c.t.Helper()
	p := signUp(c.t, s)
	confidential := basic("backend")
	c.form(s, 200, "/oauth2/token", header("Idempotency-Key", "6ab8f1a0c2f14c0c"), "grant_type", "refresh_token", "refresh_token",
		p.RefreshToken, "client_id", "default", "resource", s.Config.Issuer)
	c.form(s, 200, "/oauth2/token", confidential, "grant_type", "client_credentials", "scope", "reports:read")
	c.form(s, 400, "/oauth2/token", nil, "grant_type", "refresh_token", "refresh_token", "hsr_nonsense")
	c.form(s, 400, "/oauth2/token", nil, "grant_type", "password")
	c.form(s, 400, "/oauth2/token", confidential, "grant_type", "refresh_token")
	c.form(s, 400, "/oauth2/token", confidential, "grant_type", "client_credentials", "scope", "everything")
	c.form(s, 400, "/oauth2/token", confidential, "grant_type", "client_credentials", "resource", "https://elsewhere.example")
	c.form(s, 401, "/oauth2/token", nil, "grant_type", "refresh_token", "client_id", "nobody")

	c.form(s, 200, "/oauth2/introspect", confidential, "token", "nonsense")
	c.form(s, 200, "/oauth2/introspect", confidential, "token", p.AccessToken)
	c.form(s, 200, "/oauth2/introspect", confidential, "token", s.LogIn(c.t, p.email).RefreshToken)
	c.form(s, 400, "/oauth2/introspect", confidential)
	c.form(s, 401, "/oauth2/introspect", nil, "token", p.AccessToken)

	c.form(s, 400, "/oauth2/revoke", confidential, "token", p.AccessToken)
	c.form(s, 401, "/oauth2/revoke", nil, "token", p.AccessToken, "client_id", "nobody")
	c.form(s, 200, "/oauth2/revoke", nil, "token", p.AccessToken, "client_id", "default", "token_type_hint", "access_token")

	request := []string{"client_id", "app", "response_type", "code", "redirect_uri", appRedirect, "scope", "openid",
		"code_challenge", challenge(), "code_challenge_method", "S256"}
	c.form(s, 201, "/oauth2/par", nil, request...)
	c.form(s, 400, "/oauth2/par", nil, append(request, "request", "a.b.c")...)
	c.form(s, 400, "/oauth2/par", nil, "client_id", "app", "redirect_uri", appRedirect, "response_type", "token")
	c.form(s, 401, "/oauth2/par", nil, "client_id", "backend")
}

// cookies are the requests of a page whose refresh token is in a cookie. It returns what the page sends after another login.
func (c *checked) cookies(s *servicetest.Service) http.Header {
	c.t.Helper()
	page := header("Origin", s.Config.Issuer, "X-Handstamp-Client", "pages")
	json := func(h http.Header) http.Header { return extended(h, "Content-Type", "application/json") }
	body := `{"email":"cookie@example.com","password":"` + servicetest.Password + `","client_id":"pages"}`
	c.exchange(s, 403, "POST", "/v1/signup", json(nil), body)
	r := c.exchange(s, 201, "POST", "/v1/signup", json(page), body)
	c.exchange(s, 403, "POST", "/v1/login", json(nil), body)
	c.exchange(s, 200, "POST", "/v1/login", json(page), body)
	cookie := func(r servicetest.Response) http.Header {
		set := setRefresh(c.t, r)
		return extended(page, "Cookie", set.Name+"="+set.Value)
	}
	refresh := []string{"grant_type", "refresh_token", "client_id", "pages"}
	c.form(s, 200, "/v1/sessions/fork", cookie(r), "client_id", "pages", "holder", "worker")
	c.form(s, 400, "/v1/sessions/fork", cookie(r), "client_id", "pages")
	c.form(s, 401, "/v1/sessions/fork", page, "client_id", "pages", "holder", "worker")
	c.form(s, 403, "/v1/sessions/fork", nil, "client_id", "pages", "holder", "worker")
	c.exchange(s, 200, "GET", "/v1/session", cookie(r), "")
	c.exchange(s, 204, "GET", "/v1/session", page, "")
	c.exchange(s, 400, "GET", "/v1/session", header("X-Handstamp-Client", "default"), "")
	c.exchange(s, 403, "GET", "/v1/session", nil, "")
	c.form(s, 403, "/oauth2/token", nil, refresh...)
	r = c.form(s, 200, "/oauth2/token", cookie(r), refresh...)
	c.form(s, 403, "/oauth2/revoke", nil, "client_id", "pages")
	c.exchange(s, 403, "POST", "/v1/logout", header("X-Handstamp-Client", "pages"), "")
	c.exchange(s, 400, "POST", "/v1/logout", header("X-Handstamp-Client", "nobody"), "")
	c.exchange(s, 204, "POST", "/v1/logout", cookie(r), "")
	c.form(s, 200, "/oauth2/revoke", cookie(r), "client_id", "pages")
	return cookie(c.exchange(s, 200, "POST", "/v1/login", json(page), body))
}

func (c *checked) blocklist(s *servicetest.Service) {
	c.t.Helper()
	c.exchange(s, 200, "GET", "/v1/blocklist", header("Accept", "application/blocklist+jwt"), "")
	var feed struct{ Cursor string }
	c.exchange(s, 200, "GET", "/v1/blocklist", nil, "").JSON(c.t, &feed)
	c.exchange(s, 200, "GET", "/v1/blocklist?after="+url.QueryEscape(feed.Cursor), nil, "")
	c.exchange(s, 410, "GET", "/v1/blocklist?after=nonsense", nil, "")
	c.exchange(s, 200, "GET", "/v1/blocklist/stream", header("Last-Event-ID", "nonsense"), "")
}

// identities are as far as one gets without a provider that answers.
func (c *checked) identities(s *servicetest.Service) {
	c.t.Helper()
	p := signUp(c.t, s)
	app := c.json(s, 200, "POST", "/v1/login", "", object{
		"email":     p.email,
		"password":  servicetest.Password,
		"client_id": "app",
	}).Tokens(c.t).AccessToken
	c.json(s, 200, "GET", "/v1/identities", app, nil)
	c.json(s, 200, "POST", "/v1/identities/corp", app, object{"return_to": appRedirect})
	c.json(s, 400, "POST", "/v1/identities/corp", app, object{"return_to": "https://evil.example"})
	c.json(s, 404, "POST", "/v1/identities/nothing", app, object{"return_to": appRedirect})
	c.json(s, 404, "DELETE", "/v1/identities/corp", app, nil)
	c.json(s, 404, "GET", "/v1/identities/corp/token", app, nil)
	c.json(s, 400, "POST", "/v1/login/corp/id-token", "", object{"id_token": "a.b.c"})
	c.json(s, 404, "POST", "/v1/login/nothing/id-token", "", object{"id_token": "a.b.c", "nonce": "x"})
	c.json(s, 502, "POST", "/v1/login/corp/id-token", "", object{"id_token": "a.b.c", "nonce": "x"})
	c.exchange(s, 400, "GET", "/oauth2/identities?request=nonsense", nil, "")
	for _, path := range []string{authorizeURL(s, map[string]string{"provider": "corp"})} {
		if got := c.browse(s).open(path); got.status != 502 {
			c.t.Errorf("%s: %d, want 502", path, got.status)
		}
		target, err := url.Parse(path)
		if err != nil {
			c.t.Fatal(err)
		}
		c.exchange(s, 502, "POST", target.Path, header("Content-Type", "application/x-www-form-urlencoded"), target.RawQuery)
	}
}

func (c *checked) gateways(s *servicetest.Service) {
	c.t.Helper()
	p := signUp(c.t, s)
	c.json(s, 200, "GET", "/v1/forward-auth?audience="+s.Config.Issuer, p.AccessToken, nil)
	c.json(s, 403, "GET", "/v1/forward-auth?role=admin", p.AccessToken, nil)
	c.json(s, 400, "GET", "/v1/forward-auth?aud=x", p.AccessToken, nil)
	asked := header("Accept", "text/html", "X-Forwarded-Method", "GET", "X-Forwarded-Proto", "https",
		"X-Forwarded-Host", "app.x.test", "X-Forwarded-Uri", "/")
	c.exchange(s, 302, "GET", "/v1/forward-auth?client_id=app", asked, "")
	c.exchange(s, 401, "GET", "/v1/forward-auth?client_id=app&redirect_status=401", asked, "")
	asked.Set("X-Forwarded-Uri", oauth.GatewayCallback)
	c.exchange(s, 403, "GET", "/v1/forward-auth?client_id=app", asked, "")
}

// browse is a browser whose every step is checked.
func (c *checked) browse(s *servicetest.Service) *browser {
	b := newBrowser(c.t, s)
	b.client.Transport = c
	return b
}

func (c *checked) pages(s *servicetest.Service) {
	t := c.t
	t.Helper()
	want := func(p page, status int) page {
		t.Helper()
		if p.status != status {
			t.Errorf("%d, want %d: %s", p.status, status, p.body)
		}
		return p
	}
	post := map[string]string{"Origin": s.URL}
	b := c.browse(s)
	b.open(authorizeURL(s, nil)).form(t, "login")
	if asset := regexpAsset.FindString(b.open(authorizeURL(s, nil)).body); asset != "" {
		c.exchange(s, 200, "GET", asset, nil, "")
	} else {
		t.Error("the page has no asset")
	}
	c.exchange(s, 404, "GET", "/assets/nothing.css", nil, "")

	// Signing up, failing and succeeding to log in.
	_, state := b.open(authorizeURL(s, nil)).form(t, "login")
	request := url.Values{"request": state["request"]}
	want(b.open(s.URL+"/oauth2/login?"+request.Encode()), 200)
	signup := want(b.open(s.URL+"/oauth2/signup?"+request.Encode()), 200)
	want(b.submit(signup, "signup", map[string]string{"email": "dan@example.com", "password": "short"}), 400)
	code := b.submit(signup, "signup", map[string]string{
		"email":    "dan@example.com",
		"password": servicetest.Password,
		"name":     "Dan",
	}).code(t)
	want(c.browse(s).open(s.URL+"/oauth2/login?request=nonsense"), 400)
	want(c.browse(s).open(s.URL+"/oauth2/signup?request=nonsense"), 400)
	for _, path := range []string{"/oauth2/login", "/oauth2/signup", "/oauth2/continue", "/oauth2/consent", "/oauth2/mfa",
		"/oauth2/logout/confirm"} {
		want(b.post(path, url.Values{"request": {"nonsense"}, "decision": {"allow"}}, post), 400)
		want(b.post(path, request, map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}), 403)
	}
	again := c.browse(s)
	p := again.open(authorizeURL(s, map[string]string{"prompt": "create"}))
	want(again.submit(p, "signup", map[string]string{"email": "dan@example.com", "password": servicetest.Password}), 409)
	p = again.open(authorizeURL(s, nil))
	want(again.submit(p, "login", map[string]string{"email": "dan@example.com", "password": "not the password"}), 401)
	again.logIn(p, "dan@example.com").code(t)

	// The code, and what it gives.
	tokens := c.form(s, 200, "/oauth2/token", nil, "grant_type", "authorization_code", "client_id", "app", "code", code,
		"redirect_uri", appRedirect, "code_verifier", verifierText).Tokens(t)
	if tokens.IDToken == "" {
		t.Error("no ID token")
	}
	for _, method := range []string{"GET", "POST"} {
		c.exchange(s, 200, method, "/oauth2/userinfo", bearer(tokens.AccessToken), "")
		c.exchange(s, 400, method, "/oauth2/userinfo", header("Authorization", "Bearer a b"), "")
		c.exchange(s, 401, method, "/oauth2/userinfo", nil, "")
		c.exchange(s, 401, method, "/oauth2/userinfo", bearer("no.access.token"), "")
		c.exchange(s, 403, method, "/oauth2/userinfo", bearer(s.LogIn(t, "dan@example.com").AccessToken), "")
	}

	// Account choice, consent, and every way in which the request itself fails.
	want(b.submit(want(b.open(authorizeURL(s, map[string]string{"prompt": "select_account"})), 200), "continue", nil), 303).code(t)
	consent := map[string]string{"client_id": "other"}
	for form, fields := range map[string]map[string]string{"login": {"email": "dan@example.com"}, "signup": {"email": newEmail()}} {
		fields["password"] = servicetest.Password
		fresh, prompt := c.browse(s), map[string]string{"login": "login", "signup": "create"}
		want(fresh.submit(fresh.open(authorizeURL(s, map[string]string{"client_id": "other", "prompt": prompt[form]})), form,
			fields), 200)
	}
	b.submit(want(b.open(authorizeURL(s, consent)), 200), "consent", map[string]string{"decision": "deny"})
	code = b.submit(want(b.open(authorizeURL(s, consent)), 200), "consent", map[string]string{"decision": "allow"}).code(t)
	third := c.form(s, 200, "/oauth2/token", nil, "grant_type", "authorization_code", "client_id", "other", "code", code,
		"redirect_uri", appRedirect, "code_verifier", verifierText).Tokens(t)
	for _, o := range operations(c.doc) {
		if o.Tags[0] == "Account" && o.Responses.Value("403") != nil && len(*o.Security) > 0 &&
			!slices.Contains([]string{"logout", "forkSession"}, o.OperationID) {
			c.exchange(s, 403, o.method, strings.NewReplacer("{sid}", sid(t, third.AccessToken), "{provider}", "corp").Replace(o.path),
				bearer(third.AccessToken), "")
		}
	}
	p = b.open(authorizeURL(s, map[string]string{"prompt": "consent", "client_id": "other", "response_mode": "form_post"}))
	want(b.submit(p, "consent", map[string]string{"decision": "allow"}), 200)
	p = b.open(authorizeURL(s, map[string]string{"prompt": "select_account consent", "client_id": "other"}))
	want(b.submit(p, "continue", nil), 200)
	for _, method := range []string{"GET", "POST"} {
		authorize := func(status int, changes map[string]string) {
			t.Helper()
			target, err := url.Parse(authorizeURL(s, changes))
			if err != nil {
				t.Fatal(err)
			}
			if method == "GET" {
				c.exchange(s, status, method, target.RequestURI(), nil, "")
				return
			}
			c.exchange(s, status, method, target.Path, header("Content-Type", "application/x-www-form-urlencoded"), target.RawQuery)
		}
		authorize(200, nil)
		authorize(303, map[string]string{"prompt": "none"})
		authorize(303, map[string]string{"request": "a.b.c"})
		authorize(400, map[string]string{"client_id": "nobody"})
		authorize(400, map[string]string{"redirect_uri": "https://evil.example"})
		authorize(404, map[string]string{"provider": "nothing"})
	}

	// Logging out.
	c.browseLogout(s, b, tokens.IDToken)
}

func (c *checked) browseLogout(s *servicetest.Service, b *browser, idToken string) {
	t := c.t
	t.Helper()
	logout := func(status int, pairs ...string) {
		t.Helper()
		c.form(s, status, "/oauth2/logout", nil, pairs...)
		values := url.Values{}
		for i := 0; i+1 < len(pairs); i += 2 {
			values.Set(pairs[i], pairs[i+1])
		}
		c.exchange(s, status, "GET", "/oauth2/logout?"+values.Encode(), nil, "")
	}
	b.submit(b.open(s.URL+"/oauth2/logout?client_id=app"), "logout", nil)
	again := c.browse(s)
	again.logIn(again.open(authorizeURL(s, nil)), "dan@example.com")
	again.submit(again.open(s.URL+"/oauth2/logout?client_id=app&post_logout_redirect_uri="+url.QueryEscape(appRedirect)),
		"logout", nil)
	logout(200)
	logout(303, "id_token_hint", idToken, "post_logout_redirect_uri", appRedirect, "state", "x")
	logout(400, "client_id", "app", "post_logout_redirect_uri", "https://evil.example")
	logout(400, "client_id", "nobody")
}

// limits are those of every route.
func (c *checked) limits(s *servicetest.Service) {
	c.t.Helper()
	large, p, receiver := strings.Repeat("x", 64<<10+1), signUp(c.t, s), addReceiver(c.t, s)
	for _, o := range operations(c.doc) {
		path := strings.NewReplacer("{sid}", "ses_", "{id}", "corp", "{provider}", "corp", "{name}", "x.css").Replace(o.path)
		if o.method == http.MethodGet { // has no body
			continue
		}
		c.exchange(s, 413, o.method, path, header("Expect", "100-continue"), large) // answered before the body is sent
		c.exchange(s, 415, o.method, path, header("Content-Encoding", "gzip"), "x")
		if o.RequestBody != nil && o.path != "/v1/logout" {
			access := p.AccessToken
			if strings.HasPrefix(path, "/v1/ssf/") {
				access = receiver.token
			}
			c.exchange(s, 415, o.method, path, bearer(access, "Content-Type", "text/plain", "Origin", s.URL), "x")
		}
	}
}

// closed is a service that lets nobody sign up.
func (c *checked) closed(db servicetest.Database, open *servicetest.Service) {
	c.t.Helper()
	s := servicetest.Start(c.t, db, sameIssuer(open), func(cfg *service.Config) { cfg.Signup = false })
	c.withoutMail(db)
	c.json(s, 403, "POST", "/v1/signup", "", object{"email": "eve@example.com", "password": servicetest.Password})
	target, err := url.Parse(authorizeURL(s, map[string]string{"prompt": "create"}))
	if err != nil {
		c.t.Fatal(err)
	}
	c.exchange(s, 403, "GET", target.RequestURI(), nil, "")
	c.exchange(s, 403, "POST", target.Path, header("Content-Type", "application/x-www-form-urlencoded"), target.RawQuery)
	b := c.browse(s)
	_, state := b.open(authorizeURL(s, nil)).form(c.t, "login")
	b.open(s.URL + "/oauth2/signup?" + url.Values{"request": state["request"]}.Encode())
}

// throttled is a service that has had enough.
func (c *checked) throttled(db servicetest.Database) {
	c.t.Helper()
	s := servicetest.Start(c.t, db, func(cfg *service.Config) {
		cfg.LoginAttempts, cfg.MailIPLimit, cfg.MailIPEvery = 1, 1, time.Hour
		cfg.SignupIPLimit, cfg.SignupIPEvery, cfg.FeedStreams = 1, time.Hour, 1
		cfg.Providers = []upstream.Config{{ID: "github", Type: upstream.GitHub, ClientID: "c", ClientSecret: "s"}}
	})
	begin := authorizeURL(s, map[string]string{"provider": "github"})
	for range 5000 { // of which more are allowed, the longer they take
		if s.Get(c.t, strings.TrimPrefix(begin, s.URL), "").Status != http.StatusSeeOther {
			break
		}
	}
	b := c.browse(s)
	if got := b.open(begin); got.status != 429 {
		c.t.Errorf("one more login at a provider: %d, want 429", got.status)
	}
	if got := b.post("/oauth2/authorize", mustQuery(c.t, begin), nil); got.status != 429 {
		c.t.Errorf("one more login at a provider, by post: %d, want 429", got.status)
	}
	mustOpenStream(c.t, s, getFeed(c.t, s, "").Cursor, "").mustNext(c.t, "retry")
	c.exchange(s, 503, "GET", "/v1/blocklist/stream", nil, "")
	c.recoveryThrottled(s)
	p := signUp(c.t, s)
	c.json(s, 429, "POST", "/v1/signup", "", object{"email": newEmail(), "password": servicetest.Password})
	wrong := object{"email": p.email, "password": "not the password"}
	c.json(s, 401, "POST", "/v1/login", "", wrong)
	c.json(s, 429, "POST", "/v1/login", "", wrong)
	c.json(s, 429, "POST", "/v1/password/change", p.AccessToken, object{
		"current_password": "not the password",
		"new_password":     "copper-heron-51",
	})
	b = c.browse(s)
	if got := b.submit(b.open(authorizeURL(s, nil)), "login",
		map[string]string{"email": p.email, "password": "not the password"}); got.status != 429 {
		c.t.Errorf("login form: %d, want 429", got.status)
	}
	if got := b.submit(b.open(authorizeURL(s, map[string]string{"prompt": "create"})), "signup",
		map[string]string{"email": newEmail(), "name": "", "password": servicetest.Password}); got.status != 429 {
		c.t.Errorf("sign-up form: %d, want 429", got.status)
	}
}

// unavailable is a service whose database is gone.
func (c *checked) unavailable(s *servicetest.Service, withCookie http.Header) {
	c.t.Helper()
	p := signUp(c.t, s)
	list := statusOf(c.t, p.AccessToken).path(s)
	receiver := addReceiver(c.t, s)
	c.exchange(s, 200, "GET", list, nil, "")
	b := c.browse(s)
	_, state := b.open(authorizeURL(s, nil)).form(c.t, "login")
	user := c.browse(s)
	user.logIn(user.open(authorizeURL(s, nil)), p.email)
	_, choice := user.open(authorizeURL(s, map[string]string{"prompt": "select_account"})).form(c.t, "continue")
	_, leave := user.open(s.URL+"/oauth2/logout").form(c.t, "logout")
	waiting := c.waits(s)
	if err := s.Store.Close(); err != nil {
		c.t.Fatal(err)
	}
	servicetest.Eventually(c.t, "the replica notices", func() bool { return s.Get(c.t, "/readyz", "").Status == 503 })
	c.exchange(s, 503, "GET", "/readyz", nil, "")
	c.exchange(s, 200, "GET", "/.well-known/jwks.json", nil, "")
	servicetest.Eventually(c.t, "the blocklist is stale", func() bool { return s.Get(c.t, "/v1/blocklist", "").Status == 503 })
	for _, path := range []string{"/v1/blocklist", "/v1/status-lists", list} {
		c.exchange(s, 503, "GET", path, nil, "")
	}
	c.signalsUnavailable(s, receiver.token)
	waiting.unavailable(s, user, choice)
	for _, path := range []string{"/v1/signup", "/v1/login"} {
		c.json(s, 503, "POST", path, "", object{"email": newEmail(), "password": servicetest.Password})
	}
	c.json(s, 503, "POST", "/v1/logout", "", object{"refresh_token": p.RefreshToken})
	for _, route := range bearerRoutes() {
		c.exchange(s, 503, route.Method, filled(route.Path, sid(c.t, p.AccessToken)), bearer(p.AccessToken), "")
	}
	c.form(s, 503, "/oauth2/token", nil, "grant_type", "refresh_token", "refresh_token", p.RefreshToken)
	c.form(s, 503, "/oauth2/revoke", nil, "token", p.RefreshToken)
	c.exchange(s, 503, "GET", "/v1/session", withCookie, "")
	c.form(s, 503, "/v1/sessions/fork", withCookie, "client_id", "pages", "holder", "worker")
	c.form(s, 503, "/oauth2/introspect", basic("backend"), "token", p.RefreshToken)
	c.form(s, 503, "/oauth2/par", nil, "client_id", "app", "response_type", "code", "redirect_uri", appRedirect, "code_challenge",
		challenge(), "code_challenge_method", "S256")

	post := map[string]string{"Origin": s.URL}
	down := func(p page) {
		c.t.Helper()
		if p.status != 503 {
			c.t.Errorf("%d, want 503: %s", p.status, p.body)
		}
	}
	login := url.Values{"request": state["request"], "email": {"dan@example.com"}, "password": {servicetest.Password}}
	down(user.open(authorizeURL(s, nil)))
	target, err := url.Parse(authorizeURL(s, nil))
	if err != nil {
		c.t.Fatal(err)
	}
	down(user.post(target.Path, target.Query(), post))
	down(user.open(s.URL + "/oauth2/logout"))
	down(user.post("/oauth2/logout", nil, post))
	down(user.post("/oauth2/logout/confirm", leave, post))
	down(b.post("/oauth2/login", login, post))
	down(b.post("/oauth2/signup", login, post))
	down(user.post("/oauth2/continue", choice, post))
	down(user.post("/oauth2/consent", url.Values{"request": choice["request"], "decision": {"allow"}}, post))
	down(user.open(s.URL + "/oauth2/login?" + url.Values{"request": choice["request"]}.Encode()))
	down(user.open(s.URL + "/oauth2/signup?" + url.Values{"request": choice["request"]}.Encode()))
}

func mustQuery(t *testing.T, address string) url.Values {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query()
}
