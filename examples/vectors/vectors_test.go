package vectors_test

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/handstamp/handstamp/pkg/verifier"
)

// file is blocklist.json, see README.md.
type file struct {
	Issuer string
	Keys   []struct {
		Kind  verifier.BlockKind
		Value string
		Key   string
	}
	Records []struct {
		entry
		Bytes string
	}
	Packed []struct {
		Name    string
		Entries string
		Records *[]entry
	}
	Tokens []struct {
		Name    string
		Entries []entry
		Token   struct {
			KID    string
			Claims struct {
				JTI, SID string
				ClientID string `json:"client_id"`
				IAT      int64
			}
		}
		Refused bool
	}
	Feeds []struct {
		Name      string
		Documents []json.RawMessage
		Result    *state
	}
	Streams struct {
		Snapshot json.RawMessage
		Cases    []struct {
			Name       string
			Transcript string
			Result     struct {
				End string
				state
			}
		}
	}
}

type entry struct {
	Kind      verifier.BlockKind
	Value     string
	NotBefore uint32 `json:"not_before"`
	DropAfter uint32 `json:"drop_after"`
}

func (e entry) wire() verifier.Entry {
	return verifier.Entry{Key: verifier.KeyOf(e.Kind, e.Value), NotBefore: e.NotBefore, DropAfter: e.DropAfter}
}

// state is what a follower knows.
type state struct {
	Cursor  string
	Entries []entry
}

func read(t *testing.T) file {
	t.Helper()
	text, err := os.ReadFile("blocklist.json")
	if err != nil {
		t.Fatal(err)
	}
	var f file
	if err := json.Unmarshal(text, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestKeys(t *testing.T) {
	for _, v := range read(t).Keys {
		key := verifier.KeyOf(v.Kind, v.Value)
		if got := hex.EncodeToString(key[:]); got != v.Key {
			t.Errorf("%s %q: key %s, want %s", v.Kind, v.Value, got, v.Key)
		}
	}
}

func TestRecords(t *testing.T) {
	for _, v := range read(t).Records {
		if got := hex.EncodeToString(verifier.Entries{}.Append(v.wire())); got != v.Bytes {
			t.Errorf("%s %q: %s, want %s", v.Kind, v.Value, got, v.Bytes)
		}
	}
}

func TestPacked(t *testing.T) {
	for _, v := range read(t).Packed {
		t.Run(v.Name, func(t *testing.T) {
			var got verifier.Entries
			err := json.Unmarshal([]byte(`"`+v.Entries+`"`), &got)
			if err == nil {
				err = got.Check()
			}
			if v.Records == nil {
				if err == nil {
					t.Error("not refused")
				}
				return
			}
			want := verifier.Entries{}
			for _, e := range *v.Records {
				want = want.Append(e.wire())
			}
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%x, %v; want %x", got, err, want)
			}
		})
	}
}

func TestTokens(t *testing.T) {
	for _, v := range read(t).Tokens {
		t.Run(v.Name, func(t *testing.T) {
			set := verifier.NewBlockSet()
			for _, e := range v.Entries {
				set.Add(e.wire())
			}
			c := v.Token.Claims
			keys := []verifier.BlockKey{
				verifier.KeyOf(verifier.BlockJTI, c.JTI), verifier.KeyOf(verifier.BlockClient, c.ClientID),
				verifier.KeyOf(verifier.BlockKID, v.Token.KID),
			}
			if c.SID != "" {
				keys = append(keys, verifier.KeyOf(verifier.BlockSID, c.SID))
			}
			if got := set.Blocked(keys, c.IAT); got != v.Refused {
				t.Errorf("refused: %v, want %v", got, v.Refused)
			}
		})
	}
}

func TestFeeds(t *testing.T) {
	f := read(t)
	for _, v := range f.Feeds {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			i := &issuer{snapshot: v.Documents[0]}
			for _, changes := range v.Documents[1:] {
				i.transcript += fmt.Sprintf("event: entries\ndata: %s\n\n", changes)
			}
			follower := i.follow(t, f.Issuer)
			if v.Result == nil {
				if status := follower.Status(); status.Entries != 0 || status.Feed != verifier.FeedLoading || status.FeedErr == nil {
					t.Errorf("not refused: %+v", status)
				}
				return
			}
			i.holds(t, follower, *v.Result)
		})
	}
}

func TestStreams(t *testing.T) {
	f := read(t)
	for _, v := range f.Streams.Cases {
		for _, size := range []int{1, 1 << 20} {
			t.Run(fmt.Sprintf("%s, in pieces of %d", v.Name, size), func(t *testing.T) {
				t.Parallel()
				i := &issuer{snapshot: f.Streams.Snapshot, transcript: v.Transcript, piece: size, reset: v.Result.End == "reset"}
				i.holds(t, i.follow(t, f.Issuer), v.Result.state)
			})
		}
	}
}

// issuer serves one snapshot and one stream. After a reset it knows no cursor any more.
type issuer struct {
	url        string
	snapshot   json.RawMessage
	transcript string
	piece      int // bytes of the transcript that are sent at once; 0 for all
	reset      bool

	key *ecdsa.PrivateKey

	mu    sync.Mutex
	began bool
	ended bool
	next  []string // the cursor with which the follower comes back after the stream; after a reset it is empty
}

// follow returns a Verifier that has made its first attempt at the feed.
func (i *issuer) follow(t *testing.T, url string) *verifier.Verifier {
	t.Helper()
	i.url = url
	var err error
	if i.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(i)
	t.Cleanup(server.Close)
	// The issuer has a fixed name, and is here.
	client := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		r = r.Clone(r.Context())
		r.URL.Scheme, r.URL.Host = "http", server.Listener.Addr().String()
		return http.DefaultTransport.RoundTrip(r)
	})}
	v, err := verifier.New(t.Context(), url, verifier.WithAudience("api"), verifier.WithHTTPClient(client),
		verifier.WithPollInterval(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/.well-known/oauth-authorization-server":
		i.write(w, map[string]string{"issuer": i.url, "jwks_uri": i.url + "/jwks"})
	case "/jwks":
		key, err := verifier.NewJWK("key-1", i.key.Public())
		if err != nil {
			panic(err)
		}
		i.write(w, verifier.JWKSet{Keys: []verifier.JWK{key}})
	case "/v1/blocklist":
		i.blocklist(w, r.FormValue("after"))
	case "/v1/blocklist/stream":
		i.stream(w, cmp.Or(r.Header.Get("Last-Event-ID"), r.FormValue("after")))
	}
}

func (i *issuer) blocklist(w http.ResponseWriter, cursor string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case cursor == "":
		if i.ended && i.reset {
			i.next = append(i.next, cursor)
		}
		i.write(w, i.snapshot)
	case i.ended && i.reset:
		w.WriteHeader(http.StatusGone)
	default:
		w.WriteHeader(http.StatusNotModified)
	}
}

// stream sends the transcript once.
func (i *issuer) stream(w http.ResponseWriter, cursor string) {
	i.mu.Lock()
	again := i.began
	i.began = true
	if again && !i.reset {
		i.next = append(i.next, cursor)
	}
	i.mu.Unlock()
	if again {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	// Most transcripts leave the time before the follower comes back open.
	for piece := range slices.Chunk([]byte("retry: 100\n\n"+i.transcript), cmp.Or(i.piece, 1<<20)) {
		if _, err := w.Write(piece); err != nil || http.NewResponseController(w).Flush() != nil {
			break // the follower has left at an error or a reset
		}
	}
	i.mu.Lock()
	i.ended = true
	i.mu.Unlock()
}

// holds waits until the follower has come back from the stream, and compares what it knows.
func (i *issuer) holds(t *testing.T, follower *verifier.Verifier, want state) {
	t.Helper()
	var next string
	await(t, "the follower comes back", func() bool {
		i.mu.Lock()
		defer i.mu.Unlock()
		if len(i.next) == 0 {
			return false
		}
		next = i.next[0]
		return true
	})
	if next != want.Cursor {
		t.Errorf("cursor %q, want %q", next, want.Cursor)
	}
	// A poll may have come back before the stream was read to its end.
	await(t, fmt.Sprintf("the follower knows %d entries", len(want.Entries)),
		func() bool { return follower.Status().Entries == len(want.Entries) })
	for _, e := range want.Entries {
		for iat, refused := range map[int64]bool{int64(e.NotBefore): true, int64(e.NotBefore) + 1: false} {
			_, err := follower.Verify(t.Context(), i.mint(t, e, iat))
			if errors.Is(err, verifier.ErrBlocked) != refused || err != nil && !refused {
				t.Errorf("token with %s %q minted at %d: %v, want refused %v", e.Kind, e.Value, iat, err, refused)
			}
		}
	}
}

// mint returns a token that only e can refuse.
func (i *issuer) mint(t *testing.T, e entry, iat int64) string {
	t.Helper()
	claims := map[string]any{
		"iss": i.url, "aud": "api", "sub": "usr_1", "jti": "free", "client_id": "free", "sid": "free", "scope": "",
		"iat": iat, "exp": time.Now().Unix() + 600,
	}
	claims[string(e.Kind)] = e.Value
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed := encode([]byte(`{"alg":"ES256","kid":"key-1","typ":"at+jwt"}`)) + "." + encode(payload)
	hash := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, hash[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + encode(signature)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (i *issuer) write(w io.Writer, v any) {
	if raw, ok := v.(json.RawMessage); ok {
		_, _ = w.Write(raw) // the follower may be gone
		return
	}
	_ = json.NewEncoder(w).Encode(v)
}

// await polls until condition holds.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("timed out: " + what)
		}
	}
}
