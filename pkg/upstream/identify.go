package upstream

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/oauth2"

	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/user"
)

const (
	idTokenLimit = 16 << 10        // bytes
	clockLeeway  = 5 * time.Minute // between the provider's clock and ours, for tokens from the future
	nameLimit    = 200             // characters
	subjectLimit = 255             // OpenID Connect Core 1.0, section 2
)

// identify finds out who the tokens are of.
func (p *Provider) identify(
	ctx context.Context,
	m *metadata,
	answer *oauth2.Token,
	nonce string,
	cb Callback,
) (*Identity, error) {
	switch p.cfg.Type {
	case GitHub:
		return p.githubIdentity(ctx, m, answer.AccessToken)
	case OAuth2:
		return p.oauth2Identity(ctx, m, answer.AccessToken)
	default: // an OpenID provider
	}
	raw, _ := answer.Extra("id_token").(string)
	token, c, err := p.verifyIDToken(ctx, m, raw, []string{p.cfg.ClientID})
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(nonce)) != 1 {
		return nil, p.fail(ErrInvalidAnswer, verifying, errNonce)
	}
	// Core, section 3.1.3.8: at_hash is optional here, but a wrong one is wrong.
	if token.AccessTokenHash != "" && token.VerifyAccessToken(answer.AccessToken) != nil {
		return nil, p.fail(ErrInvalidAnswer, verifying, errors.New("at_hash does not match"))
	}
	var fault error
	if p.cfg.Type == OIDC && m.Userinfo != "" && c.text("email") == "" && slices.Contains(p.cfg.Scopes, "email") {
		more, err := p.userinfo(ctx, m, answer.AccessToken, c)
		switch {
		case errors.Is(err, errForeign):
			return nil, err
		case err != nil:
			fault = err
			p.passOver(ctx, "userinfo", err)
		default:
			c = more
		}
	}
	id, err := p.openIDIdentity(c)
	if err == nil {
		id.EmailFault = fault
	}
	if err == nil && p.cfg.Type == Apple && id.Name == "" {
		id.Name = cleanText(appleName(cb.User), nameLimit)
	}
	return id, err
}

const verifying = "verify the ID token"

var (
	errNonce   = errors.New("nonce does not match")
	errForeign = errors.New("it is of another user than the ID token")
)

// VerifyIDToken accepts an ID token that a mobile application got from the provider for itself, with the nonce that the
// application chose. The token's nonce is that text or its SHA-256 in hexadecimal; the second form is the one to
// use, because then the token alone does not tell the nonce. The token is for the configured client ID or one of
// the native client IDs. Store.UseIDToken makes the token good for one login.
//
// Errors: ErrInvalidAnswer for a token that must not be believed, ErrNotAllowed, ErrNotSupported, ErrUnavailable,
// ErrMisconfigured.
func (p *Provider) VerifyIDToken(ctx context.Context, raw, nonce string) (*Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	m, err := p.metadata(ctx)
	if err != nil {
		return nil, err
	}
	if m.keys == nil {
		return nil, p.fail(ErrNotSupported, verifying, nil)
	}
	token, c, err := p.verifyIDToken(ctx, m, raw, append([]string{p.cfg.ClientID}, p.cfg.NativeClientIDs...))
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(nonce))
	plain := subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(nonce))
	hashed := subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(hex.EncodeToString(sum[:])))
	if nonce == "" || plain|hashed != 1 {
		return nil, p.fail(ErrInvalidAnswer, verifying, errNonce)
	}
	return p.openIDIdentity(c)
}

// verifyIDToken checks all of OpenID Connect Core 1.0, section 3.1.3.7 but the nonce. clients are the client IDs of
// ours for which the token may be.
func (p *Provider) verifyIDToken(ctx context.Context, m *metadata, raw string, clients []string) (*oidc.IDToken, claims, error) {
	invalid := func(text string) (*oidc.IDToken, claims, error) {
		return nil, nil, p.fail(ErrInvalidAnswer, verifying, errors.New(text))
	}
	if raw == "" {
		return invalid("there is none")
	}
	if len(raw) > idTokenLimit {
		return invalid("it is larger than 16 KiB")
	}
	// Fetched here, because a failure inside Verify would look like a bad signature.
	if _, err := m.keys.keys.load(ctx, keysAge); err != nil {
		return nil, nil, p.callFailed("fetch the provider's keys", err)
	}
	token, err := oidc.NewVerifier(m.Issuer, m.keys, &oidc.Config{
		SupportedSigningAlgs: m.Algorithms,
		SkipClientIDCheck:    true,                    // several may be right, and azp counts: below
		SkipIssuerCheck:      p.cfg.Type == Microsoft, // depends on the tenant: below
	}).Verify(ctx, raw)
	if err != nil {
		return nil, nil, p.idTokenFailed(ctx, err)
	}
	var c claims
	if token.Claims(&c) != nil {
		return invalid("claims are not an object")
	}
	switch {
	case c.text("sub") == "" || c.text("sub") != token.Subject || c.text("iss") != token.Issuer:
		return invalid("sub or iss is missing or ambiguous")
	case token.IssuedAt.Unix() <= 0 || token.IssuedAt.Sub(p.clock.Now()) > clockLeeway:
		return invalid("iat is missing or in the future")
	case !audienceAllowed(c, clients):
		return invalid("it is not for us")
	case p.cfg.Type == Microsoft && token.Issuer != strings.ReplaceAll(m.Issuer, tenantPlaceholder, c.text("tid")):
		return invalid(errIssuer.Error())
	}
	return token, c, nil
}

// idTokenFailed keeps go-oidc's own messages out, because they quote the token.
func (p *Provider) idTokenFailed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return p.fail(ErrUnavailable, verifying, ctx.Err())
	}
	if _, ok := errors.AsType[*oidc.TokenExpiredError](err); ok {
		return p.fail(ErrInvalidAnswer, verifying, errors.New("it has expired"))
	}
	return p.fail(ErrInvalidAnswer, verifying, errors.New("issuer, signature or form is wrong"))
}

// audienceAllowed implements Core, section 3.1.3.7, steps 3 to 5. A token for several parties must say that it was made
// for us, and azp must never name another: sibling applications of one operator are issued tokens by the same provider.
func audienceAllowed(c claims, clients []string) bool {
	audience := c.texts("aud")
	_, hasParty := c["azp"]
	if hasParty && !slices.Contains(clients, c.text("azp")) || !hasParty && len(audience) > 1 {
		return false
	}
	return slices.ContainsFunc(audience, func(a string) bool { return slices.Contains(clients, a) })
}

// userinfo adds what the provider says at its UserInfo endpoint, for providers that keep ID tokens short (Core, section
// 5.4).
func (p *Provider) userinfo(ctx context.Context, m *metadata, access string, idToken claims) (claims, error) {
	const doing = "read userinfo"
	var c claims
	if err := get(ctx, p.client, m.Userinfo, access, &c); err != nil {
		return nil, p.callFailed(doing, err)
	}
	// Core, section 5.3.2: otherwise it could be the answer to somebody else's access token.
	if c.text("sub") != idToken.text("sub") {
		return nil, p.fail(ErrInvalidAnswer, doing, errForeign)
	}
	for _, name := range []string{"iss", "aud", "auth_time"} {
		c[name] = idToken[name]
	}
	return c, nil
}

// openIDIdentity reads verified claims with what is particular to each provider.
func (p *Provider) openIDIdentity(c claims) (*Identity, error) {
	id := &Identity{
		Subject: c.text("sub"), Email: c.text("email"), EmailVerified: c.isTrue("email_verified"),
		Name: c.text("name"), Profile: user.ProfileOf(c.text), AuthTime: c.unix("auth_time"),
	}
	switch p.cfg.Type {
	case Google:
		// The suffix of the address proves nothing: anybody can have a Google account with an address of any domain.
		if p.cfg.HostedDomain != "" && c.text("hd") != p.cfg.HostedDomain {
			return nil, p.fail(ErrNotAllowed, verifying, nil)
		}
		// Google is the authority for its own addresses and those of Workspace domains. For any other it only
		// knows that the user received a mail once, perhaps before the address went to somebody else.
		id.EmailVerified = id.EmailVerified && (c.text("hd") != "" || strings.HasSuffix(strings.ToLower(id.Email), "@gmail.com"))
	case Apple:
		// Apple writes the text "true" as well as the value. From others the text is not taken for a yes.
		id.EmailVerified = c.isOneOf("email_verified", `true`, `"true"`)
	case Microsoft:
		return p.microsoftIdentity(c, id)
	default:
	}
	return p.finish(id)
}

// microsoftIdentity: the subject is the user's ID within the tenant, which all applications of an operator see alike
// (sub differs by application). The address is whatever the tenant's administrator wrote, unless xms_edov says that its
// domain is verified for the tenant.
func (p *Provider) microsoftIdentity(c claims, id *Identity) (*Identity, error) {
	tenant, object := c.text("tid"), c.text("oid")
	if !isTenantID(tenant) || !isTenantID(object) {
		return nil, p.fail(ErrInvalidAnswer, verifying, errors.New("tid or oid is missing"))
	}
	if len(p.cfg.Tenants) > 0 && !slices.Contains(p.cfg.Tenants, tenant) {
		return nil, p.fail(ErrNotAllowed, verifying, nil)
	}
	id.Subject = tenant + ":" + object
	if id.EmailVerified = c.isOneOf("xms_edov", `true`, `1`, `"1"`, `"true"`); !id.EmailVerified {
		id.Email = ""
	}
	return p.finish(id)
}

// oauth2Identity reads the user document of a server that is described by the configuration.
func (p *Provider) oauth2Identity(ctx context.Context, m *metadata, access string) (*Identity, error) {
	var c claims
	if err := get(ctx, p.client, m.Userinfo, access, &c); err != nil {
		return nil, p.callFailed("read the user", err)
	}
	names := p.cfg.Claims
	return p.finish(&Identity{
		Subject: c.key(names.Subject), Email: c.text(names.Email), Name: c.text(names.Name), Profile: user.ProfileOf(c.text),
		EmailVerified: names.EmailVerified != "" && c.isTrue(names.EmailVerified),
	})
}

// githubIdentity: the numeric ID is the subject, because a login name that its owner gives up can be taken by anybody.
// The address in the user document is the one that the user chose to show, verified or not; so it is not looked at.
func (p *Provider) githubIdentity(ctx context.Context, m *metadata, access string) (*Identity, error) {
	var profile claims
	if err := get(ctx, p.client, m.Userinfo, access, &profile); err != nil {
		return nil, p.callFailed("read the user", err)
	}
	id := &Identity{Name: profile.text("name"), Profile: user.ProfileOf(func(name string) string {
		return profile.text(map[string]string{"preferred_username": "login", "picture": "avatar_url", "website": "blog"}[name])
	})}
	if profile.text("id") == "" { // a number, never a text
		id.Subject = profile.key("id")
	}
	if id.Name == "" {
		id.Name = profile.text("login")
	}
	if id.Email, id.EmailFault = p.githubEmail(ctx, access); id.EmailFault != nil {
		p.passOver(ctx, "addresses of the user", id.EmailFault)
	}
	id.EmailVerified = id.Email != ""
	return p.finish(id)
}

// githubEmail is the user's primary address, if it is verified; else empty.
func (p *Provider) githubEmail(ctx context.Context, access string) (primary string, err error) {
	const doing = "read the user's addresses"
	var emails []json.RawMessage
	err = get(ctx, p.client, p.cfg.Endpoints.Emails+"?per_page=100", access, &emails)
	if errors.Is(err, statusError(http.StatusForbidden)) || errors.Is(err, statusError(http.StatusNotFound)) {
		return "", p.fail(ErrMisconfigured, doing,
			fmt.Errorf("%w: give the application at GitHub the permission to read addresses", err))
	}
	if err != nil {
		return "", p.callFailed(doing, err)
	}
	for _, raw := range emails {
		if e, err := parseClaims(raw); err == nil && e.isTrue("primary") && e.isTrue("verified") {
			primary = e.text("email")
		}
	}
	return primary, nil
}

// finish holds the identity to what every provider must give, and drops what is not usable.
func (p *Provider) finish(id *Identity) (*Identity, error) {
	if id.Subject == "" || len(id.Subject) > subjectLimit || !utf8.ValidString(id.Subject) ||
		strings.ContainsFunc(id.Subject, unicode.IsControl) {
		return nil, p.fail(ErrInvalidAnswer, "read the user", errors.New("there is no usable subject"))
	}
	id.Provider = p.cfg.ID
	id.Name = cleanText(id.Name, nameLimit)
	if email, err := user.ParseEmail(id.Email); err == nil {
		id.Email = email
	} else {
		id.Email, id.EmailVerified = "", false
	}
	return id, nil
}

// clientSecret is the configured one, or Apple's kind: a token that we sign for each request.
func (p *Provider) clientSecret() (seal.Secret, error) {
	if p.cfg.Type != Apple {
		return p.cfg.ClientSecret, nil
	}
	key, err := parseAppleKey(p.cfg.Apple.PrivateKey)
	if err != nil {
		return "", err
	}
	now := p.clock.Now()
	token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"iss": p.cfg.Apple.TeamID, "sub": p.cfg.ClientID, "aud": appleAudience,
		"iat": now.Unix(), "exp": now.Add(appleSecretLifetime).Unix(),
	})
	token.Header["kid"] = p.cfg.Apple.KeyID
	signed, err := token.SignedString(key)
	return seal.Secret(signed), err
}

// Apple demands this audience whatever the issuer setting says, and permits six months.
const (
	appleAudience       = "https://appleid.apple.com"
	appleSecretLifetime = 5 * time.Minute
)
