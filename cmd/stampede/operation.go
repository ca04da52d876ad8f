package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"strconv"
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
	token []byte
	// key is the Idempotency-Key of the last refresh. As long as pending is set, its answer is not known and a retry repeats it.
	key     []byte
	pending bool
	access  []byte // latest access token, if a check needs it
	dead    bool   // the server has ended the session
}

// refresher rotates its chains in turn, by POST /oauth2/token (RFC 6749, section 6).
type refresher struct {
	front      []byte // request up to the Idempotency-Key or Content-Length
	clientID   string // form-encoded
	idempotent bool   // send an Idempotency-Key with each refresh
	keepAccess bool
	chains     []*chain
	next       int
	current    *chain
	body       []byte
}

func newRefresher(t *target, clientID string, idempotent, keepAccess bool, chains []*chain) *refresher {
	return &refresher{
		front:      t.requestFront("POST", "/oauth2/token", "Content-Type: application/x-www-form-urlencoded\r\n"),
		clientID:   url.QueryEscape(clientID),
		idempotent: idempotent, keepAccess: keepAccess, chains: chains,
	}
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
		c.key = c.key[:0]
		if r.idempotent {
			c.key = appendKey(c.key)
		}
	}
	r.body = append(r.body[:0], "grant_type=refresh_token&client_id="...)
	r.body = append(r.body, r.clientID...)
	r.body = append(r.body, "&refresh_token="...)
	r.body = appendFormValue(r.body, c.token)
	buf = append(buf, r.front...)
	if len(c.key) > 0 {
		buf = append(buf, "Idempotency-Key: "...)
		buf = append(buf, c.key...)
		buf = append(buf, crlf...)
	}
	return appendBody(buf, r.body)
}

func (r *refresher) verify(resp *response) string {
	c := r.current
	switch {
	case resp.status == 200:
	case resp.status == 400 && string(member(resp.body, "error")) == "invalid_grant":
		c.dead = true
		return failSessionLost
	default:
		return statusKind(resp)
	}
	token, access := member(resp.body, "refresh_token"), member(resp.body, "access_token")
	switch {
	case len(token) == 0:
		return "no refresh_token in the answer"
	case len(access) == 0:
		return "no access_token in the answer"
	case bytes.Equal(token, c.token):
		return "refresh token did not change"
	}
	c.token = append(c.token[:0], token...)
	c.pending = false
	if r.keepAccess {
		c.access = append(c.access[:0], access...)
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

// appendKey appends 128 random bits in hexadecimal digits.
func appendKey(buf []byte) []byte {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.AppendEncode(buf, b[:])
}

// appendFormValue appends v in application/x-www-form-urlencoded form. Refresh tokens are base64url, which stays as it is.
func appendFormValue(buf, v []byte) []byte {
	for _, c := range v {
		if !isUnreserved(c) {
			return append(buf, url.QueryEscape(string(v))...)
		}
	}
	return append(buf, v...)
}

func isUnreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' || c == '~'
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
	case l.wrong && resp.status == 401 && string(member(resp.body, "code")) == "invalid_credentials":
		return ""
	case l.wrong && resp.status == 200:
		return "wrong password accepted"
	case l.wrong || resp.status != 200:
		return statusKind(resp)
	case len(member(resp.body, "refresh_token")) == 0 || len(member(resp.body, "access_token")) == 0:
		return "no tokens in the answer"
	}
	return ""
}

// check shows the access tokens of its chains in turn to a path that wants them, and wants 200.
type check struct {
	front  []byte
	chains []*chain
	next   int
}

func newCheck(t *target, path string, chains []*chain) *check {
	return &check{front: t.requestFront("GET", path, ""), chains: chains}
}

func (c *check) request(buf []byte) ([]byte, bool) {
	ch := nextLive(c.chains, &c.next)
	if ch == nil {
		return buf, false
	}
	buf = append(buf, c.front...)
	buf = append(buf, "Authorization: Bearer "...)
	buf = append(buf, ch.access...)
	return append(buf, crlfcrlf...), true
}

func (c *check) verify(resp *response) string { return wantOK(resp) }

// forger sends refresh tokens of the right form that nobody ever got, with the right version byte so that the server can't refuse
// them by a glance.
type forger struct {
	front []byte
	body  []byte
}

// Of a refresh token.
const (
	tokenPrefix  = "hsr_"
	tokenVersion = 0x01
	tokenBytes   = 45
)

func newForger(t *target) *forger {
	return &forger{front: t.requestFront("POST", "/oauth2/token", "Content-Type: application/x-www-form-urlencoded\r\n")}
}

func (f *forger) request(buf []byte) ([]byte, bool) {
	var raw [tokenBytes]byte
	_, _ = rand.Read(raw[:]) // never fails
	raw[0] = tokenVersion
	f.body = append(f.body[:0], "grant_type=refresh_token&client_id="+defaultClientID+"&refresh_token="+tokenPrefix...)
	f.body = base64.RawURLEncoding.AppendEncode(f.body, raw[:])
	return appendBody(append(buf, f.front...), f.body), true
}

func (f *forger) verify(resp *response) string {
	switch {
	case resp.status == 200:
		return "forged token accepted"
	case resp.status != 400 || string(member(resp.body, "error")) != "invalid_grant":
		return statusKind(resp)
	}
	return ""
}

// fetch gets one path and wants 200.
type fetch struct{ whole []byte }

func newFetch(t *target, path string) *fetch {
	return &fetch{whole: append(t.requestFront("GET", path, ""), crlf...)}
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
	for _, name := range []string{"error", "code"} {
		if code := member(resp.body, name); len(code) > 0 && len(code) <= 40 {
			return kind + " " + string(code)
		}
	}
	return kind
}

// isShed tells whether the server asked to come again later, which under overload is the right answer.
func isShed(resp *response) bool {
	return resp.retryAfter && (resp.status == 503 || resp.status == 429)
}

// requestFront returns the request line and the fields that never change, without the empty line.
func (t *target) requestFront(method, path, fields string) []byte {
	return []byte(method + " " + t.path + path + " HTTP/1.1\r\nHost: " + t.host + "\r\nUser-Agent: stampede\r\n" + fields)
}

// jsonRequest returns a whole POST request with a JSON body.
func (t *target) jsonRequest(path string, body any) []byte {
	b, err := json.Marshal(body)
	if err != nil {
		panic(err) // maps of strings always marshal
	}
	return appendBody(t.requestFront("POST", path, "Content-Type: application/json\r\n"), b)
}

// appendBody ends the head with the length of body and appends body.
func appendBody(buf, body []byte) []byte {
	buf = append(buf, "Content-Length: "...)
	buf = strconv.AppendInt(buf, int64(len(body)), 10)
	buf = append(buf, crlfcrlf...)
	return append(buf, body...)
}
