package feed

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/token"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// blocklist is GET /v1/blocklist: all entries, or with ?after=CURSOR those added since.
func (r *Room) blocklist(c echo.Context) error {
	if !r.Limits.Readers.Enter(c.RealIP()) {
		return tooMany()
	}
	defer r.Limits.Readers.Leave(c.RealIP())
	ctx := c.Request().Context()
	if err := r.Blocklist.Fresh(ctx); err != nil {
		return err
	}
	signed := strings.Contains(c.Request().Header.Get("Accept"), signedFeed)
	h := c.Response().Header()
	h.Set("Cache-Control", "no-cache") // a cache must ask each time, and is answered 304 while nothing has changed
	h.Add("Vary", "Accept")
	after := c.QueryParam("after")
	if after == "" {
		return r.snapshot(c, signed)
	}
	asOf := r.Blocklist.HeardAt()
	changes, _, err := r.Blocklist.Since(ctx, after)
	if err != nil {
		return err
	}
	change := merge(after, changes)
	h.Set("ETag", r.etag(change.Cursor, signed))
	if door.MatchesETag(c.Request(), h.Get("ETag")) {
		return c.NoContent(http.StatusNotModified)
	}
	feed := r.feed(change, asOf)
	if !signed {
		body, err := json.Marshal(feed)
		if err != nil {
			return err
		}
		return writeCompressed(c, "application/json", body)
	}
	raw, err := r.signFeed(ctx, feed)
	if err != nil {
		return err
	}
	return writeCompressed(c, signedFeed, []byte(raw))
}

// snapshot answers the whole list.
func (r *Room) snapshot(c echo.Context, signed bool) error {
	h := c.Response().Header()
	h.Set("ETag", r.etag(r.Blocklist.Cursor(), signed))
	if door.MatchesETag(c.Request(), h.Get("ETag")) {
		return c.NoContent(http.StatusNotModified)
	}
	document := r.snapshots.take(r.Blocklist)
	defer r.snapshots.giveBack(document)
	body, compressed, err := document.body(c.Request().Context(), r, signed, acceptsGzip(c.Request()))
	if err != nil {
		return err
	}
	h.Set("ETag", r.etag(document.change.Cursor, signed))
	h.Add("Vary", "Accept-Encoding")
	if compressed {
		h.Set("Content-Encoding", "gzip")
	}
	contentType := "application/json"
	if signed {
		contentType = signedFeed
	}
	return door.WriteBytes(c, http.StatusOK, contentType, body)
}

// etag is the tag of a document that stands at a cursor. One that is signed may not be believed for ever, so it is another one
// each minute.
func (r *Room) etag(cursor string, signed bool) string {
	if signed {
		return fmt.Sprintf(`"%s-%d"`, cursor, r.Door.Now().Unix()/60)
	}
	return `"` + cursor + `"`
}

// tooMany refuses a caller while enough others are served, or enough from the same address.
func tooMany() *door.Problem {
	return &door.Problem{
		Status:     http.StatusServiceUnavailable,
		Code:       "busy",
		Title:      "Too many read at once",
		Detail:     "try again after the time in Retry-After",
		RetryAfter: time.Second,
	}
}

const (
	// signedFeed is the media type of the document as a JWT, which a cache that nobody has to trust can carry.
	signedFeed = "application/blocklist+jwt"
	// signedFeedLifetime is how long a signed document may be believed.
	signedFeedLifetime = 5 * time.Minute
)

func (r *Room) signFeed(ctx context.Context, feed verifier.Feed) (string, error) {
	now := r.Door.Now()
	return r.Minter.Sign(ctx, token.TypeBlocklist, "", struct {
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

func (r *Room) feed(change blocklist.Change, asOf time.Time) verifier.Feed {
	entries := change.Entries
	if entries == nil {
		entries = verifier.Entries{}
	}
	return verifier.Feed{Issuer: r.Door.Issuer(), Cursor: change.Cursor, AsOf: asOf.UTC(), Entries: entries}
}
