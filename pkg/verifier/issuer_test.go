package verifier

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const testAudience = "https://api.example"

// signer is a private key of an issuer.
type signer struct {
	kid     string
	alg     string
	private crypto.Signer
}

var signers = sync.OnceValue(func() map[string]signer {
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	rs, _ := rsa.GenerateKey(rand.Reader, 2048)
	return map[string]signer{ES256: {"key-ec", ES256, ec}, EdDSA: {"key-ed", EdDSA, ed}, RS256: {"key-rsa", RS256, rs}}
})

func newSigner(kid string) signer {
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return signer{kid, ES256, ec}
}

func (s signer) key(t testing.TB) *Key {
	k, err := NewKey(s.kid, s.private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sign returns the token with exactly this header and payload.
func (s signer) sign(header, payload string) string {
	signed := encode([]byte(header)) + "." + encode([]byte(payload))
	return signed + "." + encode(s.signature(signed))
}

func (s signer) signature(signed string) []byte {
	hash := sha256.Sum256([]byte(signed))
	switch private := s.private.(type) {
	case *ecdsa.PrivateKey:
		r, v, err := ecdsa.Sign(rand.Reader, private, hash[:])
		if err != nil {
			panic(err)
		}
		sig := make([]byte, 64)
		r.FillBytes(sig[:32])
		v.FillBytes(sig[32:])
		return sig
	case ed25519.PrivateKey:
		return ed25519.Sign(private, []byte(signed))
	case *rsa.PrivateKey:
		sig, err := rsa.SignPKCS1v15(rand.Reader, private, crypto.SHA256, hash[:])
		if err != nil {
			panic(err)
		}
		return sig
	}
	panic("no such key")
}

func (s signer) header() string {
	return fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":"at+jwt"}`, s.alg, s.kid)
}

// claims returns the payload of a good token, changed by pairs of name and JSON value; an empty value removes the claim.
func claims(issuer string, changes ...string) string {
	now := time.Now().Unix()
	c := map[string]json.RawMessage{
		"iss": quoted(issuer), "aud": quoted(testAudience), "sub": quoted("usr_1"), "jti": quoted("jti_1"), "sid": quoted("ses_1"),
		"client_id": quoted("default"), "scope": quoted("openid reports:read"), "roles": []byte(`["editor","admin"]`),
		"iat": number(now), "exp": number(now + 900), "auth_time": number(now - 60), "amr": []byte(`["pwd"]`),
	}
	for i := 0; i < len(changes); i += 2 {
		if c[changes[i]] = json.RawMessage(changes[i+1]); changes[i+1] == "" {
			delete(c, changes[i])
		}
	}
	b, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func quoted(s string) json.RawMessage { b, _ := json.Marshal(s); return b }
func number(n int64) json.RawMessage  { return strconv.AppendInt(nil, n, 10) }

// local returns a Verifier with in-process keys and no feed.
func local(t testing.TB, options ...Option) *Verifier {
	t.Helper()
	keys := map[string]*Key{}
	for _, s := range signers() {
		keys[s.kid] = s.key(t)
	}
	find := func(kid string) (*Key, bool) { k, ok := keys[kid]; return k, ok }
	v, err := New(t.Context(), testIssuer, append([]Option{WithAudience(testAudience), WithKeys(find), WithoutFeed()},
		options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

const testIssuer = "https://issuer.example"

// issuer answers like the service does: metadata, JWKS, blocklist and its stream.
type issuer struct {
	url    string
	client *http.Client

	mu        sync.Mutex
	signers   []signer
	maxAge    string
	epoch     int // of the cursors; those of an earlier one are gone
	log       []Entry
	changed   chan struct{}
	requests  map[string]int
	fail      map[string]int // path to status; hang is no answer at all
	silent    bool           // the stream accepts, and says nothing
	frozen    time.Time      // the as_of of a replica that lost its database, if not zero
	heartbeat time.Duration
}

func newIssuerState(s ...signer) *issuer {
	return &issuer{
		signers:   s,
		maxAge:    "max-age=300",
		changed:   make(chan struct{}),
		requests:  map[string]int{},
		fail:      map[string]int{},
		heartbeat: 5 * time.Second,
	}
}

// newIssuer starts an issuer on a loopback socket.
func newIssuer(t testing.TB, s ...signer) *issuer {
	i := newIssuerState(s...)
	server := httptest.NewServer(i)
	t.Cleanup(server.CloseClientConnections)
	t.Cleanup(server.Close)
	i.url, i.client = server.URL, server.Client()
	return i
}

// newBubbleIssuer starts an issuer that speaks HTTP through memory, for use inside of a synctest bubble.
func newBubbleIssuer(t testing.TB, s ...signer) *issuer {
	i := newIssuerState(s...)
	i.url, i.client = "http://issuer.localhost", serveBubble(t, i)
	return i
}

// serveBubble returns a client all of whose requests go to handler, through HTTP over connections in memory.
func serveBubble(t testing.TB, handler http.Handler) *http.Client {
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: handler}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) })
	transport := &http.Transport{DialContext: l.dial}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
		wg.Wait()
	})
	return &http.Client{Transport: transport}
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// set changes the issuer and wakes its streams.
func (i *issuer) set(f func(*issuer)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	f(i)
	close(i.changed)
	i.changed = make(chan struct{})
}

func (i *issuer) block(kind BlockKind, value string) {
	now := uint32(time.Now().Unix())
	i.set(func(i *issuer) { i.log = append(i.log, Entry{KeyOf(kind, value), now, now + 3600}) })
}

func (i *issuer) count(path string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.requests[path]
}

func (i *issuer) counts() map[string]int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return maps.Clone(i.requests)
}

func (i *issuer) mint(s signer, changes ...string) string {
	return s.sign(s.header(), claims(i.url, changes...))
}

// hang as a status is no answer at all.
const hang = -1

// The paths of the issuer.
const (
	metaPath   = "/.well-known/oauth-authorization-server"
	jwksPath   = "/.well-known/jwks.json"
	feedPath   = "/v1/blocklist"
	streamPath = "/v1/blocklist/stream"
)

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.requests[r.URL.Path]++
	status, maxAge := i.fail[r.URL.Path], i.maxAge
	var set JWKSet
	for _, s := range i.signers {
		k, _ := NewJWK(s.kid, s.private.Public())
		set.Keys = append(set.Keys, k)
	}
	i.mu.Unlock()
	switch {
	case status == hang:
		<-r.Context().Done()
		return
	case status != 0:
		http.Error(w, "out of order", status)
		return
	}
	switch r.URL.Path {
	case metaPath:
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": i.url, "jwks_uri": i.url + jwksPath})
	case jwksPath:
		body, _ := json.Marshal(set)
		sum := sha256.Sum256(body)
		etag := `"` + encode(sum[:8]) + `"`
		w.Header().Set("Cache-Control", "public, "+maxAge)
		w.Header().Set("ETag", etag)
		if r.Header.Get("If-None-Match") == etag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = w.Write(body)
	case feedPath:
		doc, known, _ := i.feed(r.URL.Query().Get("after"))
		if i.isFrozen() {
			http.Error(w, "no database", http.StatusServiceUnavailable)
			return
		}
		if !known {
			http.Error(w, `{"code":"cursor_gone"}`, http.StatusGone)
			return
		}
		w.Header().Set("ETag", `"`+doc.Cursor+`"`)
		if r.Header.Get("If-None-Match") == `"`+doc.Cursor+`"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_ = json.NewEncoder(w).Encode(doc)
	case streamPath:
		i.stream(w, r)
	default:
		http.NotFound(w, r)
	}
}

// feed returns what changed since a cursor, whether it is known, and a channel that is closed with the next change.
func (i *issuer) feed(after string) (Feed, bool, <-chan struct{}) {
	i.mu.Lock()
	defer i.mu.Unlock()
	asOf := time.Now()
	if !i.frozen.IsZero() {
		asOf = i.frozen
	}
	doc := Feed{Issuer: i.url, Cursor: fmt.Sprintf("%d.%d", i.epoch, len(i.log)), AsOf: asOf, Entries: Entries{}}
	var epoch, n int
	if after != "" {
		if _, err := fmt.Sscanf(after, "%d.%d", &epoch, &n); err != nil || epoch != i.epoch || n > len(i.log) {
			return Feed{}, false, i.changed
		}
	}
	for _, e := range i.log[n:] {
		doc.Entries = doc.Entries.Append(e)
	}
	return doc, true, i.changed
}

func (i *issuer) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	control := http.NewResponseController(w)
	_ = control.Flush()
	i.mu.Lock()
	silent := i.silent
	i.mu.Unlock()
	if silent {
		<-r.Context().Done()
		return
	}
	fmt.Fprint(w, "retry: 1000\n\n")
	cursor := r.Header.Get("Last-Event-ID")
	if cursor == "" {
		cursor = r.URL.Query().Get("after")
	}
	beat := time.NewTicker(i.heartbeat)
	defer beat.Stop()
	for {
		doc, known, changed := i.feed(cursor)
		i.mu.Lock()
		status, silent := i.fail[streamPath], i.silent
		i.mu.Unlock()
		switch {
		case status != 0:
			return
		case silent:
			<-r.Context().Done()
			return
		case !known || cursor == "":
			fmt.Fprint(w, "event: reset\ndata: {}\n\n")
			return
		case doc.Cursor != cursor:
			data, _ := json.Marshal(doc)
			fmt.Fprintf(w, "event: entries\nid: %s\ndata: %s\n\n", doc.Cursor, data)
			cursor = doc.Cursor
		}
		if control.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		case <-beat.C:
			now, _, _ := i.feed("")
			data, _ := json.Marshal(Heartbeat{now.AsOf})
			fmt.Fprintf(w, ": still here\r\nevent: heartbeat\r\nid: %s\r\ndata: %s\r\n\r\n", cursor, data)
		}
	}
}

func (i *issuer) isFrozen() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return !i.frozen.IsZero()
}

// follow returns a Verifier of the issuer.
func (i *issuer) follow(t testing.TB, options ...Option) *Verifier {
	t.Helper()
	v, err := New(t.Context(), i.url, append([]Option{WithAudience(testAudience), WithHTTPClient(i.client)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// short keeps what a test prints readable.
func short(s string) string {
	if len(s) > 60 {
		return s[:60] + "..." + strconv.Itoa(len(s))
	}
	return strings.ToValidUTF8(s, "?")
}

// newSmallReader returns a reader whose buffer is smaller than most lines.
func newSmallReader(s string) *bufio.Reader { return bufio.NewReaderSize(strings.NewReader(s), 16) }
