package oauth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/session"
)

// GatewayCallback is the path at which a login at a gateway ends, at the application's own origin. The gateway asks about a
// request there as about any other, and the application never sees it.
const GatewayCallback = "/.handstamp/callback"

// gatewayLoginLifetime is how long a person may take to log in at a gateway; maxReturn is the length of an address that they can
// come back to, in bytes: the state that carries it must fit into a request.
const (
	gatewayLoginLifetime = time.Hour
	maxReturn            = 1200
)

// The prefix of the state of a login at a gateway, and what its sealed values are bound to.
const (
	gatewayStatePrefix    = "hsg_"
	gatewayStatePurpose   = "state"
	gatewaySessionPurpose = "session"
)

// GatewaySeals seals what logins at gateways leave in browsers. The zero value opens nothing.
type GatewaySeals struct{ sealer seal.Sealer }

// NewGatewaySeals returns the seals of a master key.
func NewGatewaySeals(master seal.MasterKey) GatewaySeals {
	return GatewaySeals{seal.New(master, seal.GatewayLogins)}
}

// gatewayState is what the state of a login at a gateway says. The browser carries it to the issuer and back.
type gatewayState struct {
	ReturnTo string `json:"r"` // path and query at the origin
	Verifier string `json:"v"` // RFC 7636: with it, the code is of use to nobody but us
	Browser  []byte `json:"b"` // hash of the binding that the login was begun with
	Expires  int64  `json:"e"`
	Again    bool   `json:"a,omitempty"` // this login was begun because one before came to nothing
}

// bound is what the sealed values of a client at an origin are bound to. Neither has a NUL.
func bound(purpose string, c Client, origin string) []byte {
	return []byte(purpose + "\x00" + c.ID + "\x00" + origin)
}

func (g GatewaySeals) state(c Client, origin, text string) (gatewayState, bool) {
	var s gatewayState
	text, ours := strings.CutPrefix(text, gatewayStatePrefix)
	if !ours {
		return s, false
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return s, false
	}
	plain, err := g.sealer.Open(sealed, bound(gatewayStatePurpose, c, origin))
	return s, err == nil && json.Unmarshal(plain, &s) == nil
}

// ask reports whether an authorization request is one that [Gateways] has made: only such a request may have its code sent to
// the callback of a gateway, which no client registers. The state proves it, and the challenge shows that the code is of use to
// the gateway only.
func (g GatewaySeals) ask(c Client, redirectURI string, form Form) bool {
	origin, ours := strings.CutSuffix(redirectURI, GatewayCallback)
	if !ours || !c.GatewayAt(origin) {
		return false
	}
	text, err := form.One("state")
	if err != nil {
		return false
	}
	state, ok := g.state(c, origin, text)
	return ok && slices.Equal(form["code_challenge"], []string{s256(state.Verifier)})
}

func s256(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// GatewayAt reports whether a gateway may log browsers in for the client at an origin: one that is registered, and at which
// browsers keep cookies from others: https, or http on loopback.
func (c Client) GatewayAt(origin string) bool {
	if !slices.Contains(c.Origins, origin) {
		return false
	}
	u, err := url.Parse(origin)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()))
}

// Gateways logs browsers in for gateways, which stand before applications that know nothing of logins. A gateway's login is an
// authorization code flow, like any client's, whose client is this service itself; and a session, like any other.
type Gateways struct {
	server  *Server
	holders *session.Holders
}

// NewGateways returns gateways whose states the server knows by its configuration.
func NewGateways(s *Server, holders *session.Holders) *Gateways {
	return &Gateways{server: s, holders: holders}
}

// Begin returns the address to which a browser is sent to log in at a client. It comes back to returnTo, a path and query at
// origin, where GatewayAt must hold. The binding is a secret that only this browser has: [Gateways.Finish] asks for it.
func (g *Gateways) Begin(c Client, origin, returnTo, binding string) string {
	sum := sha256.Sum256([]byte(binding))
	return g.begin(c, origin, gatewayState{ReturnTo: short(returnTo), Browser: sum[:]})
}

func (g *Gateways) begin(c Client, origin string, state gatewayState) string {
	config := g.server.config
	state.Verifier = rand.Text() + rand.Text()
	state.Expires = config.Clock.Now().Add(gatewayLoginLifetime).Unix()
	text, err := json.Marshal(state)
	if err != nil {
		panic(err) // a struct of texts and numbers
	}
	sealed := config.Gateways.sealer.Seal(text, bound(gatewayStatePurpose, c, origin))
	return config.Issuer + "/oauth2/authorize?" + url.Values{
		"response_type":         {"code"},
		"client_id":             {c.ID},
		"redirect_uri":          {origin + GatewayCallback},
		"state":                 {gatewayStatePrefix + base64.RawURLEncoding.EncodeToString(sealed)},
		"code_challenge":        {s256(state.Verifier)},
		"code_challenge_method": {"S256"},
	}.Encode()
}

// short returns an address that fits into a state: one that is too long without its query, or the first page.
func short(returnTo string) string {
	if len(returnTo) > maxReturn {
		returnTo, _, _ = strings.Cut(returnTo, "?")
	}
	if len(returnTo) > maxReturn {
		return "/"
	}
	return returnTo
}

// GatewayAnswer is where a browser goes that has come to the callback.
type GatewayAnswer struct {
	To      string          // at the client's origin; or at the issuer, to log in again
	Cookie  string          // of the session that has begun; empty if none has
	Session session.Session // that has begun
}

// stateOf reads the state of an answer. *Error.
func (g *Gateways) stateOf(c Client, origin string, answer Form) (gatewayState, error) {
	text, err := answer.One("state")
	if err != nil {
		return gatewayState{}, err
	}
	state, ok := g.server.config.Gateways.state(c, origin, text)
	if !ok {
		return gatewayState{}, refuse(InvalidRequest, "the state is not that of a login at this gateway")
	}
	return state, nil
}

// Return is Finish for a browser that has a session already: after a reload, or in another tab. The code is not looked at.
// *Error.
func (g *Gateways) Return(c Client, origin string, answer Form) (to string, err error) {
	state, err := g.stateOf(c, origin, answer)
	return origin + state.ReturnTo, err
}

// Finish takes the answer of the issuer to a login that was begun at this client and origin, in a browser that has these
// bindings, and starts the session. A code that has expired or was used leads to another login, once. *Error is a refusal, or
// with TemporarilyUnavailable a storage failure.
func (g *Gateways) Finish(ctx context.Context, c Client, origin string, answer Form, bindings []string,
	from audit.Origin) (GatewayAnswer, error) {
	state, err := g.stateOf(c, origin, answer)
	if err != nil {
		return GatewayAnswer{}, err
	}
	if !slices.ContainsFunc(bindings, func(binding string) bool {
		sum := sha256.Sum256([]byte(binding))
		return slices.Equal(sum[:], state.Browser)
	}) {
		// Otherwise a stranger could log somebody in as the stranger (RFC 6749, section 10.12).
		return GatewayAnswer{}, refuse(AccessDenied, "the login was begun in another browser")
	}
	if code, err := answer.One("error"); err != nil || code != "" {
		return GatewayAnswer{}, refuse(AccessDenied, "the login was refused: %s", printable(code))
	}
	got, err := g.redeem(ctx, c, origin, answer, state, from)
	if refusal, ok := errors.AsType[*Error](err); ok && refusal.Code == InvalidGrant && !state.Again {
		state.Again = true
		return GatewayAnswer{To: g.begin(c, origin, state)}, nil
	}
	if err != nil {
		return GatewayAnswer{}, err
	}
	g.holders.Keep(got.Session)
	return GatewayAnswer{To: origin + state.ReturnTo, Cookie: g.cookie(c, origin, got.Session), Session: got.Session}, nil
}

// redeem starts the session that the code of an answer gives. Its refresh token is not given to anybody.
func (g *Gateways) redeem(ctx context.Context, c Client, origin string, answer Form, state gatewayState,
	from audit.Origin) (*redeemed, error) {
	if g.server.config.Clock.Now().Unix() >= state.Expires {
		return nil, refuse(InvalidGrant, "the login has taken too long")
	}
	got, err := g.server.redeem(ctx, c, Request{
		Form: Form{
			"code":          answer["code"],
			"code_verifier": {state.Verifier},
			"redirect_uri":  {origin + GatewayCallback},
		},
		Origin: from,
	})
	if err != nil {
		return nil, AsError(err)
	}
	return got, nil
}

// cookie is what a browser holds of a session: its ID, and the nonce of its row, so that neither the database nor the master key
// alone is enough to make one.
func (g *Gateways) cookie(c Client, origin string, s session.Session) string {
	plain := slices.Concat(s.ID[:], s.Nonce[:])
	return base64.RawURLEncoding.EncodeToString(g.server.config.Gateways.sealer.Seal(plain, bound(gatewaySessionPurpose, c, origin)))
}

// Session returns the session of a cookie that [Gateways.Finish] made for this client and origin; false if the cookie is none, or
// the session is over. An error is a storage failure.
func (g *Gateways) Session(ctx context.Context, c Client, origin, cookie string) (s session.Session, alive bool, err error) {
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(cookie)
	if err != nil {
		return s, false, nil //nolint:nilerr // no cookie of ours
	}
	plain, err := g.server.config.Gateways.sealer.Open(sealed, bound(gatewaySessionPurpose, c, origin))
	if err != nil || len(plain) != len(s.ID)+len(s.Nonce) {
		return s, false, nil //nolint:nilerr // no cookie of ours, or another client's or origin's
	}
	id, nonce := session.ID(plain[:len(s.ID)]), session.Nonce(plain[len(s.ID):])
	s, err = g.holders.Session(ctx, id, nonce, c.ID)
	switch {
	case errors.Is(err, session.ErrEnded), errors.Is(err, session.ErrWrongClient), errors.Is(err, session.ErrClientDisabled):
		return session.Session{}, false, nil
	case err != nil:
		return session.Session{}, false, err
	}
	return s, true, nil
}
