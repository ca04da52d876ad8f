package api_test

import (
	"html"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/oauth"
)

// Client IDs with characters that the form encoding changes, as libraries send them: encoded (RFC 6749, section 2.3.1), or as
// they are.
func TestBasicRawAndEncoded(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		ids := []string{"a+b", "https://app.example/x", "50%", "a%2Fb", "plain", "a%20b+c"}
		for _, id := range ids {
			addClient(t, s, confidential(oauth.Client{
				ID:     strings.ReplaceAll(id, ":", "."),
				Grants: []string{oauth.GrantClientCredentials},
			}))
		}
		send := func(id, secret string) servicetest.Response {
			r := http.Request{Header: http.Header{}}
			r.SetBasicAuth(id, secret)
			return s.FormWith(t, "/oauth2/token", r.Header, "grant_type", "client_credentials")
		}
		for _, id := range ids {
			id = strings.ReplaceAll(id, ":", ".")
			want(t, "ok/raw "+id, send(id, secretOf(id)), http.StatusOK, "")
			want(t, "ok/encoded "+id, send(url.QueryEscape(id), url.QueryEscape(secretOf(id))), http.StatusOK, "")
			want(t, "fail/secret of "+id, send(id, "wrong"), http.StatusUnauthorized, "invalid_client")
			want(t, "fail/another's secret for "+id, send(id, secretOf("another")), http.StatusUnauthorized, "invalid_client")
		}
		want(t, "fail/unknown", send("no+body", "x"), http.StatusUnauthorized, "invalid_client")
	})
}

// The slash that URL libraries add to an address without a path.
func TestResourceWithSlash(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		refresh := func(raw, resource string) servicetest.Response {
			return w.Form(t, "/oauth2/token", "grant_type", "refresh_token", "refresh_token", raw, "resource", resource)
		}
		next := refresh(p.RefreshToken, w.Config.Issuer+"/").Tokens(t)
		if aud := servicetest.Claims(t, next.AccessToken)["aud"]; aud != w.Config.Issuer {
			t.Errorf("aud %v", aud)
		}
		want(t, "two slashes", refresh(next.RefreshToken, w.Config.Issuer+"//"), http.StatusBadRequest, "invalid_target")
	})
}

// OpenID Connect Core, section 3.1.2.1: scope values that are not understood should be ignored. RFC 6749, section 3.3, has a
// request without openid refused.
func TestUnknownScopes(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		if got := codeFlow(t, w.Service, p.email, "web", "openid address groups email"); got.Scope != "email openid" {
			t.Errorf("granted %q", got.Scope)
		}
		for _, scope := range []string{"address", "email address", "openid email a\"b", "orders:read"} {
			if got := newBrowser(t, w.Service).open(authorizeURL(w.Service, map[string]string{"client_id": "web",
				"scope": scope})).refused(t); got != "invalid_scope" {
				t.Errorf("%q: %q", scope, got)
			}
		}
	})
}

// header is how long the header of an answer is on the wire.
func headerSize(p page) int {
	size := len("HTTP/1.1 303 See Other\r\n\r\n")
	for name, values := range p.header {
		for _, v := range values {
			size += len(name) + len(": \r\n") + len(v)
		}
	}
	return size
}

// A state of 2,000 bytes comes back through a proxy that takes 4 KiB of header, which is nginx's default, and what is refused
// for its length does not come back.
func TestLongState(t *testing.T) {
	const most = 4096
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		for name, state := range map[string]string{
			"JSON":   `{"returnTo":"https://app.example/orders?page=2&sort=date","pad":"` + strings.Repeat(`{\"k\":\"v\"},`, 160) + `"}`,
			"base64": strings.Repeat("aB3-_", 400),
			"quotes": strings.Repeat(`"`, 2000),
			"emoji":  strings.Repeat("\U0001F600", 500),
		} {
			state = state[:min(len(state), 2000)]
			for _, mode := range []string{"query", "fragment"} {
				b := newBrowser(t, w.Service)
				change := map[string]string{"client_id": "web", "state": state, "response_mode": mode}
				form := b.open(authorizeURL(w.Service, change))
				if size := headerSize(form); size > most {
					t.Errorf("%s: the header of the login page has %d bytes", name, size)
				}
				b.logIn(form, p.email)
				change["prompt"] = "none"
				answer := b.open(authorizeURL(w.Service, change))
				if size := headerSize(answer); size > most {
					t.Errorf("%s, %s: the header of the answer has %d bytes", name, mode, size)
				}
				to := answer.location
				if to == nil {
					_, rest, _ := strings.Cut(answer.body, `id="onward-link" href="`)
					href, _, _ := strings.Cut(rest, `"`)
					var err error
					if to, err = url.Parse(html.UnescapeString(href)); err != nil {
						t.Fatal(err)
					}
					if !strings.Contains(answer.body, `http-equiv="refresh"`) {
						t.Errorf("%s, %s: the page does not lead on:\n%s", name, mode, answer.body)
					}
				}
				query := to.RawQuery
				if mode == "fragment" {
					query = to.EscapedFragment()
				}
				got, err := url.ParseQuery(query)
				if err != nil || got.Get("state") != state || got.Get("code") == "" {
					t.Errorf("%s, %s: %v, state %q came back as %q", name, mode, err, state, got.Get("state"))
				}
			}
		}
		huge := newBrowser(t, w.Service).open(authorizeURL(w.Service, map[string]string{"client_id": "web",
			"state": strings.Repeat("s", 6_000)}))
		if huge.location == nil || huge.location.Query().Get("error") != "invalid_request" || len(huge.location.String()) > 500 {
			t.Errorf("a state that is refused: %d %.600v", huge.status, huge.location)
		}
		odd := newBrowser(t, w.Service).open(authorizeURL(w.Service, map[string]string{"client_id": "web",
			"unknown": strings.Repeat("u", 2000)}))
		if plain := newBrowser(t, w.Service).open(authorizeURL(w.Service, map[string]string{"client_id": "web"})); len(odd.body) >
			len(plain.body)+100 {
			t.Errorf("an unknown parameter is carried along: %d bytes of page, else %d", len(odd.body), len(plain.body))
		}
	})
}
