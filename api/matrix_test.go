package api_test

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/handstamp/handstamp/api"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/token"
)

// callers are those who may ask for something of a user, in the order of the matrix: the user, others, and what is no
// access token of anybody.
func callers() []string {
	return []string{"nobody", "user", "another user", "admin", "third party", "service", "disabled user", "ended session",
		"ID token", "refresh token"}
}

// Rows that many routes have in common.
const (
	// Routes of the first-party API: whoever has a user's own token.
	ownRoute = "401 200 200 200 403 401 401 401 401 401"
	ownWrite = "401 204 204 204 403 401 401 401 401 401"
	// Routes for which a Bearer token means nothing.
	openRoute = "200 200 200 200 200 200 200 200 200 200"
	// Hosted pages opened without the state of a request.
	pageRoute = "400 400 400 400 400 400 400 400 400 400"
	// Protocol endpoints, where the Authorization header is for the client's credentials.
	clientRoute = "401 401 401 401 401 401 401 401 401 401"
	// Providers that the service does not know.
	receiverRoute   = "401 403 403 403 403 403 401 401 401 401"
	unknownProvider = "404 404 404 404 404 404 404 404 404 404"
	ownProvider     = "401 404 404 404 403 401 401 401 401 401"
)

// matrix says what each caller gets of each route. "another user" asks for what is the user's where the route has a place for it.
func matrix() map[string]string {
	return map[string]string{
		"GET /.well-known/jwks.json":                  openRoute,
		"GET /.well-known/oauth-authorization-server": openRoute,
		"GET /.well-known/openid-configuration":       openRoute,
		"GET /openapi.yaml":                           openRoute,
		"GET /":                                       openRoute,
		"GET /favicon.ico":                            "302 302 302 302 302 302 302 302 302 302",
		"GET /.well-known/change-password":            "302 302 302 302 302 302 302 302 302 302",
		"GET /healthz":                                openRoute,
		"GET /readyz":                                 openRoute,
		"GET /v1/blocklist":                           openRoute,
		"GET /v1/blocklist/stream":                    openRoute,
		"GET /v1/status-lists":                        unknownProvider, // off by default
		"GET /v1/status-lists/:client/:number":        unknownProvider,
		"GET /.well-known/ssf-configuration":          openRoute,
		"GET /assets/*":                               unknownProvider,

		"POST /oauth2/token":      "400 401 401 401 401 401 401 401 401 401",
		"POST /oauth2/revoke":     "400 401 401 401 401 401 401 401 401 401",
		"POST /oauth2/par":        "400 401 401 401 401 401 401 401 401 401",
		"POST /oauth2/introspect": clientRoute,

		"GET /oauth2/authorize":       pageRoute,
		"POST /oauth2/authorize":      pageRoute,
		"GET /oauth2/login":           "303 303 303 303 303 303 303 303 303 303",
		"POST /oauth2/login":          pageRoute,
		"GET /oauth2/signup":          "303 303 303 303 303 303 303 303 303 303",
		"POST /oauth2/signup":         pageRoute,
		"GET /oauth2/forgot":          openRoute,
		"POST /oauth2/forgot":         pageRoute,
		"GET /oauth2/verify":          pageRoute,
		"POST /oauth2/verify":         pageRoute,
		"GET /oauth2/reset":           pageRoute,
		"POST /oauth2/reset":          pageRoute,
		"GET /oauth2/mfa":             "303 303 303 303 303 303 303 303 303 303",
		"POST /oauth2/mfa":            pageRoute,
		"POST /oauth2/continue":       pageRoute,
		"POST /oauth2/consent":        pageRoute,
		"GET /oauth2/identities":      pageRoute,
		"GET /oauth2/provider/:id":    pageRoute,
		"GET /oauth2/callback/:id":    unknownProvider,
		"POST /oauth2/callback/:id":   "404 400 400 400 400 400 400 400 400 400",
		"GET /oauth2/logout":          openRoute,
		"POST /oauth2/logout":         "200 400 400 400 400 400 400 400 400 400",
		"POST /oauth2/logout/confirm": pageRoute,

		// Any client's token that its user has given the scope.
		"GET /oauth2/userinfo":  "401 403 403 403 200 401 401 401 401 401",
		"POST /oauth2/userinfo": "401 403 403 403 200 401 401 401 401 401",
		// A gateway may let services and third parties pass to what is behind it.
		"GET /v1/forward-auth": "401 200 200 200 200 200 401 401 401 401",
		// Who holds a token may end its session.
		"POST /v1/logout": "401 204 204 204 204 401 204 204 401 401",

		// Clients that the operator has given the scope.
		"GET /v1/ssf/streams":          receiverRoute,
		"POST /v1/ssf/streams":         receiverRoute,
		"PATCH /v1/ssf/streams":        receiverRoute,
		"PUT /v1/ssf/streams":          receiverRoute,
		"DELETE /v1/ssf/streams":       receiverRoute,
		"GET /v1/ssf/status":           receiverRoute,
		"POST /v1/ssf/status":          receiverRoute,
		"POST /v1/ssf/subjects/add":    receiverRoute,
		"POST /v1/ssf/subjects/remove": receiverRoute,
		"POST /v1/ssf/verify":          receiverRoute,
		"POST /v1/ssf/poll":            receiverRoute,

		"POST /v1/sessions/fork": "415 415 415 415 415 415 415 415 415 415", // a form
		"GET /v1/session":        "403 403 403 403 403 403 403 403 403 403", // no page

		"POST /v1/password/forgot": pageRoute,
		"POST /v1/password/reset":  pageRoute,
		"POST /v1/email/verify":    pageRoute,

		"POST /v1/email/verify/resend": "401 202 202 202 403 401 401 401 401 401",

		"POST /v1/signup":                   pageRoute,
		"POST /v1/login":                    pageRoute,
		"POST /v1/login/:provider/id-token": pageRoute,
		"POST /v1/login/mfa":                pageRoute,

		"GET /v1/me":                         ownRoute,
		"PATCH /v1/me":                       ownRoute,
		"DELETE /v1/me":                      ownWrite,
		"POST /v1/password/change":           ownRoute,
		"POST /v1/password/set":              "401 409 409 409 403 401 401 401 401 401",
		"GET /v1/sessions":                   ownRoute,
		"DELETE /v1/sessions":                ownWrite,
		"DELETE /v1/sessions/:sid":           "401 204 404 404 403 401 401 401 401 401",
		"GET /v1/factors":                    ownRoute,
		"POST /v1/factors/totp":              "401 201 201 201 403 401 401 401 401 401",
		"POST /v1/factors/totp/:id/confirm":  ownProvider,
		"POST /v1/factors/recovery-codes":    ownProvider,
		"PATCH /v1/factors/:id":              ownProvider,
		"DELETE /v1/factors/:id":             ownProvider,
		"GET /v1/identities":                 ownRoute,
		"POST /v1/identities/:provider":      "401 400 400 400 403 401 401 401 401 401",
		"DELETE /v1/identities/:provider":    ownProvider,
		"GET /v1/identities/:provider/token": ownProvider,
	}
}

// ending are the routes after which a user or session is no longer what it was.
func ending() []string {
	return []string{"DELETE /v1/me", "POST /v1/password/change", "DELETE /v1/sessions", "DELETE /v1/sessions/:sid",
		"POST /v1/logout"}
}

// bodies of the routes that need one to get anywhere; others get an empty one.
func bodies() map[string]string {
	return map[string]string{
		"PATCH /v1/me":             `{"name":"Ann"}`,
		"POST /v1/password/set":    `{"password":"amber-heron-47"}`,
		"POST /v1/password/change": `{"current_password":"` + servicetest.Password + `","new_password":"amber-heron-47"}`,
		"PATCH /v1/factors/:id":    `{"name":"Phone"}`,

		"POST /v1/factors/totp/:id/confirm": `{"code":"123456"}`,
	}
}

// bearerRoutes are the routes that only somebody with an access token gets something from.
func bearerRoutes() []api.Route {
	var out []api.Route
	for name, row := range matrix() {
		method, path, _ := strings.Cut(name, " ")
		if strings.HasPrefix(row, "401 ") && row != clientRoute && row != receiverRoute {
			out = append(out, api.Route{Method: method, Path: path})
		}
	}
	return out
}

// filled puts values where a path has a place for them.
func filled(path, id string) string {
	return strings.NewReplacer(":sid", id, ":id", "nowhere", ":provider", "nowhere", "*", "nowhere").Replace(path)
}

func TestAPI12_EveryRouteAndCaller(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		expected := matrix()
		p := signUp(t, w.Service)
		credentials := map[string]string{}
		for _, caller := range callers() {
			credentials[caller] = credentialOf(t, w, p, caller)
		}
		for _, route := range w.API.Answered() {
			name := route.Method + " " + route.Path
			switch route.Method {
			case http.MethodHead, http.MethodOptions, "echo_route_not_found":
				continue
			}
			row, ok := expected[name]
			if !ok {
				t.Errorf("%s is a new route: say in the matrix who gets what", name)
				continue
			}
			delete(expected, name)
			for i, caller := range callers() {
				about, credential := p, credentials[caller]
				if slices.Contains(ending(), name) {
					about = signUp(t, w.Service)
					credential = credentialOf(t, w, about, caller)
				}
				r := ask(t, w.Service, route, about, credential)
				if got := strconv.Itoa(r.Status); got != strings.Fields(row)[i] {
					t.Errorf("%s as %s: %s %s, want %s", name, caller, got, r.Body, strings.Fields(row)[i])
				}
				if r.Status == http.StatusUnauthorized && r.Header.Get("Www-Authenticate") == "" {
					t.Errorf("%s as %s: a 401 without a challenge (RFC 9110, section 15.5.2)", name, caller)
				}
				if r.Status >= http.StatusBadRequest && slices.Contains(ending(), name) {
					want(t, name+" as "+caller+" has an effect", w.Refresh(t, about.RefreshToken), http.StatusOK, "")
				}
			}
		}
		for name := range expected {
			t.Errorf("%s is in the matrix, and is no route", name)
		}
	})
}

// ask asks for a route that is about a user.
func ask(t *testing.T, s *servicetest.Service, route api.Route, about person, credential string) servicetest.Response {
	t.Helper()
	h, body := bearer(credential), bodies()[route.Method+" "+route.Path]
	switch {
	case route.Method == http.MethodGet || route.Method == http.MethodDelete || route.Path == "/v1/logout":
	case strings.HasPrefix(route.Path, "/oauth2/"):
		h.Set("Content-Type", "application/x-www-form-urlencoded")
	default:
		h.Set("Content-Type", "application/json")
		if body == "" {
			body = "{}"
		}
	}
	return s.Do(t, route.Method, filled(route.Path, sid(t, about.AccessToken)), h, strings.NewReader(body))
}

// credentialOf is what a caller shows. Where it is a user's, p is the user, but for another user and an admin, who want
// something of p.
func credentialOf(t *testing.T, w *world, p person, caller string) string {
	t.Helper()
	ctx := t.Context()
	switch caller {
	case "nobody":
		return ""
	case "user":
		return p.AccessToken
	case "another user":
		return signUp(t, w.Service).AccessToken
	case "admin":
		q := signUp(t, w.Service)
		if err := w.Sessions.SetRoles(ctx, q.id, []string{"admin"}, byOperator()); err != nil {
			t.Fatal(err)
		}
		return w.Refresh(t, q.RefreshToken).Tokens(t).AccessToken
	case "third party":
		return sessionAt(t, w.Service, p, "third", "openid")
	case "service":
		return serviceToken(t, w.Service, "backend")
	case "disabled user", "ended session":
		q := signUp(t, w.Service)
		end := func() error { return w.Sessions.DisableUser(ctx, q.id, byOperator()) }
		if caller == "ended session" {
			end = func() error {
				_, err := w.Sessions.EndAll(ctx, q.id, session.ID{}, session.ReasonRevoked, byOperator())
				return err
			}
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if err := w.Blocklist.Sync(ctx); err != nil { // this replica would hear of it within a second
			t.Fatal(err)
		}
		return q.AccessToken
	case "ID token":
		claims := servicetest.Claims(t, p.AccessToken)
		maps.Copy(claims, map[string]any{"aud": oauth.DefaultClientID, "nonce": "n"})
		raw, err := w.Minter.Sign(ctx, token.TypeID, "", claims)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	case "refresh token":
		return p.RefreshToken
	}
	t.Fatalf("who is %s?", caller)
	return ""
}

// sessionAt starts a session of a user at a client as a redeemed code does, and returns an access token of it that is
// meant for the service itself.
func sessionAt(t *testing.T, s *servicetest.Service, p person, clientID, scope string) string {
	t.Helper()
	u, err := s.Store.UserByID(t.Context(), p.id)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := s.Sessions.Start(t.Context(), session.Login{
		User:     u,
		ClientID: clientID,
		Scope:    scope,
		Audience: s.Config.Audience,
	})
	if err != nil {
		t.Fatal(err)
	}
	minted, err := s.Minter.Mint(t.Context(), token.Access{
		Subject:   u.ID,
		Audience:  issued.Audience,
		ClientID:  clientID,
		Scope:     scope,
		SessionID: issued.ID.String(),
		AuthTime:  issued.AuthTime,
		Lifetime:  s.Config.AccessTokenLifetime,
	})
	if err != nil {
		t.Fatal(err)
	}
	return minted.Raw
}

// What the router answers besides the table: HEAD as GET without a body, OPTIONS to browsers that ask before a request,
// nothing else.
func TestAPI09_Methods(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		methods := map[string][]string{}
		for _, r := range w.API.Answered() {
			methods[r.Path] = append(methods[r.Path], r.Method)
		}
		for path, allowed := range methods {
			for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
				http.MethodDelete, http.MethodOptions, http.MethodTrace, "PROPFIND", "BREW"} {
				if slices.Contains(allowed, method) && method != http.MethodHead && method != http.MethodOptions ||
					method == http.MethodDelete && path == "/v1/sessions/fork" || // of a session with that name, which is nobody's
					(method == http.MethodDelete || method == http.MethodPatch) && strings.HasPrefix(path, "/v1/factors/") { // likewise
					continue
				}
				r := w.Do(t, method, filled(path, "ses_aaaaaaaaaaaaaaaaaaaaaaaaaa"), nil, nil)
				switch {
				case slices.Contains(allowed, method) && method == http.MethodHead:
					get := w.Get(t, filled(path, ""), "")
					if r.Status != get.Status || r.Body != "" || r.Header.Get("Content-Type") != get.Header.Get("Content-Type") {
						t.Errorf("HEAD %s: %d %q, but GET %d", path, r.Status, r.Body, get.Status)
					}
				case method == http.MethodOptions:
					if r.Status != http.StatusNoContent || r.Body != "" {
						t.Errorf("OPTIONS %s: %d %s", path, r.Status, r.Body)
					}
				case r.Status != http.StatusMethodNotAllowed || r.Header.Get("Allow") == "":
					t.Errorf("%s %s: %d %s, Allow %q", method, path, r.Status, r.Body, r.Header.Get("Allow"))
				}
			}
		}
		// A follower's stream begins with an answer, which a HEAD asks for alone.
		var feed struct{ Cursor string }
		w.Get(t, "/v1/blocklist", "").JSON(t, &feed)
		want(t, "HEAD of a stream", w.Do(t, http.MethodHead, "/v1/blocklist/stream?after="+url.QueryEscape(feed.Cursor), nil, nil),
			http.StatusOK, "")
		servicetest.Eventually(t, "a HEAD leaves no follower", func() bool { return followers(t, w.Service) == 0 })
		// The method of a request is the one it is sent with.
		p := signUp(t, w.Service)
		for _, name := range []string{"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"} {
			w.Do(t, http.MethodGet, "/v1/me?_method=DELETE", bearer(p.AccessToken, name, http.MethodDelete), nil)
		}
		want(t, "after overrides", w.Get(t, "/v1/me", p.AccessToken), http.StatusOK, "")
	})
}

// followers is how many streams of the blocklist a replica has open.
func followers(t testing.TB, s *servicetest.Service) float64 {
	t.Helper()
	families, err := s.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "handstamp_blocklist_followers" {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatal("no such figure")
	return 0
}
