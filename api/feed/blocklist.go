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
	ctx := c.Request().Context()
	if err := r.Blocklist.Fresh(ctx); err != nil {
		return err
	}
	asOf := r.Blocklist.HeardAt()
	var change blocklist.Change
	if after := c.QueryParam("after"); after != "" {
		changes, _, err := r.Blocklist.Since(ctx, after)
		if err != nil {
			return err
		}
		change = merge(after, changes)
	} else {
		change = r.Blocklist.Snapshot()
	}
	h := c.Response().Header()
	signed := strings.Contains(c.Request().Header.Get("Accept"), signedFeed)
	etag := `"` + change.Cursor + `"`
	if signed { // which may not be believed for ever, so it is another one each minute
		etag = fmt.Sprintf(`"%s-%d"`, change.Cursor, r.Door.Now().Unix()/60)
	}
	h.Set("ETag", etag)
	h.Set("Cache-Control", "no-cache") // a cache must ask each time, and is answered 304 while nothing has changed
	h.Add("Vary", "Accept")
	if door.MatchesETag(c.Request(), etag) {
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
