package api

import (
	"bufio"
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
		return writeJSON(c, http.StatusOK, "application/json", feed)
	}
	signed, err := a.signFeed(ctx, feed)
	if err != nil {
		return err
	}
	return writeBytes(c, http.StatusOK, signedFeed, []byte(signed))
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
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.stopping:
			return nil
		case <-next:
		case <-heartbeat.C:
			// A replica that is cut off from the database falls silent, so that its followers know.
			if heard := a.Blocklist.HeardAt(); time.Since(heard) < heartbeatEvery {
				if err := s.event("heartbeat", cursor, verifier.Heartbeat{AsOf: heard.UTC()}); err != nil {
					return err
				}
			}
		}
	}
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
