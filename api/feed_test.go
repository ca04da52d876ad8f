package api_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/store/postgres/pgtest"
	"github.com/handstamp/handstamp/pkg/store/sqlite"
	"github.com/handstamp/handstamp/pkg/verifier"
)

var blockedNames atomic.Int64

// blockOne adds an entry on a replica and returns its key.
func blockOne(ctx context.Context, s *servicetest.Service) (verifier.BlockKey, error) {
	entry := blocklist.NewEntry(verifier.BlockJTI, fmt.Sprint("jti-", blockedNames.Add(1)), s.Sessions.BlockUntil())
	return entry.Key, s.Store.Block(ctx, entry, audit.Event{At: time.Now(), Kind: audit.KindTokenRevoked, Actor: audit.ActorCLI})
}

func mustBlock(t testing.TB, s *servicetest.Service) verifier.BlockKey {
	t.Helper()
	key, err := blockOne(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// getFeed reads the feed of a replica after a cursor, empty for a snapshot.
func getFeed(t testing.TB, s *servicetest.Service, cursor string) verifier.Feed {
	t.Helper()
	r := s.Get(t, feedPath(cursor), "")
	want(t, "feed", r, http.StatusOK, "")
	var feed verifier.Feed
	r.JSON(t, &feed)
	return feed
}

func feedPath(cursor string) string {
	if cursor == "" {
		return "/v1/blocklist"
	}
	return "/v1/blocklist?after=" + url.QueryEscape(cursor)
}

// keysOf are the keys in a feed document.
func keysOf(feed verifier.Feed) map[verifier.BlockKey]bool {
	keys := map[verifier.BlockKey]bool{}
	for e := range feed.Entries.All() {
		keys[e.Key] = true
	}
	return keys
}

// cursorWith waits until a replica's feed has an entry and returns the cursor after it.
func cursorWith(t testing.TB, s *servicetest.Service, key verifier.BlockKey) string {
	t.Helper()
	var feed verifier.Feed
	servicetest.Eventually(t, "the entry is in the feed", func() bool {
		feed = getFeed(t, s, "")
		return keysOf(feed)[key]
	})
	return feed.Cursor
}

func TestFeed(t *testing.T) {
	t.Parallel()
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		begin := getFeed(t, s, "").Cursor
		p := signUp(t, s)
		session := verifier.KeyOf(verifier.BlockSID, sid(t, p.AccessToken))
		want(t, "logout", s.JSON(t, http.MethodPost, "/v1/logout", p.AccessToken, nil), http.StatusNoContent, "")
		now := cursorWith(t, s, session)

		for name, path := range map[string]string{"ok/snapshot": feedPath(""), "ok/changes": feedPath(begin)} {
			t.Run(name, func(t *testing.T) {
				r := s.Get(t, path, "")
				want(t, "feed", r, http.StatusOK, "")
				var fields map[string]any
				r.JSON(t, &fields)
				if len(fields) != 4 || fields["iss"] != s.Config.Issuer || fields["cursor"] != now {
					t.Errorf("fields: %v", fields)
				}
				asOf, err := time.Parse(time.RFC3339Nano, fmt.Sprint(fields["as_of"]))
				if err != nil || time.Since(asOf) < 0 || time.Since(asOf) > 5*time.Second {
					t.Errorf("as_of: %v, %v", fields["as_of"], err)
				}
				var feed verifier.Feed
				r.JSON(t, &feed)
				if feed.Entries.Len() != 1 || !keysOf(feed)[session] {
					t.Errorf("%d entries", feed.Entries.Len())
				}
				if h := r.Header; h.Get("ETag") != `"`+now+`"` || h.Get("Cache-Control") != "no-cache" ||
					h.Get("Content-Type") != "application/json" || !strings.Contains(strings.Join(h.Values("Vary"), ","), "Accept") {
					t.Errorf("header: %v", h)
				}
			})
		}
		t.Run("ok/nothing has changed", func(t *testing.T) {
			if feed := getFeed(t, s, now); feed.Entries == nil || feed.Entries.Len() != 0 || feed.Cursor != now {
				t.Errorf("feed: %+v", feed)
			}
			for _, path := range []string{feedPath(""), feedPath(now)} {
				for _, tag := range []string{`"` + now + `"`, `W/"` + now + `"`, `"x", "` + now + `"`} {
					r := s.Do(t, http.MethodGet, path, header("If-None-Match", tag), nil)
					if r.Status != http.StatusNotModified || r.Body != "" || r.Header.Get("ETag") != `"`+now+`"` {
						t.Errorf("%s with %s: %d %s", path, tag, r.Status, r.Body)
					}
				}
			}
			r := s.Do(t, http.MethodGet, feedPath(begin), header("If-None-Match", `"`+begin+`"`), nil)
			want(t, "something has changed", r, http.StatusOK, "")
		})
		t.Run("ok/every origin", func(t *testing.T) {
			r := s.Do(t, http.MethodGet, feedPath(""), header("Origin", "https://anywhere.example"), nil)
			if r.Header.Get("Access-Control-Allow-Origin") != "*" || r.Header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("header: %v", r.Header)
			}
		})
		t.Run("fail/cursor gone", func(t *testing.T) {
			elsewhere := getFeed(t, servicetest.Start(t, servicetest.SQLite(t)), "").Cursor
			for _, cursor := range []string{"nonsense", now[1:], "A" + now, ".", "." + now, elsewhere, strings.Repeat("A", 10_000)} {
				want(t, cut(cursor), s.Get(t, feedPath(cursor), ""), http.StatusGone, "cursor_gone")
			}
		})
		t.Run("ok/signed", func(t *testing.T) {
			r := s.Do(t, http.MethodGet, feedPath(""), header("Accept", "application/blocklist+jwt"), nil)
			want(t, "signed", r, http.StatusOK, "")
			if got := r.Header.Get("Content-Type"); got != "application/blocklist+jwt" {
				t.Errorf("content type %q", got)
			}
			parsed, err := jwt.Parse(r.Body, published(t, s), jwt.WithExpirationRequired())
			if err != nil {
				t.Fatal(err)
			}
			payload, _ := json.Marshal(parsed.Claims)
			var feed struct {
				verifier.Feed
				IssuedAt  int64 `json:"iat"`
				ExpiresAt int64 `json:"exp"`
			}
			if err := json.Unmarshal(payload, &feed); err != nil {
				t.Fatal(err)
			}
			if parsed.Header["typ"] != "blocklist+jwt" {
				t.Errorf("header: %v", parsed.Header)
			}
			if feed.Issuer != s.Config.Issuer || feed.Cursor != now || !keysOf(feed.Feed)[session] {
				t.Errorf("claims: %+v", feed)
			}
			if lives := feed.ExpiresAt - feed.IssuedAt; lives <= 60 || lives > 600 {
				t.Errorf("may be believed for %d s", lives)
			}
			tag := r.Header.Get("ETag")
			if tag == `"`+now+`"` {
				t.Error("the signed document can be taken for one that never expires")
			}
			if _, err := follow(t, s).Verify(t.Context(), r.Body); !errors.Is(err, verifier.ErrInvalid) {
				t.Errorf("as an access token: %v", err)
			}
		})
		t.Run("ok/compressed", func(t *testing.T) {
			for range 100 {
				mustBlock(t, s)
			}
			cursorWith(t, s, mustBlock(t, s))
			for coding, zipped := range map[string]bool{
				"gzip":           true,
				"br, gzip;q=0.5": true,
				"gzip;q=0":       false,
				"identity":       false,
				"br":             false,
			} {
				r := s.Do(t, http.MethodGet, feedPath(""), header("Accept-Encoding", coding), nil)
				body := []byte(r.Body)
				if (r.Header.Get("Content-Encoding") == "gzip") != zipped ||
					!strings.Contains(strings.Join(r.Header.Values("Vary"), ","), "Accept-Encoding") {
					t.Errorf("%s: %v", coding, r.Header)
				}
				if zipped {
					z, err := gzip.NewReader(bytes.NewReader(body))
					if err != nil {
						t.Fatal(err)
					}
					if body, err = io.ReadAll(z); err != nil {
						t.Fatal(err)
					}
				}
				var feed verifier.Feed
				if err := json.Unmarshal(body, &feed); err != nil || feed.Entries.Len() != 102 {
					t.Errorf("%s: %d entries, %v", coding, feed.Entries.Len(), err)
				}
			}
		})
	})
}

func cut(s string) string { return s[:min(len(s), 40)] }

// published finds a key in the JWKS as any library would.
func published(t testing.TB, s *servicetest.Service) jwt.Keyfunc {
	t.Helper()
	var set verifier.JWKSet
	s.Get(t, "/.well-known/jwks.json", "").JSON(t, &set)
	return func(token *jwt.Token) (any, error) {
		for _, k := range set.Keys {
			if k.Kid == token.Header["kid"] && k.Alg == token.Method.Alg() {
				return k.Public()
			}
		}
		return nil, errors.New("unknown key")
	}
}

// follow returns a verifier that follows the feed of one replica and talks to no other.
func follow(t testing.TB, s *servicetest.Service, options ...verifier.Option) *verifier.Verifier {
	t.Helper()
	address := strings.TrimPrefix(s.URL, "http://")
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}}
	t.Cleanup(client.CloseIdleConnections)
	v, err := verifier.New(t.Context(), s.Config.Issuer, append([]verifier.Option{
		verifier.WithAudience(s.Config.Audience...), verifier.WithHTTPClient(client),
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// feedEvent is one event of the stream.
type feedEvent struct {
	name, id string
	feed     verifier.Feed // of an entries event
	asOf     time.Time     // of a heartbeat
}

// feedStream is an open stream.
type feedStream struct {
	header http.Header
	lines  *bufio.Scanner
	close  func()
}

// openStream follows a replica after a cursor, given as the header field has it, or in the query.
func openStream(ctx context.Context, s *servicetest.Service, lastEventID, query string) (*feedStream, error) {
	ctx, cancel := context.WithCancel(ctx)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/v1/blocklist/stream"+query, nil)
	if err != nil {
		cancel()
		return nil, err
	}
	r.Header.Set("Accept-Encoding", "gzip")
	if lastEventID != "" {
		r.Header.Set("Last-Event-ID", lastEventID)
	}
	transport := &http.Transport{}
	response, err := transport.RoundTrip(r) //nolint:bodyclose // closed by the follower's end
	if err != nil {
		cancel()
		return nil, err
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 64<<20)
	return &feedStream{response.Header, lines, func() {
		cancel()
		_ = response.Body.Close()
		transport.CloseIdleConnections()
	}}, nil
}

func mustOpenStream(t testing.TB, s *servicetest.Service, lastEventID, query string) *feedStream {
	t.Helper()
	f, err := openStream(t.Context(), s, lastEventID, query)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.close)
	return f
}

// next reads one event; io.EOF when the stream has ended.
func (f *feedStream) next() (feedEvent, error) {
	var e feedEvent
	for f.lines.Scan() {
		field, value, _ := strings.Cut(f.lines.Text(), ": ")
		var err error
		switch field {
		case "event":
			e.name = value
		case "id":
			e.id = value
		case "retry":
			e.name, e.id = field, value
		case "data":
			switch e.name {
			case "entries":
				err = json.Unmarshal([]byte(value), &e.feed)
			case "heartbeat":
				var beat verifier.Heartbeat
				err = json.Unmarshal([]byte(value), &beat)
				e.asOf = beat.AsOf
			}
		case "":
			return e, nil
		}
		if err != nil {
			return feedEvent{}, err
		}
	}
	if err := f.lines.Err(); err != nil {
		return feedEvent{}, err
	}
	return feedEvent{}, io.EOF
}

func (f *feedStream) mustNext(t testing.TB, name string) feedEvent {
	t.Helper()
	e, err := f.next()
	if err != nil || e.name != name {
		t.Fatalf("event %q, %v, want %s", e.name, err, name)
	}
	return e
}

func TestFeedStream(t *testing.T) {
	t.Parallel()
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		begin := getFeed(t, s, "").Cursor
		t.Run("ok/from now on", func(t *testing.T) {
			f := mustOpenStream(t, s, begin, "")
			if h := f.header; h.Get("Content-Type") != "text/event-stream" || h.Get("Cache-Control") != "no-store" ||
				h.Get("Content-Encoding") != "" {
				t.Errorf("header: %v", h)
			}
			if e := f.mustNext(t, "retry"); e.id != "1000" {
				t.Errorf("retry %s", e.id)
			}
			beat := f.mustNext(t, "heartbeat")
			if beat.id != begin || time.Since(beat.asOf) > 5*time.Second {
				t.Errorf("first heartbeat: %+v", beat)
			}
			key := mustBlock(t, s)
			e := f.mustNext(t, "entries")
			if e.feed.Entries.Len() != 1 || !keysOf(e.feed)[key] || e.id != e.feed.Cursor || e.feed.Issuer != s.Config.Issuer ||
				!e.feed.AsOf.After(beat.asOf) {
				t.Errorf("entries: %+v", e)
			}
			started := time.Now()
			beat = f.mustNext(t, "heartbeat")
			if beat.id != e.id || !beat.asOf.After(e.feed.AsOf) {
				t.Errorf("heartbeat: %+v after %+v", beat, e)
			}
			t.Logf("heartbeat after %v", time.Since(started).Round(time.Millisecond))
		})
		t.Run("ok/resumed", func(t *testing.T) {
			key := mustBlock(t, s)
			now := cursorWith(t, s, key)
			for name, f := range map[string]*feedStream{
				"Last-Event-ID": mustOpenStream(t, s, begin, ""),
				"after":         mustOpenStream(t, s, "", "?after="+url.QueryEscape(begin)),
				// where a reconnecting EventSource stands
				"Last-Event-ID and after": mustOpenStream(t, s, begin, "?after="+url.QueryEscape(now)),
			} {
				f.mustNext(t, "retry")
				if e := f.mustNext(t, "entries"); !keysOf(e.feed)[key] || e.id != now {
					t.Errorf("%s: %+v", name, e)
				}
				if e := f.mustNext(t, "heartbeat"); e.id != now {
					t.Errorf("%s: heartbeat at %s", name, e.id)
				}
			}
		})
		t.Run("fail/reset", func(t *testing.T) {
			for _, cursor := range []string{"", "nonsense"} {
				f := mustOpenStream(t, s, cursor, "")
				f.mustNext(t, "retry")
				f.mustNext(t, "reset")
				if _, err := f.next(); !errors.Is(err, io.EOF) {
					t.Errorf("after the reset: %v", err)
				}
			}
		})
		t.Run("ok/the service stops", func(t *testing.T) {
			f := mustOpenStream(t, s, begin, "")
			f.mustNext(t, "retry")
			s.API.Stop()
			for {
				if _, err := f.next(); errors.Is(err, io.EOF) {
					return
				} else if err != nil {
					t.Fatal(err)
				}
			}
		})
	})
}

// hopper is a follower that goes to another replica each time, and remembers what it was told.
type hopper struct {
	replicas []*servicetest.Service
	at       int
	cursor   string
	known    map[verifier.BlockKey]bool
}

func (h *hopper) take(feed verifier.Feed) {
	for e := range feed.Entries.All() {
		h.known[e.Key] = true
	}
	h.cursor = feed.Cursor
}

func (h *hopper) hop() *servicetest.Service {
	h.at++
	return h.replicas[h.at%len(h.replicas)]
}

// poll asks the next replica.
func (h *hopper) poll(ctx context.Context) error {
	r, err := h.hop().Try(ctx, http.MethodGet, feedPath(h.cursor), nil, nil)
	if err != nil {
		return err
	}
	if r.Status != http.StatusOK {
		return fmt.Errorf("feed: %d %s", r.Status, r.Body)
	}
	var feed verifier.Feed
	if err := json.Unmarshal([]byte(r.Body), &feed); err != nil {
		return err
	}
	h.take(feed)
	return nil
}

// stream follows the next replica until it has told something, or that there is nothing.
func (h *hopper) stream(ctx context.Context) error {
	f, err := openStream(ctx, h.hop(), h.cursor, "")
	if err != nil {
		return err
	}
	defer f.close()
	for {
		e, err := f.next()
		switch {
		case err != nil:
			return err
		case e.name == "entries":
			h.take(e.feed)
			return nil
		case e.name == "heartbeat":
			h.cursor = e.id
			return nil
		case e.name == "reset":
			return errors.New("reset")
		}
	}
}

// Two replicas, writers on both, and followers that go from one to the other between any two answers.
func TestFeedSkipsNothing(t *testing.T) {
	t.Parallel()
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		a := servicetest.Start(t, db)
		b := servicetest.Start(t, db, sameIssuer(a))
		begin := getFeed(t, a, "").Cursor

		const writers, each = 6, 25
		var mu sync.Mutex
		written := map[verifier.BlockKey]bool{}
		var writing, following sync.WaitGroup
		for i := range writers {
			writing.Go(func() {
				for range each {
					key, err := blockOne(t.Context(), []*servicetest.Service{a, b}[i%2])
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					written[key] = true
					mu.Unlock()
				}
			})
		}
		done, give := make(chan struct{}), time.Now().Add(30*time.Second)
		missing := func(h *hopper) (n int) {
			mu.Lock()
			defer mu.Unlock()
			for key := range written {
				if !h.known[key] {
					n++
				}
			}
			return n
		}
		for i := range 6 {
			following.Go(func() {
				h := &hopper{replicas: []*servicetest.Service{a, b}, at: i, cursor: begin, known: map[verifier.BlockKey]bool{}}
				step := h.poll
				if i%2 == 1 {
					step = h.stream
				}
				for over := false; !over; {
					if err := step(t.Context()); err != nil {
						t.Error(err)
						return
					}
					select {
					case <-done:
						over = missing(h) == 0 || time.Now().After(give)
					default:
					}
				}
				if n := missing(h); n > 0 {
					t.Errorf("follower %d was not told of %d entries", i, n)
				}
			})
		}
		writing.Wait()
		close(done)
		following.Wait()
		if len(written) != writers*each {
			t.Errorf("%d entries were written", len(written))
		}
	})
}

// Three transactions write in one order and commit in each possible one, while followers go from replica to replica.
func TestFeedInEveryCommitOrder(t *testing.T) {
	t.Parallel()
	db := servicetest.Postgres(t)
	a := servicetest.Start(t, db)
	b := servicetest.Start(t, db, sameIssuer(a))
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			var hoppers []*hopper
			for i := range 4 {
				hoppers = append(hoppers, &hopper{
					replicas: []*servicetest.Service{a, b},
					at:       i,
					cursor:   getFeed(t, a, "").Cursor,
					known:    map[verifier.BlockKey]bool{},
				})
			}
			step := func() {
				for i, h := range hoppers {
					next := h.poll
					if i > 1 {
						next = h.stream
					}
					if err := next(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			var transactions []pgx.Tx
			var keys []verifier.BlockKey
			for range 3 {
				tx, err := connect(t, db.URL).Begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				key := verifier.KeyOf(verifier.BlockJTI, fmt.Sprint("held-", blockedNames.Add(1)))
				until := time.Now().Add(time.Hour).Unix()
				if _, err := tx.Exec(t.Context(), `INSERT INTO blocklist (key, not_before, drop_after) VALUES ($1, $2, $2)`, key[:],
					until); err != nil {
					t.Fatal(err)
				}
				if _, err := tx.Exec(t.Context(), `SELECT pg_notify('handstamp', '')`); err != nil {
					t.Fatal(err)
				}
				transactions, keys = append(transactions, tx), append(keys, key)
				mustBlock(t, []*servicetest.Service{a, b}[len(keys)%2]) // a later number that is committed earlier
				step()
			}
			for _, i := range order {
				if err := transactions[i].Commit(t.Context()); err != nil {
					t.Fatal(err)
				}
				step()
				mustBlock(t, []*servicetest.Service{a, b}[i%2])
				step()
			}
			servicetest.Eventually(t, "every follower knows every entry", func() bool {
				step()
				for _, h := range hoppers {
					for _, key := range keys {
						if !h.known[key] {
							return false
						}
					}
				}
				return true
			})
		})
	}
}

func connect(t testing.TB, databaseURL string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.WithoutCancel(t.Context())) })
	return c
}

// A follower's cursor outlives the replica that gave it.
func TestFeedAfterRestart(t *testing.T) {
	t.Parallel()
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		begin := getFeed(t, s, "").Cursor
		key := mustBlock(t, s)
		now := cursorWith(t, s, key)
		s.Stop()
		again := servicetest.Start(t, db, sameIssuer(s))
		if feed := getFeed(t, again, begin); !keysOf(feed)[key] {
			t.Error("an entry of before was skipped")
		}
		f := mustOpenStream(t, again, now, "")
		f.mustNext(t, "retry")
		later := mustBlock(t, again)
		for {
			e, err := f.next()
			if err != nil {
				t.Fatal(err)
			}
			if keysOf(e.feed)[later] {
				return
			}
		}
	})
}

// A standby takes over, and what the primary alone knew of its history is gone. Followers refuse what they refused, and
// learn what is new.
func TestFeedAfterFailover(t *testing.T) {
	t.Parallel()
	primary := pgtest.NewCluster(t)
	standby := primary.Standby()
	db := servicetest.Database{
		Name: "postgres",
		URL:  "postgres://postgres@" + primary.Host() + "," + standby.Host() + "/postgres?sslmode=disable",
	}
	a := servicetest.Start(t, db)
	b := servicetest.Start(t, db, sameIssuer(a))
	before, after := signUp(t, a), signUp(t, a)
	old := getFeed(t, b, "").Cursor
	v := follow(t, b)
	want(t, "logout", a.JSON(t, http.MethodPost, "/v1/logout", before.AccessToken, nil), http.StatusNoContent, "")
	servicetest.Eventually(t, "refused", func() bool { return refusedBy(t, v, before.AccessToken) })
	until := connect(t, standby.URL())
	servicetest.Eventually(t, "the standby follows", func() bool {
		var n int
		return until.QueryRow(t.Context(), `SELECT count(*) FROM blocklist`).Scan(&n) == nil && n == 1
	})
	primary.Crash()
	standby.Promote()
	servicetest.Eventually(t, "recovered", func() bool {
		return a.JSON(t, http.MethodPost, "/v1/logout", after.AccessToken, nil).Status == http.StatusNoContent
	})
	started := time.Now()
	servicetest.Eventually(t, "refused after the failover", func() bool { return refusedBy(t, v, after.AccessToken) })
	t.Logf("refused %v after the answer", time.Since(started).Round(time.Millisecond))
	if !refusedBy(t, v, before.AccessToken) {
		t.Error("what was refused before is accepted again")
	}
	want(t, "a cursor of the old history", b.Get(t, feedPath(old), ""), http.StatusGone, "cursor_gone")
}

// refusedBy reports whether a verifier knows that a token is revoked. Any other answer than that and yes fails the test.
func refusedBy(t testing.TB, v *verifier.Verifier, accessToken string) bool {
	t.Helper()
	_, err := v.Verify(t.Context(), accessToken)
	if err != nil && !errors.Is(err, verifier.ErrInvalid) {
		t.Fatalf("verify: %v", err)
	}
	return err != nil
}

// hooked is a store whose feed a test holds up or breaks.
type hooked struct {
	store.Store
	before func() error // of each reading of the blocklist
}

func (s *hooked) BlocklistChanges(ctx context.Context, cursor string) (blocklist.Changes, error) {
	if err := s.before(); err != nil {
		return blocklist.Changes{}, err
	}
	return s.Store.BlocklistChanges(ctx, cursor)
}

// A replica answers nobody before it has the blocklist.
func TestREV06_ColdStart(t *testing.T) {
	t.Parallel()
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		p := signUp(t, s)
		want(t, "logout", s.JSON(t, http.MethodPost, "/v1/logout", p.AccessToken, nil), http.StatusNoContent, "")
		s.Stop()

		t.Run("ok/slow database", func(t *testing.T) {
			var address string
			var once sync.Once
			slow := db
			slow.Wrap = func(st store.Store) store.Store {
				return &hooked{st, func() error {
					once.Do(func() {
						for _, path := range []string{"/readyz", "/v1/me", "/v1/blocklist"} {
							ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
							defer cancel()
							r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
							if err != nil {
								t.Error(err)
								return
							}
							r.Header.Set("Authorization", "Bearer "+p.AccessToken)
							if response, err := http.DefaultClient.Do(r); err == nil {
								_ = response.Body.Close()
								t.Errorf("%s: %s before the blocklist is loaded", path, response.Status)
							}
						}
					})
					return nil
				}}
			}
			again := servicetest.Start(t, slow, sameIssuer(s), func(c *service.Config) { address = c.Listen })
			want(t, "the first request", again.Get(t, "/v1/me", p.AccessToken), http.StatusUnauthorized, "invalid_token")
		})
		t.Run("fail/broken database", func(t *testing.T) {
			c := s.Config
			log := slog.New(slog.DiscardHandler)
			st, err := service.OpenCurrentStore(t.Context(), c, log)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = st.Close() })
			down := errors.New("down")
			running, err := service.New(t.Context(), c, &hooked{st, func() error { return down }}, log, prometheus.NewRegistry())
			if !errors.Is(err, down) {
				t.Errorf("started without a blocklist: %v, %v", running, err)
			}
		})
	})
}

// A replica that cannot read the blocklist any more says so, and does not call silence freshness.
func TestREV06_BlocklistLost(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	db := servicetest.SQLite(t)
	db.Wrap = func(st store.Store) store.Store {
		return &hooked{st, func() error {
			if broken.Load() {
				return errors.New("down")
			}
			return nil
		}}
	}
	s := servicetest.Start(t, db)
	p := signUp(t, s)
	f := mustOpenStream(t, s, getFeed(t, s, "").Cursor, "")
	f.mustNext(t, "retry")
	f.mustNext(t, "heartbeat")
	want(t, "before", s.Get(t, "/v1/me", p.AccessToken), http.StatusOK, "")
	broken.Store(true)
	since := time.Now()
	for path, token := range map[string]string{"/v1/me": p.AccessToken, "/v1/blocklist": "", "/readyz": ""} {
		servicetest.Eventually(t, path+" answers 503",
			func() bool { return s.Get(t, path, token).Status == http.StatusServiceUnavailable })
	}
	silent := make(chan struct{})
	go func() { // one heartbeat may still tell of the last reading
		defer close(silent)
		for {
			e, err := f.next()
			if err != nil {
				return
			}
			if e.asOf.After(since.Add(time.Second)) && broken.Load() {
				t.Errorf("%s claims %v, %v after the last reading", e.name, e.asOf, e.asOf.Sub(since))
			}
		}
	}()
	time.AfterFunc(6*time.Second, f.close)
	<-silent
	broken.Store(false)
	servicetest.Eventually(t, "the replica is back",
		func() bool { return s.Get(t, "/v1/me", p.AccessToken).Status == http.StatusOK })
}

// Without the connection that listens, polling brings a revocation to the other replica.
func TestREV07_LostWakeUps(t *testing.T) {
	t.Parallel()
	db := servicetest.Postgres(t)
	a := servicetest.Start(t, db)
	b := servicetest.Start(t, db, sameIssuer(a))
	v := follow(t, b)
	admin := connect(t, db.URL)
	ctx, stop := context.WithCancel(t.Context())
	var cutting sync.WaitGroup
	cut := 0
	cutting.Go(func() {
		for ctx.Err() == nil {
			tag, err := admin.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = `+
				`current_database() AND query LIKE 'LISTEN%'`)
			if err != nil {
				t.Error(err)
				return
			}
			cut += int(tag.RowsAffected())
		}
	})
	for range 3 {
		p := signUp(t, a)
		want(t, "logout", a.JSON(t, http.MethodPost, "/v1/logout", p.AccessToken, nil), http.StatusNoContent, "")
		started := time.Now()
		servicetest.Eventually(t, "refused without wake-ups", func() bool { return refusedBy(t, v, p.AccessToken) })
		t.Logf("refused %v after the answer", time.Since(started).Round(time.Millisecond))
	}
	stop()
	cutting.Wait()
	if cut == 0 {
		t.Error("no connection was cut")
	}
}

// gauge reads a figure.
func gauge(t testing.TB, g prometheus.Gauge) float64 {
	t.Helper()
	var m dto.Metric
	if err := g.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetGauge().GetValue()
}

// dialStream opens a stream without a goroutine that reads it.
func dialStream(t testing.TB, s *servicetest.Service, cursor string) *net.TCPConn {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := fmt.Fprintf(c, "GET /v1/blocklist/stream HTTP/1.1\r\nHost: x\r\nLast-Event-ID: %s\r\n\r\n", cursor); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// readUntil reads until a text has come.
func readUntil(t testing.TB, c net.Conn, buffer []byte, text string) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for end := 0; !bytes.Contains(buffer[:end], []byte(text)); {
		if end == len(buffer) {
			end = copy(buffer, buffer[end-len(text):])
		}
		n, err := c.Read(buffer[end:])
		if err != nil {
			t.Fatalf("waiting for %q: %v", text, err)
		}
		end += n
	}
}

// A follower that does not read is let go. Nobody else notices it.
func TestSlowFollower(t *testing.T) {
	t.Parallel()
	db := servicetest.SQLite(t)
	s := servicetest.Start(t, db)
	begin := getFeed(t, s, "").Cursor
	buffer := make([]byte, 64<<10)
	stuck := dialStream(t, s, begin)
	if err := stuck.SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	readUntil(t, stuck, buffer, "event: heartbeat")
	v := follow(t, s)
	if got := gauge(t, s.Followers); got < 1 {
		t.Fatalf("%v followers", got)
	}
	flood, err := sql.Open("sqlite", "file:"+strings.TrimPrefix(db.URL,
		sqlite.Prefix)+"?_pragma=busy_timeout(10000)&_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer flood.Close()
	const floods, each = 10, 20_000 // together far more than the buffers of a connection hold
	for range floods {
		_, err := flood.ExecContext(t.Context(), `BEGIN IMMEDIATE;
			UPDATE feed SET head = head + 1;
			WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
			INSERT INTO blocklist (key, not_before, drop_after, sequence) SELECT randomblob(16), ?2, ?2, (SELECT head FROM feed) FROM n;
			COMMIT`, each, time.Now().Add(time.Hour).Unix())
		if err != nil {
			t.Fatal(err)
		}
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for give := time.Now().Add(time.Minute); v.Status().Entries < floods*each; <-tick.C {
		if time.Now().After(give) {
			t.Fatalf("another follower does not keep up: %+v", v.Status())
		}
	}
	var slowest time.Duration
	rounds := 0
	for give := time.Now().Add(time.Minute); gauge(t, s.Followers) > 1; <-tick.C {
		if time.Now().After(give) {
			t.Fatal("the stream of a follower that does not read goes on")
		}
		rounds++
		p := signUp(t, s)
		started := time.Now()
		want(t, "logout", s.JSON(t, http.MethodPost, "/v1/logout", p.AccessToken, nil), http.StatusNoContent, "")
		servicetest.Eventually(t, "another follower hears of it", func() bool { return refusedBy(t, v, p.AccessToken) })
		slowest = max(slowest, time.Since(started))
	}
	t.Logf("the slowest of %d revocations took %v beside a follower that does not read", rounds, slowest.Round(time.Millisecond))
	if v.Status().Feed != verifier.FeedStream {
		t.Errorf("the other follower: %+v", v.Status())
	}
}

// memory is what the heap and the stacks take.
func memory() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// crowd opens many streams and returns them with the bytes of memory that each takes, both its ends together.
func crowd(t testing.TB, s *servicetest.Service, n int) ([]*net.TCPConn, uint64) {
	t.Helper()
	cursor := getFeed(t, s, "").Cursor
	before, buffer := memory(), make([]byte, 4<<10)
	connections := make([]*net.TCPConn, n)
	for i := range connections {
		connections[i] = dialStream(t, s, cursor)
		readUntil(t, connections[i], buffer, "event: heartbeat")
	}
	return connections, (memory() - before) / uint64(n) //nolint:gosec // positive
}

// followerMemory is the most that one follower may take of a replica's memory, in bytes.
const followerMemory = 48 << 10

func TestManyFollowers(t *testing.T) {
	s := servicetest.Start(t, servicetest.SQLite(t))
	const n = 1000
	connections, each := crowd(t, s, n)
	t.Logf("%d followers take %d bytes each", n, each)
	if each > followerMemory {
		t.Errorf("a follower takes %d bytes, more than the %d that are promised", each, followerMemory)
	}
	if got := gauge(t, s.Followers); got != n {
		t.Errorf("%v followers are counted", got)
	}
	mustBlock(t, s)
	started, buffer := time.Now(), make([]byte, 4<<10)
	for _, c := range connections {
		readUntil(t, c, buffer, "event: entries")
	}
	t.Logf("a revocation reached all of them within %v", time.Since(started).Round(time.Millisecond))
}

// BenchmarkFollowers takes one revocation to 5,000 followers of one replica.
func BenchmarkFollowers(b *testing.B) {
	s := servicetest.Start(b, servicetest.SQLite(b))
	connections, each := crowd(b, s, 5000)
	buffer := make([]byte, 4<<10)
	for b.Loop() {
		mustBlock(b, s)
		for _, c := range connections {
			readUntil(b, c, buffer, "event: entries")
		}
	}
	b.ReportMetric(float64(each), "B/follower")
}
