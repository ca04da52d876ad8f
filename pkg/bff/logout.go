package bff

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/handstamp/handstamp/pkg/verifier"
)

// logout ends the session of the browser here and at the issuer, and sends the browser on to the issuer's logout (OpenID Connect
// RP-Initiated Logout 1.0), where the user may be logged in still.
func (b *BFF) logout(w http.ResponseWriter, r *http.Request) {
	if err := b.checkOrigin(r); err != nil {
		b.refuse(w, r, err)
		return
	}
	target := b.config.LogoutPath
	if s, err := b.read(r); err == nil {
		if err := b.checkLogout(r, s); err != nil {
			b.refuse(w, r, err)
			return
		}
		if err := b.endState(r.Context(), s); err != nil { // the issuer's logout ends it, too
			b.config.Log.WarnContext(r.Context(), "the issuer was not told of a logout", "session_id", s.sid, "error", err)
			if b.config.Store != nil {
				if _, err := b.config.Store.Load(r.Context(), s.key); !errors.Is(err, ErrNotFound) {
					b.refuse(w, r, ErrUnavailable) // it has not ended: do not say so
					return
				}
			}
		}
		target = b.endSessionURL(r.Context(), s)
	} else if errors.Is(err, ErrUnavailable) {
		b.refuse(w, r, err)
		return
	}
	b.cookies.clear(w, r)
	if !isNavigation(r) && !acceptsHTML(r) {
		writeJSON(w, http.StatusOK, map[string]string{"location": target})
		return
	}
	http.Redirect(w, r, target, http.StatusSeeOther)
}

// checkLogout checks the CSRF token, unless Middleware has: it takes any session that ours were, so that whoever finds that the
// session has ended elsewhere can still log out here.
func (b *BFF) checkLogout(r *http.Request, s *state) error {
	if v, ok := r.Context().Value(visitKey{}).(*visit); ok && v.bff == b && v.session != nil {
		return nil
	}
	return checkToken(r, s)
}

// endSessionURL is where a browser goes to log out at the issuer and come back.
func (b *BFF) endSessionURL(ctx context.Context, s *state) string {
	m, err := b.issuer.metadata(ctx)
	if err != nil || m.EndSession == "" {
		return b.config.LogoutPath
	}
	address, err := withQuery(m.EndSession, url.Values{
		"client_id":                {b.config.ClientID},
		"id_token_hint":            {s.id},
		"post_logout_redirect_uri": {b.config.URL + b.config.LogoutPath},
	})
	if err != nil {
		return b.config.LogoutPath
	}
	return address
}

// isBackchannel reports whether a request is the issuer's, which has no CSRF token.
func (b *BFF) isBackchannel(r *http.Request) bool {
	return r.URL.Path == b.config.Prefix+"/backchannel-logout"
}

// backchannelLogout takes a logout token. It answers 400 whenever the session has not ended (section 2.8), so that the issuer
// tries again.
func (b *BFF) backchannelLogout(w http.ResponseWriter, r *http.Request) {
	err := b.endByToken(w, r)
	if err == nil {
		w.WriteHeader(http.StatusOK)
		return
	}
	b.config.Log.WarnContext(r.Context(), "logout token refused", "error", err)
	code, text := explain(err)
	writeJSON(w, http.StatusBadRequest, map[string]string{"error": code, "error_description": text})
}

func (b *BFF) endByToken(w http.ResponseWriter, r *http.Request) error {
	const maxBody = 2 * verifier.MaxTokenSize
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := r.ParseForm(); err != nil || len(r.PostForm["logout_token"]) != 1 {
		return fmt.Errorf("%w: not one logout_token in a form", ErrLogoutToken)
	}
	c, err := b.checkLogoutToken(r.Context(), r.PostForm.Get("logout_token"))
	if err != nil {
		return err
	}
	id, until := ID(sha256.Sum256([]byte(c.ID))), time.Unix(c.ExpiresAt, 0).Add(2*clockLeeway)
	if b.config.Store == nil {
		if !b.seen.add(id, until) {
			return fmt.Errorf("%w: jti was used", ErrLogoutToken)
		}
		// A token without sid is about all sessions of the user, whose sids the issuer's feed names one by one.
		if c.SessionID != "" {
			b.ended.add(c.SessionID, time.Now().Add(endedAge))
		}
		return nil
	}
	first, err := b.config.Store.Once(r.Context(), id, until)
	if err != nil {
		return fmt.Errorf("%w: store: %w", ErrUnavailable, err)
	}
	if !first {
		return fmt.Errorf("%w: jti was used", ErrLogoutToken)
	}
	match := Match{SessionID: c.SessionID}
	if c.SessionID == "" {
		match = Match{Subject: c.Subject}
	}
	records, err := b.config.Store.End(r.Context(), match)
	if err != nil {
		return fmt.Errorf("%w: store: %w", ErrUnavailable, err)
	}
	for _, record := range records { // the issuer knows
		b.forget(record)
	}
	if c.SessionID != "" {
		b.ended.add(c.SessionID, time.Now().Add(endedAge))
	}
	return nil
}

// Logout tokens (OpenID Connect Back-Channel Logout 1.0, section 2.4).
const (
	typeLogout        = "logout+jwt"
	logoutEvent       = "http://schemas.openid.net/event/backchannel-logout"
	maxLogoutTokenAge = 10 * time.Minute // so that what must be remembered of them is bounded
)

// checkLogoutToken validates a logout token (section 2.6). Step by step: it is not encrypted, and has the strict spelling, the
// signature and the issuer that VerifySigned demands.
func (b *BFF) checkLogoutToken(ctx context.Context, raw string) (signedClaims, error) {
	wrong := func(what string) (signedClaims, error) {
		return signedClaims{}, fmt.Errorf("%w: %s", ErrLogoutToken, what)
	}
	signed, err := b.verifier.VerifySigned(ctx, raw, typeLogout)
	if err != nil {
		return signedClaims{}, fmt.Errorf("%w: %w", ErrLogoutToken, err)
	}
	c, err := readClaims(signed)
	if err != nil {
		return signedClaims{}, fmt.Errorf("%w: %w", ErrLogoutToken, err)
	}
	var nonce json.RawMessage
	var events map[string]json.RawMessage
	hasNonce, _ := signed.Decode("nonce", &nonce)
	if _, err := signed.Decode("events", &events); err != nil {
		return wrong("events")
	}
	now, issuedAt := time.Now(), time.Unix(c.IssuedAt, 0)
	event := strings.TrimSpace(string(events[logoutEvent]))
	switch {
	case !slices.Contains(c.Audience, b.config.ClientID):
		return wrong("aud")
	case c.IssuedAt == 0 || issuedAt.After(now.Add(clockLeeway)) || now.Sub(issuedAt) > maxLogoutTokenAge:
		return wrong("iat")
	case !now.Before(time.Unix(c.ExpiresAt, 0).Add(clockLeeway)) || c.ExpiresAt-c.IssuedAt > int64(maxLogoutTokenAge.Seconds()):
		return wrong("exp")
	case c.Subject == "" && c.SessionID == "":
		return wrong("neither sub nor sid")
	case !strings.HasPrefix(event, "{"):
		return wrong("events has no logout")
	case hasNonce: // it would be an ID token
		return wrong("nonce")
	case c.ID == "":
		return wrong("jti")
	}
	return c, nil
}
