package bff

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/handstamp/handstamp/pkg/verifier"
)

// Session is the session of a request. Its tokens do not change while the request is answered.
type Session struct {
	// Claims are what the access token says: Subject is the user's ID, Roles and Scope are as of the last refresh.
	Claims *verifier.Claims

	bff   *BFF
	state *state
}

// visit is what Middleware knows of a request.
type visit struct {
	bff     *BFF
	session *Session
	err     error // ErrNoSession or ErrUnavailable
}

type visitKey struct{}

// SessionFrom returns the session of a request. It reports false if there is none, and outside of Middleware.
func SessionFrom(ctx context.Context) (*Session, bool) {
	v, ok := ctx.Value(visitKey{}).(*visit)
	if !ok || v.session == nil {
		return nil, false
	}
	return v.session, true
}

// AccessToken returns the access token, for calls that neither Transport nor Proxy makes. Never show it to the browser.
func (s *Session) AccessToken() string { return s.state.access }

// CreatedAt is when the user logged in here.
func (s *Session) CreatedAt() time.Time { return time.Unix(s.state.createdAt, 0) }

// ExpiresAt is when the session ends unless it is used before. The issuer may end it earlier.
func (s *Session) ExpiresAt() time.Time {
	return s.state.endsAt(s.bff.config.IdleLifetime, s.bff.config.Lifetime)
}

// Handle names the session in lists: see Info. It is empty for a sealed cookie. It is no secret.
func (s *Session) Handle() string { return handleOf(s.state.key) }

// IDClaim unmarshals a claim of the ID token into v, such as "name" or "email". It reports false if there is none.
func (s *Session) IDClaim(name string, v any) (bool, error) {
	return decodeIDToken(s.state.id, name, v)
}

// handleOf is a record's ID as a text.
func handleOf(id ID) string {
	if id == (ID{}) {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// Info is a session in a list.
type Info struct {
	Handle      string // for End
	SessionID   string // the issuer's name of it
	CreatedAt   time.Time
	RefreshedAt time.Time // when it was last in use, to about the lifetime of an access token
	ExpiresAt   time.Time
	UserAgent   string // of the browser that logged in, as it called itself
}

// Sessions returns the sessions of a user in this application, newest first. It returns ErrSealed without a Store.
func (b *BFF) Sessions(ctx context.Context, subject string) ([]Info, error) {
	if b.config.Store == nil {
		return nil, ErrSealed
	}
	records, err := b.config.Store.List(ctx, subject)
	if err != nil {
		return nil, fmt.Errorf("%w: store: %w", ErrUnavailable, err)
	}
	var list []Info
	for _, r := range records {
		s, err := b.opened(r)
		if err != nil || !time.Now().Before(r.ExpiresAt) {
			continue // nobody can use it
		}
		list = append(list, Info{
			Handle:      handleOf(r.ID),
			SessionID:   s.sid,
			CreatedAt:   r.CreatedAt,
			RefreshedAt: time.Unix(s.refreshedAt, 0),
			ExpiresAt:   r.ExpiresAt,
			UserAgent:   s.userAgent,
		})
	}
	return list, nil
}

// End ends one session of a user, here and at the issuer: handle is that of an Info. Another user's session, or one that is not
// there, is ErrNotFound. An error that wraps ErrUnavailable may mean that it has ended here, and that the issuer was not told.
func (b *BFF) End(ctx context.Context, subject, handle string) error {
	if b.config.Store == nil {
		return ErrSealed
	}
	raw, err := base64.RawURLEncoding.DecodeString(handle)
	if err != nil || len(raw) != len(ID{}) {
		return ErrNotFound
	}
	r, err := b.config.Store.Load(ctx, ID(raw))
	switch {
	case errors.Is(err, ErrNotFound), err == nil && r.Subject != subject:
		return ErrNotFound
	case err != nil:
		return fmt.Errorf("%w: store: %w", ErrUnavailable, err)
	}
	return b.end(ctx, Match{ID: r.ID})
}

// EndAll ends the sessions of a user in this application, here and at the issuer, but for the one whose handle is except.
func (b *BFF) EndAll(ctx context.Context, subject, except string) error {
	if b.config.Store == nil {
		return ErrSealed
	}
	if except == "" {
		return b.end(ctx, Match{Subject: subject})
	}
	records, err := b.config.Store.List(ctx, subject)
	if err != nil {
		return fmt.Errorf("%w: store: %w", ErrUnavailable, err)
	}
	var faults []error
	for _, r := range records {
		if handleOf(r.ID) != except {
			faults = append(faults, b.end(ctx, Match{ID: r.ID}))
		}
	}
	return errors.Join(faults...)
}

// end ends what matches in the Store, then at the issuer.
func (b *BFF) end(ctx context.Context, m Match) error {
	records, err := b.config.Store.End(ctx, m)
	if err != nil {
		return fmt.Errorf("%w: store: %w", ErrUnavailable, err)
	}
	return b.revokeAll(ctx, records)
}

// revokeAll tells the issuer that these sessions have ended, of which the Store knows nothing any more. The other processes hear
// of it from the issuer's feed.
func (b *BFF) revokeAll(ctx context.Context, records []Record) error {
	var faults []error
	for _, r := range records {
		b.forget(r)
		if s, err := b.opened(r); err == nil && s.refresh != "" {
			faults = append(faults, b.issuer.revoke(ctx, s.refresh))
		}
	}
	return errors.Join(faults...)
}

// forget makes this process refuse a session that has ended.
func (b *BFF) forget(r Record) {
	b.cached.remove(r.ID)
	b.ended.add(r.SessionID, time.Now().Add(endedAge))
}

// read returns the session in the cookies of a request, whether or not it is alive. The error is ErrNoSession or wraps
// ErrUnavailable.
func (b *BFF) read(r *http.Request) (*state, error) {
	text, ok := b.cookies.read(r)
	if !ok {
		return nil, ErrNoSession
	}
	if b.config.Store == nil {
		plain, err := b.sealer.open(forSession, b.cookies.name, text)
		if err != nil {
			return nil, ErrNoSession
		}
		s, err := decodeState(plain)
		if err != nil {
			return nil, ErrNoSession
		}
		return s, nil
	}
	if len(text) != idSize {
		return nil, ErrNoSession
	}
	id := ID(sha256.Sum256(text))
	cached, fresh := b.cached.get(id)
	if fresh {
		return cached, nil
	}
	s, err := b.load(r.Context(), id)
	if errors.Is(err, ErrUnavailable) && cached != nil {
		return cached, nil // the issuer's feed says whether it has ended
	}
	return s, err
}

// idSize is the length in bytes of the random number in a cookie, when the session is in a Store.
const idSize = 32

// load reads a session from the Store. The error is ErrNoSession or wraps ErrUnavailable.
func (b *BFF) load(ctx context.Context, id ID) (*state, error) {
	r, err := b.config.Store.Load(ctx, id)
	if errors.Is(err, ErrNotFound) {
		b.cached.remove(id)
		return nil, ErrNoSession
	}
	if err != nil {
		return nil, fmt.Errorf("%w: store: %w", ErrUnavailable, err)
	}
	s, err := b.opened(r)
	if err != nil {
		return nil, ErrNoSession // by a key that was taken out
	}
	b.cached.put(cachedState{s, time.Now()})
	return s, nil
}

// opened returns the session in a record.
func (b *BFF) opened(r Record) (*state, error) {
	plain, err := b.sealer.open(forRecord, hex.EncodeToString(r.ID[:]), r.Data)
	if err != nil {
		return nil, err
	}
	s, err := decodeState(plain)
	if err != nil {
		return nil, err
	}
	if s.subject != r.Subject || s.sid != r.SessionID {
		return nil, errState
	}
	s.key, s.version = r.ID, r.Version
	return s, nil
}

// record returns the record of a session in a Store.
func (b *BFF) record(s *state) Record {
	return Record{
		ID:        s.key,
		Version:   s.version,
		Subject:   s.subject,
		SessionID: s.sid,
		Data:      b.sealer.seal(forRecord, hex.EncodeToString(s.key[:]), s.encode()),
		CreatedAt: time.Unix(s.createdAt, 0),
		ExpiresAt: s.endsAt(b.config.IdleLifetime, b.config.Lifetime),
	}
}

// begin makes a session that has just been logged in to that of the browser. What the cookie said before is of no account
// (session fixation), and ends.
func (b *BFF) begin(w http.ResponseWriter, r *http.Request, s *state) error {
	old, err := b.read(r)
	if err == nil && old.sid != s.sid {
		if err := b.endState(r.Context(), old); err != nil {
			b.config.Log.WarnContext(r.Context(), "the session before a login was not ended", "session_id", old.sid, "error", err)
		}
	}
	if b.config.Store == nil {
		return b.writeSealed(w, r, s)
	}
	number := make([]byte, idSize)
	_, _ = rand.Read(number) // never fails, see crypto/rand
	s.key, s.version, s.userAgent = sha256.Sum256(number), 1, shortened(r.UserAgent())
	if err := b.config.Store.Create(r.Context(), b.record(s)); err != nil {
		return fmt.Errorf("%w: store: %w", ErrUnavailable, err)
	}
	b.cached.put(cachedState{s, time.Now()})
	if b.config.MaxSessions > 0 {
		trimmed, err := b.config.Store.Trim(r.Context(), s.subject, b.config.MaxSessions)
		if err = errors.Join(err, b.revokeAll(r.Context(), trimmed)); err != nil {
			b.config.Log.WarnContext(r.Context(), "sessions beyond the limit were not ended", "subject", s.subject, "error", err)
		}
	}
	return b.cookies.write(w, r, number, b.maxAge(s))
}

// writeSealed puts a session into the cookies of the browser.
func (b *BFF) writeSealed(w http.ResponseWriter, r *http.Request, s *state) error {
	return b.cookies.write(w, r, b.sealer.seal(forSession, b.cookies.name, s.encode()), b.maxAge(s))
}

// maxAge is the life of a cookie in seconds: to the absolute end, since the idle end is inside.
func (b *BFF) maxAge(s *state) int {
	return int(s.createdAt - time.Now().Unix() + int64(b.config.Lifetime.Seconds()))
}

// endState ends a session here and at the issuer. A sealed cookie cannot be taken back, but it has the refresh token: once the
// issuer has revoked that, it names the sid in its feed, and no refresh succeeds.
func (b *BFF) endState(ctx context.Context, s *state) error {
	if b.config.Store != nil {
		return b.end(ctx, Match{ID: s.key})
	}
	b.ended.add(s.sid, time.Now().Add(endedAge))
	if s.refresh == "" {
		return nil
	}
	return b.issuer.revoke(ctx, s.refresh)
}

// shortened is a text of a stranger, cut and without what is not printable ASCII.
func shortened(s string) string {
	const limit = 256
	out := make([]byte, 0, limit)
	for i := 0; i < len(s) && len(out) < limit; i++ {
		if s[i] >= ' ' && s[i] < 0x7f {
			out = append(out, s[i])
		}
	}
	return string(out)
}
