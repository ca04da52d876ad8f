package feed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/verifier"
)

const (
	// heartbeatEvery is the longest silence of a stream.
	heartbeatEvery = 5 * time.Second
	// streamWriteTimeout ends the stream of a follower that does not read. It comes back with its last cursor.
	streamWriteTimeout = 10 * time.Second
)

// stream is GET /v1/blocklist/stream: server-sent events after the cursor in Last-Event-ID or ?after=.
func (r *Room) stream(c echo.Context) error {
	if !r.Limits.Streams.Enter(c.RealIP()) {
		return tooMany()
	}
	defer r.Limits.Streams.Leave(c.RealIP())
	ctx := c.Request().Context()
	cursor := c.Request().Header.Get("Last-Event-ID")
	if cursor == "" {
		cursor = c.QueryParam("after")
	}
	h := c.Response().Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back
	s := &follower{c: c, control: http.NewResponseController(c.Response())}
	c.Response().WriteHeader(http.StatusOK)
	if c.Request().Method == http.MethodHead { // whose answer ends here (RFC 9110, section 9.3.2)
		return nil
	}
	r.Followers.Inc()
	defer r.Followers.Dec()
	err := s.follow(ctx, r, cursor)
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the follower left, or the service is stopping; both are a stream's ordinary end
	}
	return err
}

// follower writes server-sent events to one follower.
type follower struct {
	c       echo.Context
	control *http.ResponseController
}

func (s *follower) follow(ctx context.Context, r *Room, cursor string) error {
	if err := s.send([]byte("retry: 1000\n\n")); err != nil {
		return err
	}
	heartbeat := time.NewTicker(heartbeatEvery)
	defer heartbeat.Stop()
	for due := true; ; { // the follower learns at once that it is up to date
		asOf := r.Blocklist.HeardAt() // before looking, so that it claims no more than is told
		changes, next, err := r.Blocklist.Since(ctx, cursor)
		if errors.Is(err, blocklist.ErrCursorGone) {
			return s.send([]byte("event: reset\ndata: {}\n\n"))
		}
		if err != nil {
			return err // the follower comes back with its last cursor
		}
		if change := merge(cursor, changes); change.Cursor != cursor {
			if len(change.Entries) > 0 {
				event, err := r.events.encode(cursor, change.Cursor, r.feed(change, asOf))
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
		case <-r.Door.Stopping():
			return nil
		case <-next:
		case <-heartbeat.C:
			due = true
		}
	}
}

// send writes one event or more. Each write gets its own time; without one the server's limit for whole responses would end
// the stream.
func (s *follower) send(text []byte) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(streamWriteTimeout)); err != nil {
		return err
	}
	if _, err := s.c.Response().Write(text); err != nil {
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

// events remembers the newest "entries" event: nearly all followers stand at one cursor and are owed the same one.
type events struct {
	mu       sync.Mutex
	from, to string
	event    []byte
}

// encode returns the event that takes a follower from one cursor to another. What this replica sent one follower
// between the two is enough for another.
func (e *events) encode(from, to string, feed verifier.Feed) ([]byte, error) {
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
