package bff

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/handstamp/handstamp/pkg/verifier"
)

// A login under way has a cookie of its own, so that those in several tabs do not disturb each other.
const (
	flowLifetime = 10 * time.Minute
	maxFlows     = 8
)

// clockLeeway is how far the clocks of issuer and application may differ.
const clockLeeway = 30 * time.Second

// flow is a login under way.
type flow struct {
	State    string `json:"s"`
	Nonce    string `json:"n"`
	PKCE     string `json:"p"`
	ReturnTo string `json:"r"`
	MaxAge   int    `json:"m"` // seconds; negative for none
	Began    int64  `json:"b"` // Unix seconds
}

// passedOn are the parameters of login that the issuer gets as they are.
func passedOn() []string {
	return []string{"prompt", "login_hint", "ui_locales", "acr_values", "provider"}
}

// login begins a login.
func (b *BFF) login(w http.ResponseWriter, r *http.Request) {
	m, err := b.issuer.metadata(r.Context())
	if err != nil {
		b.refuse(w, r, err)
		return
	}
	query := r.URL.Query()
	f := flow{
		State:    rand.Text(),
		Nonce:    rand.Text(),
		PKCE:     oauth2.GenerateVerifier(),
		ReturnTo: "/",
		MaxAge:   -1,
		Began:    time.Now().Unix(),
	}
	if back := query.Get("return_to"); ownPath(back) && !under(back, b.config.Prefix) {
		f.ReturnTo = back
	}
	options := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(f.PKCE), oauth2.SetAuthURLParam("nonce", f.Nonce)}
	for _, name := range passedOn() {
		if value := query.Get(name); value != "" && len(value) <= 256 {
			options = append(options, oauth2.SetAuthURLParam(name, value))
		}
	}
	if age, err := strconv.Atoi(query.Get("max_age")); err == nil && age >= 0 {
		f.MaxAge = age
		options = append(options, oauth2.SetAuthURLParam("max_age", strconv.Itoa(age)))
	}
	b.clearFlows(w, r)
	text, err := json.Marshal(f)
	if err != nil {
		b.refuse(w, r, err)
		return
	}
	name := b.flowCookie(f.State)
	sealed := base64.RawURLEncoding.EncodeToString(b.sealer.seal(forFlow, name, text))
	b.cookies.set(w, name, sealed, int(flowLifetime.Seconds()))
	to := b.issuer.oauth(m).AuthCodeURL(f.State, options...)
	http.Redirect(w, r, to, http.StatusSeeOther) //nolint:gosec // to the issuer; the query of r is in its query only
}

// under reports whether a path is prefix or below it: whoever came back to the login would go round.
func under(path, prefix string) bool {
	path, _, _ = strings.Cut(path, "?")
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

// flowCookie names the cookie of a login by its state, which it does not tell.
func (b *BFF) flowCookie(state string) string {
	sum := sha256.Sum256([]byte(state))
	return b.cookies.name + "-login-" + hex.EncodeToString(sum[:8])
}

// clearFlows makes room for another login: it clears what is no login of ours and the oldest, so that abandoned ones do not
// fill the headers of every request.
func (b *BFF) clearFlows(w http.ResponseWriter, r *http.Request) {
	type slot struct {
		name  string
		began int64
	}
	var slots []slot
	for _, c := range r.Cookies() {
		if strings.HasPrefix(c.Name, b.cookies.name+"-login-") {
			f, _ := b.openFlow(c.Name, c.Value)
			slots = append(slots, slot{c.Name, f.Began}) // 0 for none
		}
	}
	slices.SortFunc(slots, func(a, b slot) int { return cmp.Compare(b.began, a.began) })
	for i, s := range slots {
		if i >= maxFlows-1 || s.began == 0 {
			b.cookies.set(w, s.name, "", -1)
		}
	}
}

// openFlow reads a login's cookie.
func (b *BFF) openFlow(name, value string) (flow, error) {
	text, err := base64.RawURLEncoding.Strict().DecodeString(value)
	if err != nil {
		return flow{}, ErrFlow
	}
	plain, err := b.sealer.open(forFlow, name, text)
	if err != nil {
		return flow{}, ErrFlow
	}
	var f flow
	if err := json.Unmarshal(plain, &f); err != nil || time.Since(time.Unix(f.Began, 0)) > flowLifetime {
		return flow{}, ErrFlow
	}
	return f, nil
}

// callback ends a login.
func (b *BFF) callback(w http.ResponseWriter, r *http.Request) {
	f, s, err := b.finish(w, r)
	if errors.Is(err, ErrFlow) && b.visit(w, r).session != nil { // the address of a login that has ended, opened again
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	if err == nil {
		err = b.begin(w, r, s)
	}
	if err != nil {
		b.config.Log.InfoContext(r.Context(), "login failed", "error", err)
		b.refuse(w, r, err)
		return
	}
	http.Redirect(w, r, f.ReturnTo, http.StatusSeeOther)
}

// finish reads the issuer's answer in the order in which it can be believed: it belongs to a login of this browser (state), comes
// from the issuer (RFC 9207), and has a code, which nobody else has redeemed.
func (b *BFF) finish(w http.ResponseWriter, r *http.Request) (flow, *state, error) {
	query := r.URL.Query()
	for _, name := range []string{"state", "iss", "code", "error"} {
		if len(query[name]) > 1 { // RFC 6749, section 3.1
			return flow{}, nil, ErrFlow
		}
	}
	name := b.flowCookie(query.Get("state"))
	value, ok := one(r, name)
	if !ok {
		return flow{}, nil, ErrFlow
	}
	b.cookies.set(w, name, "", -1) // whatever comes of it
	f, err := b.openFlow(name, value)
	switch {
	case err != nil:
		return flow{}, nil, err
	case subtle.ConstantTimeCompare([]byte(f.State), []byte(query.Get("state"))) != 1:
		return flow{}, nil, ErrFlow
	case query.Get("iss") != b.issuer.url:
		return flow{}, nil, ErrIssuer
	case query.Has("error"):
		return flow{}, nil, &CallbackError{Code: shortened(query.Get("error")), Description: shortened(query.Get("error_description"))}
	case query.Get("code") == "":
		return flow{}, nil, ErrFlow
	}
	t, err := b.issuer.exchange(r.Context(), query.Get("code"), f.PKCE)
	if errors.Is(err, errInvalidGrant) {
		return flow{}, nil, fmt.Errorf("%w: the code was refused", ErrFlow)
	}
	if err != nil {
		return flow{}, nil, err
	}
	s, err := b.started(r.Context(), f, t)
	return f, s, err
}

// started returns the session that the tokens of a login make.
func (b *BFF) started(ctx context.Context, f flow, t tokens) (*state, error) {
	id, err := b.checkIDToken(ctx, t, idTokenWanted{nonce: f.Nonce, maxAge: f.MaxAge})
	if err != nil {
		return nil, err
	}
	claims, err := b.verifier.Verify(ctx, t.access)
	if errors.Is(err, verifier.ErrUnavailable) {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: access token: %w", ErrLogin, err)
	}
	if claims.ClientID != b.config.ClientID || claims.Subject != id.subject || claims.SessionID == "" ||
		id.sid != "" && claims.SessionID != id.sid {
		return nil, fmt.Errorf("%w: ID token and access token are not of one session", ErrLogin)
	}
	csrf := make([]byte, csrfSize)
	_, _ = rand.Read(csrf) // never fails, see crypto/rand
	now := time.Now().Unix()
	return &state{
		createdAt:   now,
		refreshedAt: now,
		csrf:        string(csrf),
		subject:     claims.Subject,
		sid:         claims.SessionID,
		access:      t.access,
		refresh:     t.refresh,
		id:          t.id,
	}, nil
}

// idTokenWanted is what an ID token must say: after a login, the nonce and, if maxAge is not negative, a login within so many
// seconds; after a refresh, the same subject.
type idTokenWanted struct {
	nonce   string
	maxAge  int
	subject string
}

// idToken is what we need of an ID token.
type idToken struct {
	subject, sid string
}

// checkIDToken validates an ID token (OpenID Connect Core, sections 3.1.3.7 and 12.2).
func (b *BFF) checkIDToken(ctx context.Context, t tokens, want idTokenWanted) (idToken, error) {
	wrong := func(what string) (idToken, error) { return idToken{}, fmt.Errorf("%w: ID token: %s", ErrLogin, what) }
	if t.id == "" {
		return wrong("there is none")
	}
	signed, err := b.verifier.VerifySigned(ctx, t.id, verifier.TypeJWT)
	if errors.Is(err, verifier.ErrUnavailable) {
		return idToken{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err != nil {
		return idToken{}, fmt.Errorf("%w: ID token: %w", ErrLogin, err)
	}
	c, err := readClaims(signed)
	if err != nil {
		return idToken{}, fmt.Errorf("%w: ID token: %w", ErrLogin, err)
	}
	now := time.Now()
	switch {
	case len(c.Audience) != 1 || c.Audience[0] != b.config.ClientID ||
		c.AuthorizedParty != "" && c.AuthorizedParty != b.config.ClientID:
		return wrong("aud")
	case c.Subject == "" || want.subject != "" && c.Subject != want.subject:
		return wrong("sub")
	case !now.Before(time.Unix(c.ExpiresAt, 0).Add(clockLeeway)):
		return wrong("exp")
	case c.IssuedAt == 0 || time.Unix(c.IssuedAt, 0).After(now.Add(clockLeeway)):
		return wrong("iat")
	case c.ATHash != "" && c.ATHash != hashOf(t.access):
		return wrong("at_hash")
	}
	if want.subject != "" { // a refresh: the nonce is left out, and auth_time is as before
		return idToken{c.Subject, c.SessionID}, nil
	}
	switch {
	case subtle.ConstantTimeCompare([]byte(c.Nonce), []byte(want.nonce)) != 1:
		return wrong("nonce")
	case want.maxAge >= 0 && now.Sub(time.Unix(c.AuthTime, 0)) > time.Duration(want.maxAge)*time.Second+clockLeeway:
		return wrong("auth_time is older than max_age")
	}
	return idToken{c.Subject, c.SessionID}, nil
}

// hashOf is at_hash (OpenID Connect Core, section 3.1.3.6) with SHA-256, which all our algorithms take.
func hashOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
}

// signedClaims are those of ID tokens and logout tokens.
type signedClaims struct {
	Subject         string
	Audience        []string
	AuthorizedParty string
	ExpiresAt       int64
	IssuedAt        int64
	AuthTime        int64
	Nonce           string
	ATHash          string
	SessionID       string
	ID              string
}

// readClaims reads the claims that it knows; each of them must have its JSON type.
func readClaims(signed *verifier.Signed) (signedClaims, error) {
	var c signedClaims
	var audience json.RawMessage
	for name, into := range map[string]any{
		"sub":       &c.Subject,
		"aud":       &audience,
		"azp":       &c.AuthorizedParty,
		"exp":       &c.ExpiresAt,
		"iat":       &c.IssuedAt,
		"auth_time": &c.AuthTime,
		"nonce":     &c.Nonce,
		"at_hash":   &c.ATHash,
		"sid":       &c.SessionID,
		"jti":       &c.ID,
	} {
		if _, err := signed.Decode(name, into); err != nil {
			return signedClaims{}, err
		}
	}
	if len(audience) > 0 && audience[0] == '"' {
		c.Audience = []string{""}
		return c, json.Unmarshal(audience, &c.Audience[0])
	}
	if len(audience) == 0 {
		return c, nil
	}
	return c, json.Unmarshal(audience, &c.Audience)
}

// decodeIDToken unmarshals a claim of an ID token that was checked before it was kept.
func decodeIDToken(raw, name string, v any) (bool, error) {
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return false, nil
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return false, err
	}
	var claims map[string]json.RawMessage
	if err := json.Unmarshal(payload, &claims); err != nil {
		return false, err
	}
	value, ok := claims[name]
	if !ok {
		return false, nil
	}
	return true, json.Unmarshal(value, v)
}

// me tells a page's script about the user.
func (b *BFF) me(w http.ResponseWriter, r *http.Request) {
	v := b.visit(w, r)
	if v.session == nil {
		b.refuse(w, r, v.err)
		return
	}
	s := v.session
	answer := map[string]any{}
	for _, name := range []string{"name", "given_name", "family_name", "preferred_username", "picture", "locale", "email",
		"email_verified"} {
		var value any
		if ok, err := s.IDClaim(name, &value); ok && err == nil {
			answer[name] = value
		}
	}
	answer["sub"] = s.Claims.Subject
	answer["roles"] = append([]string{}, s.Claims.Roles...)
	answer["scope"] = strings.Join(s.Claims.Scope, " ")
	answer["auth_time"] = s.Claims.AuthTime.UTC()
	answer["expires_at"] = s.ExpiresAt().UTC()
	answer["csrf_token"] = s.CSRFToken()
	writeJSON(w, http.StatusOK, answer)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the caller may be gone
}

// withQuery returns an address with further parameters.
func withQuery(address string, more url.Values) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	query := u.Query()
	maps.Copy(query, more)
	u.RawQuery = query.Encode()
	return u.String(), nil
}
