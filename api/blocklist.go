package api

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
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
	etag := `"` + change.Cursor + `"`
	h.Set("ETag", etag)
	h.Set("Cache-Control", "no-cache") // a cache must ask each time, and is answered 304 while nothing has changed
	h.Add("Vary", "Accept")
	if matchesETag(c.Request(), etag) {
		return c.NoContent(http.StatusNotModified)
	}
	feed := a.feed(change, asOf)
	if !strings.Contains(c.Request().Header.Get("Accept"), signedFeed) {
		body, err := json.Marshal(feed)
		if err != nil {
			return err
		}
		return writeCompressed(c, "application/json", body)
	}
	signed, err := a.signFeed(ctx, feed)
	if err != nil {
		return err
	}
	return writeCompressed(c, signedFeed, []byte(signed))
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
	s := &stream{c: c, control: http.NewResponseController(c.Response()), w: bufio.NewWriter(c.Response())}
	c.Response().WriteHeader(http.StatusOK)
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
	w       *bufio.Writer
}

func (s *stream) follow(ctx context.Context, a *API, cursor string) error {
	if err := s.send("retry: 1000\n\n"); err != nil {
		return err
	}
	heartbeat := time.NewTicker(heartbeatEvery)
	defer heartbeat.Stop()
	first := true
	for {
		changes, next, err := a.Blocklist.Since(ctx, cursor)
		if errors.Is(err, blocklist.ErrCursorGone) {
			return s.send("event: reset\ndata: {}\n\n")
		}
		if err != nil {
			return err // the follower comes back with its last cursor
		}
		if len(changes) > 0 {
			change := merge(cursor, changes)
			if len(change.Entries) > 0 {
				if err := s.event("entries", change.Cursor, a.feed(change, a.Blocklist.HeardAt())); err != nil {
					return err
				}
			}
			cursor = change.Cursor
		}
		if first { // the follower learns at once that it is up to date
			first = false
			if err := s.beat(a, cursor); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.stopping:
			return nil
		case <-next:
		case <-heartbeat.C:
			if err := s.beat(a, cursor); err != nil {
				return err
			}
		}
	}
}

// beat says how recently this replica has looked. One that is cut off from the database falls silent, so that its followers know.
func (s *stream) beat(a *API, cursor string) error {
	heard := a.Blocklist.HeardAt()
	if time.Since(heard) >= heartbeatEvery {
		return nil
	}
	return s.event("heartbeat", cursor, verifier.Heartbeat{AsOf: heard.UTC()})
}

func (s *stream) event(name, id string, data any) error {
	body, err := json.Marshal(data)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "event: %s\nid: %s\ndata: %s\n\n", name, id, body)
	return s.send(b.String())
}

func (s *stream) send(text string) error {
	// Each write gets its own time; without one the server's limit for whole responses would end the stream.
	if err := s.control.SetWriteDeadline(time.Now().Add(streamWriteTimeout)); err != nil {
		return err
	}
	if _, err := s.w.WriteString(text); err != nil {
		return err
	}
	if err := s.w.Flush(); err != nil {
		return err
	}
	return s.control.Flush()
}
