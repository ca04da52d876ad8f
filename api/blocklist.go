package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/token"
	"github.com/handstamp/handstamp/pkg/verifier"
)

const (
	streamPath = "/v1/blocklist/stream"
	// heartbeatEvery is the longest silence of a stream.
	heartbeatEvery = 5 * time.Second
	// streamWriteTimeout ends the stream of a follower that does not read. It comes back with its last cursor.
	streamWriteTimeout = 10 * time.Second
)

// blocklist is GET /v1/blocklist: all entries, or with ?after=CURSOR those added since.
func (a *API) blocklist(c echo.Context) error {
	ctx := c.Request().Context()
	if err := a.Blocklist.Fresh(ctx); err != nil {
		return err
	}
	asOf := a.Blocklist.HeardAt()
	var change blocklist.Change
	if after := c.QueryParam("after"); after != "" {
		changes, _, err := a.Blocklist.Since(ctx, after)
		if err != nil {
			return err
		}
		change = merge(after, changes)
	} else {
		change = a.Blocklist.Snapshot()
	}
	h := c.Response().Header()
	signed := strings.Contains(c.Request().Header.Get("Accept"), signedFeed)
	etag := `"` + change.Cursor + `"`
	if signed { // which may not be believed for ever, so it is another one each minute
		etag = fmt.Sprintf(`"%s-%d"`, change.Cursor, time.Now().Unix()/60)
	}
	h.Set("ETag", etag)
	h.Set("Cache-Control", "no-cache") // a cache must ask each time, and is answered 304 while nothing has changed
	h.Add("Vary", "Accept")
	if matchesETag(c.Request(), etag) {
		return c.NoContent(http.StatusNotModified)
	}
	feed := a.feed(change, asOf)
	if !signed {
		body, err := json.Marshal(feed)
		if err != nil {
			return err
		}
		return writeCompressed(c, "application/json", body)
	}
	raw, err := a.signFeed(ctx, feed)
	if err != nil {
		return err
	}
	return writeCompressed(c, signedFeed, []byte(raw))
}

// compressFrom is the size from which compressing pays.
const compressFrom = 1 << 10

// writeCompressed writes a large public document with gzip if the caller takes it. Nothing secret and nothing that a caller chose stands in it, so its size
// tells nothing (RFC 9110, section 12.5.3).
func writeCompressed(c echo.Context, contentType string, body []byte) error {
	h := c.Response().Header()
	h.Add("Vary", "Accept-Encoding")
	if len(body) < compressFrom || !acceptsGzip(c.Request()) {
		return writeBytes(c, http.StatusOK, contentType, body)
	}
	var small bytes.Buffer
	w, err := gzip.NewWriterLevel(&small, gzip.BestSpeed) // entries are hashes: only base64 can be squeezed out of them
	if err != nil {
		return err
	}
	if _, err := w.Write(body); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	h.Set("Content-Encoding", "gzip")
	return writeBytes(c, http.StatusOK, contentType, small.Bytes())
}

func acceptsGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(coding), ";")
		if name == "gzip" {
			return strings.TrimSpace(weight) != "q=0"
		}
	}
	return false
}

const (
	// signedFeed is the media type of the document as a JWT, which a cache that nobody has to trust can carry.
	signedFeed = "application/blocklist+jwt"
	// signedFeedLifetime is how long a signed document may be believed.
	signedFeedLifetime = 5 * time.Minute
)

func (a *API) signFeed(ctx context.Context, feed verifier.Feed) (string, error) {
	now := time.Now()
	return a.Minter.Sign(ctx, token.TypeBlocklist, "", struct {
		verifier.Feed
		IssuedAt  int64 `json:"iat"`
		ExpiresAt int64 `json:"exp"`
	}{feed, now.Unix(), now.Add(signedFeedLifetime).Unix()})
}

// merge joins changes into one, which stands at the last one's cursor.
func merge(cursor string, changes []blocklist.Change) blocklist.Change {
	out := blocklist.Change{Cursor: cursor}
	for _, change := range changes {
		out.Entries = append(out.Entries, change.Entries...)
		out.Cursor = change.Cursor
	}
	return out
}

func (a *API) feed(change blocklist.Change, asOf time.Time) verifier.Feed {
	entries := change.Entries
	if entries == nil {
		entries = verifier.Entries{}
	}
	return verifier.Feed{Issuer: a.config.Issuer, Cursor: change.Cursor, AsOf: asOf.UTC(), Entries: entries}
}

// blocklistStream is GET /v1/blocklist/stream: server-sent events after the cursor in Last-Event-ID or ?after=.
func (a *API) blocklistStream(c echo.Context) error {
	ctx := c.Request().Context()
	cursor := c.Request().Header.Get("Last-Event-ID")
	if cursor == "" {
		cursor = c.QueryParam("after")
	}
	h := c.Response().Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back
	s := &stream{c: c, control: http.NewResponseController(c.Response())}
	c.Response().WriteHeader(http.StatusOK)
	if c.Request().Method == http.MethodHead { // whose answer ends here (RFC 9110, section 9.3.2)
		return nil
	}
	a.Metrics.Followers.Inc()
	defer a.Metrics.Followers.Dec()
	err := s.follow(ctx, a, cursor)
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the follower left, or the service is stopping; both are a stream's ordinary end
	}
	return err
}

// stream writes server-sent events to one follower.
type stream struct {
	c       echo.Context
	control *http.ResponseController
}

func (s *stream) follow(ctx context.Context, a *API, cursor string) error {
	if err := s.send([]byte("retry: 1000\n\n")); err != nil {
		return err
	}
	heartbeat := time.NewTicker(heartbeatEvery)
	defer heartbeat.Stop()
	for due := true; ; { // the follower learns at once that it is up to date
		asOf := a.Blocklist.HeardAt() // before looking, so that it claims no more than is told
		changes, next, err := a.Blocklist.Since(ctx, cursor)
		if errors.Is(err, blocklist.ErrCursorGone) {
			return s.send([]byte("event: reset\ndata: {}\n\n"))
		}
		if err != nil {
			return err // the follower comes back with its last cursor
		}
		if change := merge(cursor, changes); change.Cursor != cursor {
			if len(change.Entries) > 0 {
				event, err := a.feedEvents.encode(cursor, change.Cursor, a.feed(change, asOf))
				if err == nil {
					err = s.send(event)
				}
				if err != nil {
					return err
				}
			}
			cursor = change.Cursor
		}
		// A replica that is cut off from the database falls silent, so that its followers know.
		if due && time.Since(asOf) < heartbeatEvery {
			event, err := newEvent("heartbeat", cursor, verifier.Heartbeat{AsOf: asOf.UTC()})
			if err == nil {
				err = s.send(event)
			}
			if err != nil {
				return err
			}
		}
		due = false
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.stopping:
			return nil
		case <-next:
		case <-heartbeat.C:
			due = true
		}
	}
}

// send writes one event or more. Each write gets its own time; without one the server's limit for whole responses would end the stream.
func (s *stream) send(events []byte) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(streamWriteTimeout)); err != nil {
		return err
	}
	if _, err := s.c.Response().Write(events); err != nil {
		return err
	}
	return s.control.Flush()
}

// newEvent returns a server-sent event.
func newEvent(name, id string, data any) ([]byte, error) {
	body, err := json.Marshal(data)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "event: %s\nid: %s\ndata: %s\n\n", name, id, body), nil
}

// feedEvents remembers the newest "entries" event: nearly all followers stand at one cursor and are owed the same one.
type feedEvents struct {
	mu       sync.Mutex
	from, to string
	event    []byte
}

// encode returns the event that takes a follower from one cursor to another. Whatever this replica told one follower between the
// two is enough for another.
func (e *feedEvents) encode(from, to string, feed verifier.Feed) ([]byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.event == nil || e.from != from || e.to != to {
		event, err := newEvent("entries", to, feed)
		if err != nil {
			return nil, err
		}
		e.from, e.to, e.event = from, to, event
	}
	return e.event, nil
}
