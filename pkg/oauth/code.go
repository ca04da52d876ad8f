package oauth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/user"
)

// codeLifetime is how long an authorization code can be redeemed (RFC 6749, section 4.1.2, allows ten minutes).
const codeLifetime = 60 * time.Second

// Issue makes the authorization code that answers a request, for a user who is logged in at this browser. The origin is the
// browser's.
func (s *Server) Issue(ctx context.Context, a *Authorization, b BrowserSession, origin audit.Origin) (code string, err error) {
	code = "hsa_" + rand.Text()
	now := s.config.Clock.Now()
	err = s.browser.SaveCode(ctx, Code{
		Hash:           sha256.Sum256([]byte(code)),
		ClientID:       a.Client.ID,
		UserID:         b.UserID,
		RedirectURI:    a.RedirectURI,
		Challenge:      a.Challenge,
		Scope:          a.Scope,
		Audience:       a.Audience,
		Nonce:          a.Nonce,
		AMR:            b.AMR,
		ACR:            b.ACR,
		AuthTime:       b.AuthTime,
		BrowserSession: b.Hash,
		IP:             origin.IP,
		UserAgent:      origin.UserAgent,
		Pushed:         a.Pushed,
		CreatedAt:      now,
		ExpiresAt:      now.Add(codeLifetime),
	})
	if errors.Is(err, ErrRequestNotFound) {
		err = unknownRequest()
	}
	return code, err
}

// authorizationCode is the authorization_code grant (RFC 6749, section 4.1.3; RFC 7636, section 4.6).
func (s *Server) authorizationCode(ctx context.Context, c Client, r Request, _ string) (*TokenResponse, error) {
	got, err := s.redeem(ctx, c, r)
	if err != nil {
		return nil, err
	}
	response, err := s.respond(ctx, c, got.Issued, got.Scope, got.audience)
	if err == nil {
		err = s.addIDToken(ctx, response, c, got.Issued, &got.user, got.code.Nonce)
	}
	if err != nil {
		return nil, errors.Join(err, s.release(ctx, got.code.Hash, got.ID))
	}
	if !c.Allows(GrantRefreshToken) {
		response.RefreshToken = ""
	}
	return response, nil
}

// redeemed is the session that a code gave.
type redeemed struct {
	session.Issued
	code     Code
	user     user.User
	audience []string // of the access token that goes with it
}

// redeem starts the session of a code. A code that is shown again ends the session that it gave: two parties hold it.
func (s *Server) redeem(ctx context.Context, c Client, r Request) (*redeemed, error) {
	raw, err := r.Form.required("code")
	if err != nil {
		return nil, err
	}
	// One that is missing does not match (RFC 7636, section 4.6): invalid_grant, not invalid_request.
	verifier, err := r.Form.One("code_verifier")
	if err != nil {
		return nil, err
	}
	redirectURI, err := r.Form.One("redirect_uri")
	if err != nil {
		return nil, err
	}
	// A code that is shown again is judged also if the caller leaves meanwhile: a thief who hangs up in time must not go unseen.
	staying, cancel := context.WithTimeout(context.WithoutCancel(ctx), stayTimeout)
	defer cancel()
	hash := Hash(sha256.Sum256([]byte(raw)))
	code, err := s.browser.Code(staying, hash)
	if err != nil {
		return nil, err
	}
	if err := code.accepts(c, redirectURI, verifier); err != nil {
		return nil, err // nothing is used up: who cannot prove to be the client must not be able to spoil its code
	}
	if !code.UsedAt.IsZero() {
		return nil, s.endReused(staying, code, r.Origin)
	}
	audience, err := s.grantedAudience(code.Audience, code.Scope, r.resources())
	if err != nil {
		return nil, err // before the code is used up: the client may ask again
	}
	u, err := s.store.UserByID(ctx, code.UserID)
	if errors.Is(err, user.ErrNotFound) {
		return nil, session.ErrUserChanged
	}
	if err != nil {
		return nil, err
	}
	issued, err := s.sessions.StartWith(ctx, session.Login{
		User:     u,
		ClientID: c.ID,
		Scope:    code.Scope,
		Audience: code.Audience,
		AMR:      code.AMR,
		ACR:      code.ACR,
		AuthTime: code.AuthTime,
		Origin:   code.origin(r.Origin),
	}, func(ctx context.Context, start session.Start) (session.Started, error) {
		started, err := s.browser.RedeemCode(ctx, hash, start)
		if err != nil && !errors.Is(err, ErrCodeUsed) && !errors.Is(err, ErrCodeNotFound) { // it may have been done nevertheless
			err = errors.Join(err, s.release(ctx, hash, start.Session.ID))
		}
		return started, err
	})
	if errors.Is(err, ErrCodeUsed) { // another request was faster
		if code, err = s.browser.Code(staying, hash); err != nil {
			return nil, err
		}
		return nil, s.endReused(staying, code, r.Origin)
	}
	if err != nil {
		return nil, err
	}
	return &redeemed{Issued: issued, code: code, user: u, audience: audience}, nil
}

// stayTimeout bounds what is done with a code for a caller who may have gone.
const stayTimeout = 5 * time.Second

// release gives a code back whose redemption has failed on our side, so that the client can repeat it. Where that fails too, the
// repetition is refused, and the user logs in again.
func (s *Server) release(ctx context.Context, code Hash, id session.ID) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stayTimeout)
	defer cancel()
	return s.browser.ReleaseCode(ctx, code, id)
}

// origin is where the session of a code begins: at the person's browser, not at the back end that redeems the code. The
// request is that of the redemption.
func (c Code) origin(redemption audit.Origin) audit.Origin {
	if c.IP == "" { // a code of an earlier version
		return redemption
	}
	return audit.Origin{IP: c.IP, UserAgent: c.UserAgent, RequestID: redemption.RequestID}
}

// accepts reports whether a code was given to the client, for the redirect URI, and for the challenge that the verifier proves.
func (c Code) accepts(client Client, redirectURI, verifier string) error {
	switch {
	case c.ClientID != client.ID:
		return session.ErrWrongClient
	case redirectURI != c.RedirectURI && (redirectURI != "" || len(client.RedirectURIs) != 1):
		return refuse(InvalidGrant, "redirect_uri differs from the authorization request")
	case !c.proven(client, verifier):
		return refuse(InvalidGrant, "code_verifier does not match the code_challenge")
	}
	return nil
}

// proven reports whether the verifier is the challenge's. A verifier for a code without challenge means that an attacker has
// taken the challenge out of the client's request (RFC 9700, section 4.8.2).
func (c Code) proven(client Client, verifier string) bool {
	if c.Challenge == "" {
		return verifier == "" && client.PKCEOptional
	}
	sum := sha256.Sum256([]byte(verifier))
	challenge := base64.RawURLEncoding.EncodeToString(sum[:])
	return validVerifier(verifier) && subtle.ConstantTimeCompare([]byte(challenge), []byte(c.Challenge)) == 1
}

// validVerifier is the form of a code verifier (RFC 7636, section 4.1).
func validVerifier(s string) bool {
	return len(s) >= 43 && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._~", r)
	})
}

// endReused ends the session that a code gave, and says that the grant is invalid once that is committed (RFC 6749,
// section 4.1.2).
func (s *Server) endReused(ctx context.Context, code Code, origin audit.Origin) error {
	err := s.sessions.End(ctx, session.Session{
		ID:       code.SessionID,
		UserID:   code.UserID,
		ClientID: code.ClientID,
	}, session.ReasonCodeReuse,
		session.By{Actor: audit.ActorSystem, ClientID: code.ClientID, Origin: origin})
	if err != nil {
		return err
	}
	return ErrCodeUsed
}
