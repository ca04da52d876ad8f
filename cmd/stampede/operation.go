package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// operation is one kind of request as one client sends it. It belongs to one goroutine.
type operation interface {
	// request appends the next request to buf. It returns false if this client has nothing left to ask.
	request(buf []byte) ([]byte, bool)
	// verify judges the answer to the last request. It returns "" if the answer is as it should be, else the kind of failure.
	// It isn't called if no answer came.
	verify(resp *response) string
}

// The kinds of operation, in the order in which reports list them.
const (
	opRefresh  = "refresh"
	opLogin    = "login"
	opBadLogin = "badlogin"
	opCheck    = "check"
	opForged   = "forged"
	opGet      = "get"
)

// operationNames lists the kinds that a mix may have.
func operationNames() []string {
	return []string{opRefresh, opLogin, opBadLogin, opCheck, opForged, opGet}
}

// chain is a session as its honest client holds it.
type chain struct {
	token string
	// key is the Idempotency-Key of the last refresh. As long as pending is set, its answer is not known and a retry repeats it.
	key     string
	pending bool
	access  string // latest access token, if a check needs it
	dead    bool   // the server has ended the session
}

// refresher rotates its chains in turn, by POST /oauth2/token (RFC 6749, section 6).
type refresher struct {
	form       *form
	clientID   string // form-encoded
	idempotent bool   // send an Idempotency-Key with each refresh
	cookie     string // the name of the cookie that the refresh token is in; empty if it is in the body
	keepAccess bool
	chains     []*chain
	next       int
	current    *chain
}

func newRefresher(t *target, set settings, keepAccess bool, chains []*chain) *refresher {
	r := &refresher{
		form:       newForm(t, "/oauth2/token"),
		clientID:   url.QueryEscape(set.clientID),
		idempotent: set.idempotent, keepAccess: keepAccess, chains: chains,
	}
	if set.cookie {
		r.cookie = cookieName(t, set.clientID)
		r.form.bare.Header.Set("Origin", t.url)
		r.form.bare.Header.Set("Sec-Fetch-Site", "same-origin")
		r.form.bare.Header.Set("X-Handstamp-Client", set.clientID)
	}
	return r
}

// cookieName is the name of the cookie of a client's pages (PROTOCOL.md, "The refresh token in a cookie").
func cookieName(t *target, clientID string) string {
	sum := sha256.Sum256([]byte(clientID))
	name := "hs_rt_" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:10])
	if t.tls != nil {
		return "__Host-" + name
	}
	return name
}

func (r *refresher) request(buf []byte) ([]byte, bool) {
	c := nextLive(r.chains, &r.next)
	if c == nil {
		return buf, false
	}
	return r.requestFor(c, buf), true
}

// requestFor appends the refresh of one chain, which becomes the current one.
func (r *refresher) requestFor(c *chain, buf []byte) []byte {
	r.current = c
	if !c.pending {
		c.pending = true
		c.key = ""
		if r.idempotent {
			c.key = newKey()
		}
	}
	body := "grant_type=refresh_token&client_id=" + r.clientID
	if r.cookie == "" {
		body += "&refresh_token=" + url.QueryEscape(c.token)
	} else {
		r.form.bare.Header.Set("Cookie", r.cookie+"="+c.token)
	}
	return r.form.request(buf, body, c.key)
}

func (r *refresher) verify(resp *response) string {
	c, got := r.current, resp.answer()
	switch {
	case resp.status == 200:
	case resp.status == 400 && got.Error == "invalid_grant":
		c.dead = true
		return failSessionLost
	default:
		return statusKind(resp)
	}
	if r.cookie != "" {
		got.RefreshToken = resp.cookie(r.cookie)
	}
	switch {
	case got.RefreshToken == "":
		return "no refresh_token in the answer"
	case got.AccessToken == "":
		return "no access_token in the answer"
	case got.RefreshToken == c.token:
		return "refresh token did not change"
	}
	c.token, c.pending = got.RefreshToken, false
	if r.keepAccess {
		c.access = got.AccessToken
	}
	return ""
}

// failSessionLost: invalid_grant for a token that its only owner showed once. Nothing a server does is worse.
const failSessionLost = "session lost (invalid_grant)"

// nextLive returns the next chain that is alive, or nil.
func nextLive(chains []*chain, next *int) *chain {
	for range chains {
		c := chains[*next]
		if *next++; *next == len(chains) {
			*next = 0
		}
		if !c.dead {
			return c
		}
	}
	return nil
}

// newKey makes an Idempotency-Key of 128 random bits in hexadecimal digits.
func newKey() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// account is a user that logs in.
type account struct{ email, password string }

// login posts the passwords of its accounts in turn to /v1/login.
type login struct {
	requests [][]byte
	next     int
	wrong    bool // the passwords are wrong and must be refused
}

func newLogin(t *target, clientID string, accounts []account, wrong bool) *login {
	l := &login{wrong: wrong}
	for _, a := range accounts {
		if wrong {
			a.password += " is not it"
		}
		l.requests = append(l.requests, t.jsonRequest("/v1/login", loginBody(a, clientID)))
	}
	return l
}

func loginBody(a account, clientID string) map[string]string {
	body := map[string]string{"email": a.email, "password": a.password}
	if clientID != defaultClientID {
		body["client_id"] = clientID
	}
	return body
}

func (l *login) request(buf []byte) ([]byte, bool) {
	if len(l.requests) == 0 {
		return buf, false
	}
	buf = append(buf, l.requests[l.next]...)
	l.next = (l.next + 1) % len(l.requests)
	return buf, true
}

func (l *login) verify(resp *response) string {
	switch {
	case l.wrong && resp.status == 401 && resp.answer().Code == "invalid_credentials":
		return ""
	case l.wrong && resp.status == 200:
		return "wrong password accepted"
	case l.wrong || resp.status != 200:
		return statusKind(resp)
	}
	if got := resp.answer(); got.RefreshToken == "" || got.AccessToken == "" {
		return "no tokens in the answer"
	}
	return ""
}

// check shows the access tokens of its chains in turn to a path that wants them, and wants 200.
type check struct {
	bare   *http.Request
	chains []*chain
	next   int
}

func newCheck(t *target, path string, chains []*chain) *check {
	return &check{bare: t.request("GET", path), chains: chains}
}

func (c *check) request(buf []byte) ([]byte, bool) {
	ch := nextLive(c.chains, &c.next)
	if ch == nil {
		return buf, false
	}
	c.bare.Header.Set("Authorization", "Bearer "+ch.access)
	return appendRequest(buf, c.bare), true
}

func (c *check) verify(resp *response) string { return wantOK(resp) }

// forger sends refresh tokens of the right form that nobody ever got, with the right version byte so that the server can't refuse
// them by a glance.
type forger struct{ form *form }

// Of a refresh token.
const (
	tokenPrefix  = "hsr_"
	tokenVersion = 0x01
	tokenBytes   = 45
)

func newForger(t *target) *forger {
	return &forger{form: newForm(t, "/oauth2/token")}
}

func (f *forger) request(buf []byte) ([]byte, bool) {
	var raw [tokenBytes]byte
	_, _ = rand.Read(raw[:]) // never fails
	raw[0] = tokenVersion
	body := "grant_type=refresh_token&client_id=" + defaultClientID + "&refresh_token=" + tokenPrefix +
		base64.RawURLEncoding.EncodeToString(raw[:])
	return f.form.request(buf, body, ""), true
}

func (f *forger) verify(resp *response) string {
	switch {
	case resp.status == 200:
		return "forged token accepted"
	case resp.status != 400 || resp.answer().Error != "invalid_grant":
		return statusKind(resp)
	}
	return ""
}

// fetch gets one path and wants 200.
type fetch struct{ whole []byte }

func newFetch(t *target, path string) *fetch {
	return &fetch{whole: appendRequest(nil, t.request("GET", path))}
}

func (f *fetch) request(buf []byte) ([]byte, bool) { return append(buf, f.whole...), true }

func (f *fetch) verify(resp *response) string { return wantOK(resp) }

func wantOK(resp *response) string {
	if resp.status == 200 {
		return ""
	}
	return statusKind(resp)
}

// statusKind names an answer that should not have been: its status and, if there is one, its error code.
func statusKind(resp *response) string {
	kind := "status " + strconv.Itoa(resp.status)
	got := resp.answer()
	for _, code := range []string{got.Error, got.Code} {
		if code != "" && len(code) <= 40 {
			return kind + " " + code
		}
	}
	return kind
}

// isShed tells whether the server asked to come again later, which under overload is the right answer.
func isShed(resp *response) bool {
	return resp.retryAfter && (resp.status == 503 || resp.status == 429)
}

// request returns a request without a body. The path is sent as it is, so it must be escaped.
func (t *target) request(method, path string) *http.Request {
	return &http.Request{
		Method: method,
		URL:    &url.URL{Opaque: t.path + path},
		Host:   t.host,
		Header: http.Header{"User-Agent": {"stampede"}},
	}
}

// jsonRequest returns a whole POST request with a JSON body.
func (t *target) jsonRequest(path string, body any) []byte {
	b, err := json.Marshal(body)
	if err != nil {
		panic(err) // maps of strings always marshal
	}
	r := t.request("POST", path)
	r.Header.Set("Content-Type", "application/json")
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
	return appendRequest(nil, r)
}

// form is a POST request whose body changes from one sending to the next.
type form struct {
	bare *http.Request
	body strings.Reader
}

func newForm(t *target, path string) *form {
	f := &form{bare: t.request("POST", path)}
	f.bare.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	f.bare.Body = io.NopCloser(&f.body)
	return f
}

// request appends the request with a form-encoded body and, unless key is empty, an Idempotency-Key.
func (f *form) request(buf []byte, body, key string) []byte {
	f.body.Reset(body)
	f.bare.ContentLength = int64(len(body))
	f.bare.Header.Del("Idempotency-Key")
	if key != "" {
		f.bare.Header.Set("Idempotency-Key", key)
	}
	return appendRequest(buf, f.bare)
}

// appendRequest appends the whole request as it goes over the wire.
func appendRequest(buf []byte, r *http.Request) []byte {
	b := bytes.NewBuffer(buf)
	if err := r.Write(b); err != nil {
		panic(err) // a buffer takes everything, and the target and the paths of the flags are checked
	}
	return b.Bytes()
}
