package oauth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/token"
	"github.com/handstamp/handstamp/pkg/user"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// DefaultClientID is the built-in public first-party client.
const DefaultClientID = "default"

// Sentinels of clients.
var (
	// ErrClientNotFound says that no client has this ID.
	ErrClientNotFound = errors.New("client not found")
	// ErrClientExists says that a client has this ID already.
	ErrClientExists = errors.New("client ID is taken")
	// ErrClientChanged says that the client is no longer what the caller has read: read it again.
	ErrClientChanged = errors.New("client was changed meanwhile")
)

// ClientType says whether a client can keep a secret (RFC 6749, section 2.1).
type ClientType string

// The client types.
const (
	Public       ClientType = "public"
	Confidential ClientType = "confidential"
)

// RefreshTransport says how a client's refresh tokens travel.
type RefreshTransport string

// The transports.
const (
	// TransportBody is in the bodies of requests and answers: the client keeps the token itself. Empty means it, too.
	TransportBody RefreshTransport = "body"
	// TransportCookie is in a cookie that no script can read: the browser keeps the token.
	TransportCookie RefreshTransport = "cookie"
)

// Validate fails unless the transport is one.
func (t RefreshTransport) Validate() error {
	switch t {
	case "", TransportBody, TransportCookie:
		return nil
	}
	return fmt.Errorf("%q is not one of %s, %s", string(t), TransportBody, TransportCookie)
}

// Client is a registered application.
type Client struct {
	ID           string
	Name         string
	Type         ClientType
	SecretHash   string // hex of SHA-256; the secret itself has 256 random bits, so a slow hash would add nothing
	RedirectURIs []string
	// PostLogoutRedirectURIs are where RP-initiated logout may send the browser.
	PostLogoutRedirectURIs []string
	BackchannelLogoutURI   string
	Origins                []string // that may call from a browser (CORS)
	Grants                 []string
	Scopes                 []string
	Audiences              []string
	ThirdParty             bool   // asks the user for consent
	NoAccount              bool   // the scope account is kept from it; from a third-party client it always is
	Algorithm              string // of the client's access tokens; empty for the service's
	// IDTokenAlgorithm signs what is meant for the client itself: ID tokens, logout tokens, security event tokens
	// (id_token_signed_response_alg). Empty: RS256 (OpenID Connect Dynamic Client Registration 1.0, section 2).
	IDTokenAlgorithm string
	// IDTokenClaims says whether claims of the granted scopes stand in ID tokens, besides userinfo (OpenID Connect Core,
	// section 5.4). Nil: if the client is the operator's own.
	IDTokenClaims   *bool
	GroupsClaim     string         // the claim of ID tokens that holds the user's roles; empty for none
	AccessTokenType string         // typ of access tokens: at+jwt (RFC 9068), which empty means, or JWT
	PKCEOptional    bool           // a confidential client may send authorization requests without code_challenge
	RefreshGrace    *time.Duration // 0 to 300 s; nil for the service's
	// RefreshTransport is how its refresh tokens travel.
	RefreshTransport RefreshTransport
	CreatedAt        time.Time
	UpdatedAt        time.Time
	DisabledAt       time.Time // zero while enabled
}

// MayAccount reports whether logins at the client may have the user's account (ScopeAccount).
func (c Client) MayAccount() bool { return !c.ThirdParty && !c.NoAccount }

// UsesCookie reports whether the browser keeps the client's refresh token in a cookie.
func (c Client) UsesCookie() bool { return c.RefreshTransport == TransportCookie }

// AlgorithmOfAccessTokens as IDTokenAlgorithm stands for the algorithm of the client's access tokens. Clients have it that
// were registered when there was one algorithm for both.
const AlgorithmOfAccessTokens = "access_token"

// OwnAlgorithm is the algorithm of what is signed for the client itself; empty for the service's.
func (c Client) OwnAlgorithm() string {
	switch c.IDTokenAlgorithm {
	case "":
		return verifier.RS256
	case AlgorithmOfAccessTokens:
		return c.Algorithm
	}
	return c.IDTokenAlgorithm
}

// ClaimsInIDToken reports whether ID tokens hold the claims of the granted scopes.
func (c Client) ClaimsInIDToken() bool {
	if c.IDTokenClaims == nil {
		return !c.ThirdParty
	}
	return *c.IDTokenClaims
}

// maxRefreshGrace is the longest grace period a client may have.
const maxRefreshGrace = 300 * time.Second

// Disabled reports whether the client may not be issued anything.
func (c Client) Disabled() bool { return !c.DisabledAt.IsZero() }

// Allows reports whether the client may use a grant.
func (c Client) Allows(grant string) bool { return slices.Contains(c.Grants, grant) }

// secretMatches compares a presented client secret in constant time. A client without a secret matches nothing.
func (c Client) secretMatches(secret string) bool {
	return subtle.ConstantTimeCompare([]byte(HashSecret(secret)), []byte(c.SecretHash)) == 1
}

// HashSecret is the stored form of a client secret.
func HashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// ClientStore is what clients need of a database.
type ClientStore interface {
	// CreateClient adds a client together with its event. ErrClientExists.
	CreateClient(ctx context.Context, c Client, e audit.Event) error
	// Client finds one. ErrClientNotFound.
	Client(ctx context.Context, id string) (Client, error)
	// Clients lists clients by ID, at most limit of them, those after the given ID.
	Clients(ctx context.Context, after string, limit int) ([]Client, error)
	// ClientChanges tells what has changed since a cursor; of everything, if it is empty. A change is told at least once,
	// in any order in which parallel transactions commit, from any replica. blocklist.ErrCursorGone if the cursor
	// is none of this database's present: ask for everything.
	ClientChanges(ctx context.Context, after string) (ClientChanges, error)
	// UpdateClient replaces all properties of a client but the time of its creation, together with an event, if it has not been
	// changed since a time, its UpdatedAt as the caller has read it. ErrClientChanged, ErrClientNotFound.
	UpdateClient(ctx context.Context, c Client, since time.Time, e audit.Event) error
	// DisableClient keeps a client out and blocks its access tokens. ErrClientNotFound.
	DisableClient(ctx context.Context, id string, at time.Time, entry blocklist.Entry, e audit.Event) error
	// DeleteClient is DisableClient for ever: the client's properties, consents, event stream and waiting logout tokens
	// go, and its sessions are listed no more. Sessions, codes and pushed requests are of no use, as with a disabled
	// client, and are swept at their end; the entry blocks its access tokens. Its ID is never used again, and its rows in
	// the audit log stay. ErrClientNotFound.
	DeleteClient(ctx context.Context, id string, at time.Time, entry blocklist.Entry, e audit.Event) error
}

// ClientChanges are the clients that have changed.
type ClientChanges struct {
	Cursor   string
	Complete bool     // these are all clients there are
	Changed  []Client // as they are now
	Deleted  []string // IDs
}

// Validate reports every fault of a client at once, each with its remedy.
func (c Client) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	if c.ID == "" || len(c.ID) > 128 || strings.ContainsFunc(c.ID, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }) {
		fault("id: use 1 to 128 printable ASCII characters without space and colon")
	}
	if strings.HasPrefix(c.ID, user.IDPrefix) {
		fault("id: must not start with %q, which user IDs start with", user.IDPrefix)
	}
	if _, err := user.ParseName(c.Name); err != nil {
		fault("name: %w", err)
	}
	if c.Type != Public && c.Type != Confidential {
		fault("type: %q is not one of public, confidential", c.Type)
	}
	if (c.Type == Confidential) != (c.SecretHash != "") {
		fault("secret: a confidential client has one, a public client has none")
	}
	for _, g := range c.Grants {
		if !slices.Contains(knownGrants(), g) {
			fault("grant: %q is not one of %s", g, strings.Join(knownGrants(), ", "))
		}
		if g == GrantClientCredentials && c.Type == Public {
			fault("grant: client_credentials needs a confidential client (RFC 6749, section 4.4)")
		}
	}
	if slices.Contains(c.Grants, GrantAuthorizationCode) && len(c.RedirectURIs) == 0 &&
		!slices.ContainsFunc(c.Origins, c.GatewayAt) {
		fault("redirect-uri: authorization_code needs at least one, or an https origin at which a gateway logs users in")
	}
	for _, u := range slices.Concat(c.RedirectURIs, c.PostLogoutRedirectURIs) {
		if err := validateRedirectURI(u); err != nil {
			fault("redirect-uri %q: %w", u, err)
		}
	}
	if c.BackchannelLogoutURI != "" {
		if u, err := url.Parse(c.BackchannelLogoutURI); err != nil || u.Host == "" || u.Fragment != "" || u.User != nil ||
			(u.Scheme != "https" && u.Scheme != "http") {
			fault("backchannel-logout-uri %q: must be an absolute http(s) address without fragment", c.BackchannelLogoutURI)
		}
	}
	for _, o := range c.Origins {
		if !isOrigin(o) {
			fault("origin %q: must be scheme://host[:port] in lower case and nothing else, as a browser sends it; not of file or data",
				o)
		}
	}
	for _, s := range c.Scopes {
		if !validScopeValue(s) {
			fault("scope %q: holds characters that RFC 6749, section 3.3 does not allow", s)
		}
	}
	if slices.Contains(c.Scopes, ScopeAccount) && !c.MayAccount() {
		fault("scope: %s opens the user's account, which a third-party client or one without the account cannot have", ScopeAccount)
	}
	for _, a := range c.Audiences {
		if a == "" {
			fault("audience: must not be empty")
		}
	}
	c.validateTokens(fault)
	if err := c.RefreshTransport.Validate(); err != nil {
		fault("refresh-transport: %w", err)
	}
	if c.UsesCookie() && c.Type == Confidential {
		fault("refresh-transport: cookie is for public clients, whose pages run in browsers; a back end keeps the token itself")
	}
	if c.RefreshGrace != nil && (*c.RefreshGrace < 0 || *c.RefreshGrace > maxRefreshGrace) {
		fault("refresh-grace: must be between 0s and %s", maxRefreshGrace)
	}
	return errors.Join(faults...)
}

// isOrigin reports whether a text is an origin as browsers send it (RFC 6454, section 6.2). Web views and extensions have schemes
// of their own, as in "capacitor://localhost" and "chrome-extension://…". What can be anybody's file has none.
func isOrigin(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Hostname() == "" || s != u.Scheme+"://"+u.Host ||
		strings.ToLower(s) != s || strings.ContainsAny(u.Host, "* ") {
		return false
	}
	return !slices.Contains([]string{"about", "blob", "data", "file", "filesystem", "javascript", "ws", "wss"}, u.Scheme)
}

// validateTokens is the part of Validate about what tokens look like.
func (c Client) validateTokens(fault func(format string, args ...any)) {
	algorithms := []string{verifier.ES256, verifier.EdDSA, verifier.RS256}
	if c.Algorithm != "" && !slices.Contains(algorithms, c.Algorithm) {
		fault("algorithm: %q is not one of %s", c.Algorithm, strings.Join(algorithms, ", "))
	}
	if c.IDTokenAlgorithm != "" && c.IDTokenAlgorithm != AlgorithmOfAccessTokens &&
		!slices.Contains(algorithms, c.IDTokenAlgorithm) {
		fault("id-token-signed-response-alg: %q is not one of %s", c.IDTokenAlgorithm, strings.Join(algorithms, ", "))
	}
	if c.PKCEOptional && c.Type == Public {
		fault("pkce: optional is for confidential clients; nothing else shows that a public client asked for the code (RFC 9700, " +
			"section 2.1.1)")
	}
	if c.AccessTokenType != "" && c.AccessTokenType != verifier.TypeAccessToken && c.AccessTokenType != verifier.TypeJWT {
		fault("access-token-typ: %q is not one of %s, %s", c.AccessTokenType, verifier.TypeAccessToken, verifier.TypeJWT)
	}
	if c.AccessTokenType == verifier.TypeJWT && slices.Contains(c.Audiences, c.ID) {
		fault("audience: with access-token-typ JWT it must differ from the client ID, or access tokens look like ID tokens")
	}
	if c.GroupsClaim != "" && !validGroupsClaim(c.GroupsClaim) {
		fault("groups-claim: %q is not 1 to 128 letters, digits and _.:/- that are no claim of another meaning", c.GroupsClaim)
	}
}

// validGroupsClaim keeps the name of the claim apart from what ID tokens and access tokens hold otherwise: an ID token that had
// client_id or jti could be taken for an access token of the type JWT.
func validGroupsClaim(name string) bool {
	if name == "groups" || name == "roles" {
		return true
	}
	return len(name) <= 128 && !token.Reserved(name) && !slices.Contains(personClaims(), name) &&
		!strings.ContainsFunc(name, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_.:/-", r)
		})
}

// validateRedirectURI allows https, http on loopback, and private-use schemes with a dot (RFC 8252, sections 7.1 to 7.3).
func validateRedirectURI(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme == "":
		return errors.New("must be an absolute URI")
	case strings.Contains(s, "#"):
		return errors.New("must not have a fragment (RFC 6749, section 3.1.2)")
	case strings.Contains(s, "*"):
		return errors.New("must not have a wildcard: redirect URIs are compared exactly (RFC 9700, section 4.1.3)")
	case u.User != nil:
		return errors.New("must not carry credentials")
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"<>\`, r) }):
		return errors.New("must be percent-encoded: a URI has no space, and ASCII only (RFC 3986, section 2)")
	}
	switch u.Scheme {
	case "https":
		if u.Host == "" {
			return errors.New("has no host")
		}
	case "http":
		if !isLoopback(u.Hostname()) {
			return errors.New("must be https unless the host is 127.0.0.1, [::1] or localhost")
		}
	default:
		if !strings.Contains(u.Scheme, ".") {
			return errors.New("a private-use scheme is a reversed domain name such as com.example.app (RFC 8252, section 7.1)")
		}
	}
	return nil
}

func isLoopback(host string) bool {
	return host == "127.0.0.1" || host == "::1" || host == "localhost"
}

// validScopeValue is scope-token of RFC 6749, section 3.3.
func validScopeValue(s string) bool {
	return s != "" && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool {
		return r < 0x21 || r > 0x7e || r == '"' || r == '\\'
	})
}
