package sharedsignal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/token"
	"github.com/handstamp/handstamp/pkg/user"
)

// Signer signs security event tokens for their receivers; an *oauth.ClientSigner.
type Signer interface {
	SignFor(ctx context.Context, clientID string, typ token.Type, claims any) (string, error)
	// Now is the time by which tokens are dated.
	Now() time.Time
}

// identifier is a subject identifier (RFC 9493): opaque, iss_sub, or a complex one of the framework (section 3.3).
type identifier struct {
	Format  string      `json:"format"`
	ID      string      `json:"id,omitempty"`
	Issuer  string      `json:"iss,omitempty"`
	Subject string      `json:"sub,omitempty"`
	User    *identifier `json:"user,omitempty"`
	Session *identifier `json:"session,omitempty"`
}

// ParseSubject reads the subject of a request to leave out or take in: a user as iss_sub, a session as opaque with its
// sid, or a complex subject of one or both. A session has one user, so a subject of both is the session. ErrSubject.
func ParseSubject(raw json.RawMessage, issuer string) (Subject, error) {
	var s identifier
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields() // a device or a tenant beside the user would make it a smaller subject
	if err := d.Decode(&s); err != nil {
		return Subject{}, ErrSubject
	}
	if s.Format == "complex" {
		switch {
		case s.Session != nil:
			s = *s.Session
		case s.User != nil:
			s = *s.User
		}
	}
	switch s.Format {
	case "iss_sub":
		if s.Issuer == issuer && len(s.Subject) < 100 && len(s.Subject) > len(user.IDPrefix) {
			return Subject{UserID: s.Subject}, nil
		}
	case "opaque":
		if id, err := session.ParseID(s.ID); err == nil {
			return Subject{SessionID: id}, nil
		}
	}
	return Subject{}, ErrSubject
}

// claims are RFC 8417, section 2.2, as the framework profiles them (section 4.1): sub_id and no sub, no exp. iat is
// when it happened, so that a token that is sent again is the same one.
type claims struct {
	Issuer   string         `json:"iss"`
	Audience string         `json:"aud"`
	IssuedAt int64          `json:"iat"`
	ID       string         `json:"jti"`
	Subject  identifier     `json:"sub_id"`
	Events   map[string]any `json:"events"`
}

// sessionRevoked is OpenID CAEP 1.0, sections 2 and 3.1.
type sessionRevoked struct {
	At         int64             `json:"event_timestamp"`
	Initiating string            `json:"initiating_entity,omitempty"`
	Reason     map[string]string `json:"reason_admin,omitempty"`
}

// initiating says who ended a session, as far as the reason tells.
func initiating(reason session.Reason) string {
	switch reason {
	case session.ReasonLogout, session.ReasonLogoutAll, session.ReasonPasswordChange, session.ReasonPasswordReset:
		return "user"
	case session.ReasonUserDisabled:
		return "admin"
	case session.ReasonReuse, session.ReasonCodeReuse, session.ReasonLimit, session.ReasonAdopted:
		return "policy"
	case session.ReasonRevoked, session.ReasonUserDeleted: // by the user, or by an operator
	}
	return ""
}

// SET makes the security event token of an event.
func SET(ctx context.Context, signer Signer, issuer string, s Stream, e Event) (string, error) {
	c := claims{
		Issuer: issuer, Audience: s.ClientID, IssuedAt: e.At.Unix(), ID: e.JTI, Subject: identifier{Format: "opaque", ID: s.ID},
	}
	switch e.Kind {
	case KindSessionRevoked:
		c.Subject = identifier{
			Format:  "complex",
			User:    &identifier{Format: "iss_sub", Issuer: issuer, Subject: e.UserID},
			Session: &identifier{Format: "opaque", ID: e.SessionID.String()},
		}
		told := sessionRevoked{At: e.At.Unix(), Initiating: initiating(session.Reason(e.Reason))}
		if e.Reason != "" {
			told.Reason = map[string]string{"en": e.Reason}
		}
		c.Events = map[string]any{EventSessionRevoked: told}
	case KindVerification:
		told := map[string]string{}
		if e.State != "" {
			told["state"] = e.State
		}
		c.Events = map[string]any{EventVerification: told}
	case KindStreamUpdated:
		c.Events = map[string]any{EventStreamUpdated: map[string]string{"status": e.State, "reason": e.Reason}}
	}
	return signer.SignFor(ctx, s.ClientID, token.TypeSecurityEvent, c)
}

// errSealed says that a header cannot be opened; the receiver can give it again.
var errSealed = errors.New("the authorization header of the stream cannot be opened: another master key has sealed it")

// Sealer keeps what receivers want in the Authorization header unreadable in the database.
type Sealer struct{ sealer seal.Sealer }

// NewSealer derives the key.
func NewSealer(master seal.MasterKey) Sealer {
	return Sealer{seal.New(master, seal.SignalAuthorization)}
}

// Seal encrypts the header of a stream; nil for none.
func (s Sealer) Seal(streamID, header string) []byte {
	if header == "" {
		return nil
	}
	return s.sealer.Seal([]byte(header), []byte(streamID))
}

// Open is the inverse of Seal.
func (s Sealer) Open(streamID string, sealed []byte) (string, error) {
	if sealed == nil {
		return "", nil
	}
	header, err := s.sealer.Open(sealed, []byte(streamID))
	if err != nil {
		return "", errSealed
	}
	return string(header), nil
}
