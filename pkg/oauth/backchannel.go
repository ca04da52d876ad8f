package oauth

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/handstamp/handstamp/pkg/egress"
	"github.com/handstamp/handstamp/pkg/outbox"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/token"
)

// KindLogout are the rows of the outbox that are logout tokens to be sent to a client whose session has ended (OpenID
// Connect Back-Channel Logout 1.0). The database adds one whenever a session ends at a client with a back-channel
// logout URI, in the same transaction. The destination is the client.
const KindLogout = "logout"

// Limits of back-channel logout.
const (
	deliveryTimeout     = egress.Timeout + 5*time.Second // and the token is minted
	deliveryLease       = 30 * time.Second
	deliveryPlaces      = 64
	deliveryAttempts    = 7 // over about half an hour
	deliveryAge         = 30 * time.Minute
	logoutTokenLifetime = 2 * time.Minute
)

// Logout is what a logout token is about.
type Logout struct {
	ClientID  string
	URI       string // as it was when the session ended
	UserID    string
	SessionID session.ID
}

// LogoutOf reads a row of KindLogout.
func LogoutOf(r outbox.Row) (Logout, error) {
	var payload struct {
		URI       string `json:"uri"`
		UserID    string `json:"user_id"`
		SessionID string `json:"session_id"`
	}
	if err := json.Unmarshal(r.Payload, &payload); err != nil {
		return Logout{}, fmt.Errorf("read logout: %w", err)
	}
	l := Logout{ClientID: r.Destination, URI: payload.URI, UserID: payload.UserID}
	id, err := hex.DecodeString(payload.SessionID)
	if err != nil || copy(l.SessionID[:], id) != len(l.SessionID) || len(id) != len(l.SessionID) {
		return Logout{}, errors.New("read logout: the session ID is not 16 bytes in hex")
	}
	return l, nil
}

// LogoutSender tells clients that sessions of theirs have ended (OpenID Connect Back-Channel Logout 1.0).
type LogoutSender struct {
	issuer string
	source outbox.Source
	signer *ClientSigner
	client *http.Client
	log    *slog.Logger
}

// NewLogoutSender returns a sender. The client decides which addresses may be called; it must not follow redirects.
func NewLogoutSender(issuer string, source outbox.Source, signer *ClientSigner, client *http.Client,
	log *slog.Logger) *LogoutSender {
	return &LogoutSender{issuer: issuer, source: source, signer: signer, client: client, log: log}
}

// Kind says how logout tokens are delivered.
func (s *LogoutSender) Kind() outbox.Kind {
	return outbox.Kind{
		Name:    KindLogout,
		Source:  s.source,
		Deliver: s.deliver,
		Lease:   deliveryLease,
		Timeout: deliveryTimeout,
		Wait: func(attempts int) time.Duration { // 1 s, 4 s, 16 s, ... 17 min
			return time.Second << (2 * min(attempts, deliveryAttempts))
		},
		Attempts: deliveryAttempts,
		Age:      deliveryAge,
		Places:   deliveryPlaces,
	}
}

// deliver sends one logout token.
func (s *LogoutSender) deliver(ctx context.Context, r outbox.Row) error {
	d, err := LogoutOf(r)
	if err != nil {
		return err
	}
	if err := s.send(ctx, d); err != nil {
		s.log.WarnContext(ctx, "logout token not delivered", "client_id", d.ClientID, "session_id", d.SessionID.String(), "attempt",
			r.Attempts+1, "error", err)
		return err
	}
	return nil
}

// logoutClaims are OpenID Connect Back-Channel Logout 1.0, section 2.4.
type logoutClaims struct {
	Issuer    string                     `json:"iss"`
	Subject   string                     `json:"sub"`
	Audience  string                     `json:"aud"`
	IssuedAt  int64                      `json:"iat"`
	ExpiresAt int64                      `json:"exp"`
	ID        string                     `json:"jti"`
	Events    map[string]map[string]bool `json:"events"`
	SessionID string                     `json:"sid"`
}

func (s *LogoutSender) send(ctx context.Context, d Logout) error {
	now := s.signer.Now()
	raw, err := s.signer.SignFor(ctx, d.ClientID, token.TypeLogout, logoutClaims{
		Issuer:    s.issuer,
		Subject:   d.UserID,
		Audience:  d.ClientID,
		IssuedAt:  now.Unix(),
		ExpiresAt: now.Add(logoutTokenLifetime).Unix(),
		ID:        rand.Text(),
		Events:    map[string]map[string]bool{"http://schemas.openid.net/event/backchannel-logout": {}},
		SessionID: d.SessionID.String(),
	})
	if err != nil {
		return err
	}
	body := url.Values{"logout_token": {raw}}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.URI, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := s.client.Do(request)
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err // without the address, which may hold a secret
	}
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusNoContent {
		return fmt.Errorf("the client answered %s", response.Status)
	}
	return nil
}
