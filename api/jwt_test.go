package api_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/token"
)

// encode is base64url without padding.
func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// reheaded is a token with another header over the same payload and signature.
func reheaded(t testing.TB, accessToken, header string) string {
	t.Helper()
	_, rest, ok := strings.Cut(accessToken, ".")
	if !ok {
		t.Fatal("not a JWT")
	}
	return encode([]byte(header)) + "." + rest
}

// jwtHeader is the header of a token.
func jwtHeader(t testing.TB, raw string) map[string]any {
	t.Helper()
	part, _, _ := strings.Cut(raw, ".")
	text, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		t.Fatal(err)
	}
	var h map[string]any
	if err := json.Unmarshal(text, &h); err != nil {
		t.Fatal(err)
	}
	return h
}

// tokenRoutes are routes that take an access token, one of each way in which they check it.
func tokenRoutes() [][2]string {
	return [][2]string{
		{http.MethodGet, "/v1/me"}, {http.MethodGet, "/v1/forward-auth"}, {http.MethodGet, "/oauth2/userinfo"},
		{http.MethodPost, "/v1/logout"},
	}
}

// refusedAlike fails the test unless every route refuses every token as invalid, with the same words.
func refusedAlike(t *testing.T, s *servicetest.Service, tokens map[string]string) {
	t.Helper()
	for _, route := range tokenRoutes() {
		first := ""
		for _, name := range slices.Sorted(maps.Keys(tokens)) {
			r := s.Do(t, route[0], route[1], bearer(tokens[name]), nil)
			body := withoutRequestID(r.Body)
			if r.Status != http.StatusUnauthorized ||
				r.Header.Get("Www-Authenticate") != `Bearer error="invalid_token", error_description="the access token is not valid"` {
				t.Errorf("%s %s: %s: %d %q %s", route[0], route[1], name, r.Status, r.Header.Get("Www-Authenticate"), r.Body)
			} else if first == "" {
				first = body
			} else if body != first {
				t.Errorf("%s %s: %s is told apart: %s", route[0], route[1], name, body)
			}
		}
	}
	for name, raw := range tokens {
		if r := introspect(t, s, "backend", raw); r.Status != http.StatusOK || r.Body != inactive {
			t.Errorf("introspection: %s: %d %s", name, r.Status, r.Body)
		}
	}
}

// withoutRequestID is a body but for what is different in every one.
func withoutRequestID(body string) string {
	before, after, found := strings.Cut(body, `"request_id":"`)
	if !found {
		return body
	}
	_, after, _ = strings.Cut(after, `"`)
	return before + after
}

func TestJWT04_StrangeKeyIDs(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		good := signUp(t, w.Service).AccessToken
		own := jwtHeader(t, good)["kid"]
		tokens := map[string]string{}
		for name, kid := range map[string]string{
			"path":       `"../../../../dev/null"`,
			"file":       `"/etc/hostname"`,
			"sql":        `"' OR 1=1--"`,
			"drop":       `"a\"; DROP TABLE signing_keys;--"`,
			"nul":        `"\u0000"`,
			"line break": `"a\r\nb"`,
			"number":     `1`,
			"object":     `{"a":1}`,
			"array":      `["a"]`,
			"null":       `null`,
			"empty":      `""`,
			"unknown":    `"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"`,
			"padded":     fmt.Sprintf(`"%s="`, own),
			"long":       `"` + strings.Repeat("k", 4<<10) + `"`,
		} {
			tokens[name] = reheaded(t, good, `{"alg":"ES256","kid":`+kid+`,"typ":"at+jwt"}`)
		}
		tokens["absent"] = reheaded(t, good, `{"alg":"ES256","typ":"at+jwt"}`)
		tokens["twice"] = reheaded(t, good, fmt.Sprintf(`{"alg":"ES256","kid":%q,"kid":%q,"typ":"at+jwt"}`, own, own))
		// A key that is published, but is of another algorithm or did not sign this token.
		for _, key := range jwks(t, w.Service) {
			if key["kid"] != own {
				tokens["key of "+key["alg"]] = reheaded(t, good, fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":"at+jwt"}`, key["alg"], key["kid"]))
			}
		}
		refusedAlike(t, w.Service, tokens)

		if strings.Contains(w.Log.String(), "DROP TABLE") {
			t.Error("the kid of a forged token is logged")
		}
		want(t, "the token itself", w.Get(t, "/v1/me", good), http.StatusOK, "")
	})
}

// jwks are the published keys.
func jwks(t testing.TB, s *servicetest.Service) []map[string]string {
	t.Helper()
	var set struct{ Keys []map[string]string }
	s.Get(t, "/.well-known/jwks.json", "").JSON(t, &set)
	if len(set.Keys) == 0 {
		t.Fatal("no keys are published")
	}
	return set.Keys
}

func TestJWT05_KeysInTheToken(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		lured := make(chan string, 100)
		trap := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { lured <- r.URL.Path }))
		defer trap.Close()
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		point, err := private.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		good := signUp(t, w.Service).AccessToken
		kid := jwtHeader(t, good)["kid"]
		sign := func(extra string) string {
			head := fmt.Sprintf(`{"alg":"ES256","kid":%q,"typ":"at+jwt",%s}`, kid, extra)
			signed := encode([]byte(head)) + "." + strings.Split(good, ".")[1]
			hash := sha256.Sum256([]byte(signed))
			r, s, err := ecdsa.Sign(rand.Reader, private, hash[:])
			if err != nil {
				t.Fatal(err)
			}
			signature := make([]byte, 64)
			r.FillBytes(signature[:32])
			s.FillBytes(signature[32:])
			return signed + "." + encode(signature)
		}
		jwk := fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":%q,"y":%q,"kid":%q,"alg":"ES256","use":"sig"}`, encode(point[1:33]),
			encode(point[33:]), kid)
		refusedAlike(t, w.Service, map[string]string{
			"jku": sign(fmt.Sprintf(`"jku":%q`, trap.URL+"/jku")),
			"x5u": sign(fmt.Sprintf(`"x5u":%q`, trap.URL+"/x5u")),
			"jwk": sign(`"jwk":` + jwk),
			"x5c": sign(`"x5c":["MIIB"]`),
		})
		select {
		case path := <-lured:
			t.Errorf("the service fetched %s", path)
		default:
		}
	})
}

func TestJWT08_Size(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		good := signUp(t, w.Service).AccessToken
		head, signature := strings.Split(good, ".")[0], strings.Split(good, ".")[2]
		withPayload := func(payload string) string { return head + "." + encode([]byte(payload)) + "." + signature }
		refusedAlike(t, w.Service, map[string]string{
			"8 KiB and one":   good + strings.Repeat("A", 8<<10+1-len(good)),
			"dots":            strings.Repeat(".", 8<<10),
			"many dots":       strings.Repeat(".", 12<<10),
			"deep":            withPayload(strings.Repeat("[", 6000)),
			"deep objects":    withPayload(strings.Repeat(`{"a":`, 1100)),
			"many names":      withPayload(`{"a":1` + strings.Repeat(`,"a":1`, 950) + `}`),
			"infinite expiry": withPayload(`{"exp":1e308}`),
			"long number":     withPayload(`{"exp":` + strings.Repeat("9", 5800) + `}`),
		})
		for name, raw := range map[string]string{
			"24 KiB":        strings.Repeat("A", 24<<10),
			"1 MiB":         good + strings.Repeat("A", 1<<20),
			"8 MiB of dots": strings.Repeat(".", 8<<20),
		} {
			// The server stops reading at its limit, so the rest of the request may not find a reader.
			r, err := w.Try(t.Context(), http.MethodGet, "/v1/me", bearer(raw), nil)
			if err == nil && r.Status != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("%s: %d %s", name, r.Status, r.Body)
			}
		}
		want(t, "introspection of 128 KiB", introspect(t, w.Service, "backend", strings.Repeat(".", 128<<10)),
			http.StatusRequestEntityTooLarge, "invalid_request")
		if r := introspect(t, w.Service, "backend", strings.Repeat(".", 60<<10)); r.Body != inactive {
			t.Errorf("introspection of 60 KiB: %d %s", r.Status, r.Body)
		}
	})
}

// otherTokens are JWTs and other tokens that are no access tokens for this service, or no longer; those of the first
// kind are authentic.
func otherTokens(t *testing.T, w *world, p person) map[string]string {
	t.Helper()
	ctx, now := t.Context(), time.Now()
	sign := func(typ token.Type, claims map[string]any) string {
		full := servicetest.Claims(t, p.AccessToken) // everything that an access token has, so that only the kind is wrong
		maps.Copy(full, claims)
		raw, err := w.Minter.Sign(ctx, typ, "", full)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	mint := func(issuer string, change func(*token.Access)) string {
		a := token.Access{
			Subject: p.id, Audience: w.Config.Audience, ClientID: oauth.DefaultClientID, SessionID: sid(t, p.AccessToken),
			AuthTime: now, AMR: []string{"pwd"}, Scope: "openid", Lifetime: time.Minute,
		}
		change(&a)
		minted, err := token.NewMinter(issuer, w.Keys, nil).Mint(ctx, a)
		if err != nil {
			t.Fatal(err)
		}
		return minted.Raw
	}
	issuer := w.Config.Issuer
	others := map[string]string{
		"ID token":        sign(token.TypeID, map[string]any{"aud": oauth.DefaultClientID}),
		"ID token for us": sign(token.TypeID, nil),
		"logout token": sign(token.TypeLogout,
			map[string]any{"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}}),
		"another issuer":     mint("https://staging.example.com", func(*token.Access) {}),
		"our name elsewhere": mint(issuer+"/", func(*token.Access) {}),
		"expired":            mint(issuer, func(a *token.Access) { a.IssuedAt = now.Add(-time.Hour) }),
		"of the future":      mint(issuer, func(a *token.Access) { a.IssuedAt = now.Add(time.Hour) }),
		"refresh token":      p.RefreshToken,
		"junk":               "e30.e30.e30",
	}
	kinds, err := os.ReadFile("../pkg/token/token.go")
	if err != nil {
		t.Fatal(err)
	}
	// new kinds as well
	for _, m := range regexp.MustCompile(`Type[A-Z]\w+ +Type = "(.+)"`).FindAllStringSubmatch(string(kinds), -1) {
		if typ := token.Type(m[1]); typ != token.TypeID {
			others["of type "+m[1]] = sign(typ, nil)
		}
	}
	if len(others) < 12 {
		t.Fatalf("only %d kinds of tokens", len(others))
	}
	return others
}

// One kind of token at each endpoint that takes another kind: none is taken for what it is not.
func TestJWT13_OtherKindsOfTokens(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		others := otherTokens(t, w, p)
		forElsewhere := w.JSON(t, http.MethodPost, "/v1/login", "", map[string]string{
			"email":     p.email,
			"password":  servicetest.Password,
			"client_id": "elsewhere",
			"scope":     "openid",
		}).Tokens(t)
		own := serviceToken(t, w.Service, "backend")

		// As an access token.
		for _, row := range bearerRoutes() {
			for name, raw := range others {
				r := w.Do(t, row.Method, filled(row.Path, sid(t, p.AccessToken)), bearer(raw), nil)
				if r.Status != http.StatusUnauthorized ||
					!strings.HasPrefix(r.Header.Get("Www-Authenticate"), `Bearer error="invalid_token"`) {
					t.Errorf("%s %s accepts: %s: %d %s", row.Method, row.Path, name, r.Status, r.Body)
				}
			}
			if row.Path == "/v1/logout" { // takes it, and ends the session
				continue
			}
			// An access token for another audience, which only the routes that say so take.
			r := w.Do(t, row.Method, filled(row.Path, "ses_aaaaaaaaaaaaaaaaaaaaaaaaaa"), bearer(forElsewhere.AccessToken), nil)
			if anyAudience := strings.HasPrefix(row.Path, "/oauth2/userinfo"); (r.Status == http.StatusUnauthorized) == anyAudience {
				t.Errorf("%s %s: a token for another audience: %d %s", row.Method, row.Path, r.Status, r.Body)
			}
			// A client's own token is nobody's.
			if r := w.Do(t, row.Method, filled(row.Path, "ses_aaaaaaaaaaaaaaaaaaaaaaaaaa"), bearer(own),
				nil); r.Status != http.StatusUnauthorized && row.Path != "/v1/forward-auth" {
				t.Errorf("%s %s: a client's own token: %d %s", row.Method, row.Path, r.Status, r.Body)
			}
		}
		// What is not an access token is introspected as nothing, and revoking it revokes nothing.
		for name, raw := range others {
			if name == "refresh token" {
				continue
			}
			if r := introspect(t, w.Service, "backend", raw); r.Body != inactive {
				t.Errorf("introspection of: %s: %s", name, r.Body)
			}
			want(t, "revocation of: "+name, w.Form(t, "/oauth2/revoke", "token", raw), http.StatusOK, "")
		}
		// As a refresh token, a code, a client's assertion, a client's secret.
		others["access token"], others["a client's token"] = p.AccessToken, own
		for name, raw := range others {
			if name != "refresh token" {
				want(t, "refresh with: "+name, w.Refresh(t, raw), http.StatusBadRequest, "invalid_grant")
				want(t, "logout with: "+name, w.JSON(t, http.MethodPost, "/v1/logout", "", map[string]string{"refresh_token": raw}),
					http.StatusUnauthorized, "invalid_grant")
			}
			want(t, "assertion: "+name, w.Form(t, "/oauth2/token", "grant_type", "client_credentials", "client_id", "backend",
				"client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "client_assertion", raw),
				http.StatusUnauthorized, "invalid_client")
			want(t, "code: "+name, redeem(t, w.Service, raw, "client_id", "web"), http.StatusBadRequest, "invalid_grant")
			want(t, "cursor: "+name, w.Get(t, "/v1/blocklist?after="+raw, ""), http.StatusGone, "cursor_gone")
			for _, path := range []string{"/oauth2/login?request=", "/oauth2/signup?request=", "/oauth2/identities?request=",
				"/oauth2/provider/nowhere?request="} {
				if r := w.Get(t, path+raw, ""); r.Status != http.StatusBadRequest {
					t.Errorf("%s takes: %s: %d", path, name, r.Status)
				}
			}
			want(t, "secret: "+name, w.Form(t, "/oauth2/token", "grant_type", "client_credentials", "client_id", "backend",
				"client_secret", raw), http.StatusUnauthorized, "invalid_client")
			for _, grant := range []string{"urn:ietf:params:oauth:grant-type:jwt-bearer",
				"urn:ietf:params:oauth:grant-type:token-exchange", "password"} {
				want(t, grant+": "+name, w.Form(t, "/oauth2/token", "grant_type", grant, "assertion", raw, "subject_token", raw),
					http.StatusBadRequest, "unsupported_grant_type")
			}
		}
		want(t, "after all that", w.Get(t, "/v1/me", p.AccessToken), http.StatusOK, "")
		w.Refresh(t, p.RefreshToken).Tokens(t)
	})
}

// A logout hint is an ID token of the client that sends it; no other kind logs anybody out.
func TestJWT13_LogoutHints(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		others := otherTokens(t, w, p)
		others["access token"] = p.AccessToken
		for name, raw := range others {
			if strings.HasPrefix(name, "ID token") {
				continue
			}
			w.Get(t, "/oauth2/logout?id_token_hint="+raw, "")
			if r := w.Get(t, "/v1/me", p.AccessToken); r.Status != http.StatusOK {
				t.Fatalf("%s as id_token_hint ended the session: %d %s", name, r.Status, r.Body)
			}
		}
		want(t, "the session goes on", w.Refresh(t, p.RefreshToken), http.StatusOK, "")
		w.Get(t, "/oauth2/logout?id_token_hint="+others["ID token"], "")
		want(t, "the session after its ID token", w.Refresh(t, p.RefreshToken), http.StatusBadRequest, "invalid_grant")
	})
}

func TestJWT17_CredentialsInRequests(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p, q := signUp(t, w.Service), signUp(t, w.Service)
		for name, row := range map[string]struct {
			path   string
			header http.Header
			status int
			code   string
		}{
			"ok/Bearer":     {"/v1/me", header("Authorization", "Bearer "+p.AccessToken), 200, ""},
			"ok/bearer":     {"/v1/me", header("Authorization", "bearer "+p.AccessToken), 200, ""},
			"ok/BEARER":     {"/v1/me", header("Authorization", "BEARER "+p.AccessToken), 200, ""},
			"ok/two spaces": {"/v1/me", header("Authorization", "Bearer  "+p.AccessToken), 200, ""},
			"fail/query":    {"/v1/me?access_token=" + p.AccessToken, nil, 401, "unauthorized"},
			"fail/query and header": {"/v1/me?access_token=" + q.AccessToken, header("Authorization", "Bearer "+p.AccessToken),
				400, "invalid_request"},
			"fail/empty query and header": {"/v1/me?access_token", header("Authorization", "Bearer "+p.AccessToken), 400,
				"invalid_request"},
			"fail/two headers": {"/v1/me", header("Authorization", "Bearer "+p.AccessToken, "Authorization",
				"Bearer "+q.AccessToken), 400, "invalid_request"},
			"fail/the same twice": {"/v1/me", header("Authorization", "Bearer "+p.AccessToken, "Authorization",
				"Bearer "+p.AccessToken), 400, "invalid_request"},
			"fail/list": {"/v1/me", header("Authorization", "Bearer "+p.AccessToken+", Bearer "+q.AccessToken), 400,
				"invalid_request"},
			"fail/trailing comma": {"/v1/me", header("Authorization", "Bearer "+p.AccessToken+","), 400, "invalid_request"},
			"fail/tab":            {"/v1/me", header("Authorization", "Bearer\t"+p.AccessToken), 400, "invalid_request"},
			"fail/nothing after":  {"/v1/me", header("Authorization", "Bearer"), 400, "invalid_request"},
			"fail/no space":       {"/v1/me", header("Authorization", "Bearer"+p.AccessToken), 401, "unauthorized"},
			"fail/scheme":         {"/v1/me", header("Authorization", "Token "+p.AccessToken), 401, "unauthorized"},
			"fail/bare":           {"/v1/me", header("Authorization", p.AccessToken), 401, "unauthorized"},
			"fail/quoted":         {"/v1/me", header("Authorization", `Bearer "`+p.AccessToken+`"`), 400, "invalid_request"},
			"fail/cookie": {"/v1/me", header("Cookie", "access_token="+p.AccessToken+"; handstamp_login="+p.AccessToken), 401,
				"unauthorized"},
			"fail/other header": {"/v1/me", header("X-Authorization", "Bearer "+p.AccessToken, "Proxy-Authorization",
				"Bearer "+p.AccessToken), 401, "unauthorized"},
		} {
			r := w.Do(t, http.MethodGet, row.path, row.header, nil)
			want(t, name, r, row.status, row.code)
			if row.status == http.StatusUnauthorized && r.Header.Get("Www-Authenticate") != "Bearer" {
				t.Errorf("%s: challenge %q", name, r.Header.Get("Www-Authenticate"))
			}
		}
		// In a form (RFC 6750, section 2.2): not taken either.
		want(t, "form", w.Form(t, "/oauth2/userinfo", "access_token", p.AccessToken), http.StatusUnauthorized, "")
	})
}

// Whoever copies an access token can use it; what bounds the damage is its life, and that its owner sees and ends the session.
func TestJWT18_CopiedToken(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		claims := servicetest.Claims(t, p.AccessToken)
		life := claims["exp"].(float64) - claims["iat"].(float64)
		if life > 900 || life < 850 || float64(p.ExpiresIn) != life {
			t.Errorf("the token lives %v s, and says %d", life, p.ExpiresIn)
		}
		owner := w.LogIn(t, p.email)
		var list struct {
			Sessions []struct {
				ID      string `json:"id"`
				Current bool   `json:"current"`
			}
		}
		w.Get(t, "/v1/sessions", owner.AccessToken).JSON(t, &list)
		stolen := sid(t, p.AccessToken)
		if len(list.Sessions) != 2 || list.Sessions[1].ID != stolen || list.Sessions[1].Current || !list.Sessions[0].Current {
			t.Fatalf("sessions %+v, want %s to be the other one", list.Sessions, stolen)
		}
		want(t, "end", w.Do(t, http.MethodDelete, "/v1/sessions/"+stolen, bearer(owner.AccessToken), nil), http.StatusNoContent, "")
		for _, s := range []*servicetest.Service{w.Service, w.other} {
			servicetest.Eventually(t, "the copy is refused",
				func() bool { return s.Get(t, "/v1/me", p.AccessToken).Status == http.StatusUnauthorized })
			want(t, "the owner", s.Get(t, "/v1/me", owner.AccessToken), http.StatusOK, "")
		}
	})
}

// Nothing that a user or client chooses becomes a claim of another name.
func TestJWT20_ClaimsAreOurs(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		email := newEmail()
		tokens := w.JSON(t, http.MethodPost, "/v1/signup", "", map[string]string{
			"email": email, "password": servicetest.Password, "name": `","sub":"usr_x","roles":["admin"],"x":"`,
		}).Tokens(t)
		if h := jwtHeader(t, tokens.AccessToken); len(h) != 3 || h["typ"] != "at+jwt" || h["alg"] != "ES256" || h["kid"] == "" {
			t.Errorf("header %v", h)
		}
		claims := servicetest.Claims(t, tokens.AccessToken)
		names := slices.Sorted(maps.Keys(claims))
		if got := strings.Join(names, " "); got != "acr amr aud auth_time client_id exp iat iss jti roles scope sid sub" {
			t.Errorf("claims %s", got)
		}
		if roles := claims["roles"].([]any); len(roles) != 0 || !strings.HasPrefix(claims["sub"].(string), "usr_") {
			t.Errorf("claims %v", claims)
		}
		if own := servicetest.Claims(t, serviceToken(t, w.Service, "backend")); own["sub"] != "backend" || own["sid"] != nil ||
			len(own["roles"].([]any)) != 0 {
			t.Errorf("a client's own claims %v", own)
		}
		for _, id := range []string{"usr_", claims["sub"].(string), "usr_aaaaaaaaaaaaaaaaaaaaaaaaaa"} {
			if err := (oauth.Client{ID: id, Type: oauth.Public}).Validate(); err == nil {
				t.Errorf("a client may be called %s", id)
			}
		}
		var raw bytes.Buffer
		_ = json.Indent(&raw, []byte(w.Get(t, "/v1/me", tokens.AccessToken).Body), "", "")
		if strings.Contains(raw.String(), `"roles": [`+"\n"+`"admin"`) {
			t.Errorf("the name became a role: %s", raw.String())
		}
	})
}

// slowly dials the service without HTTP in between.
func slowly(t testing.TB, s *servicetest.Service) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}
