package oauth

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/token"
)

// Limits of back-channel logout: a slow or dead client holds up nobody else.
const (
	deliveryEvery    = time.Second
	deliveryLease    = 30 * time.Second
	deliveryBatch    = 16
	deliveryAttempts = 6 // over about half an hour
	logoutTokenLife  = 2 * time.Minute
)

// LogoutDelivery is a logout token to be sent to a client whose session has ended (OpenID Connect Back-Channel Logout 1.0). Rows are added
// by the store methods that end sessions, in their transaction, for clients with a back-channel logout URI.
type LogoutDelivery struct {
	ID          int64
	ClientID    string
	URI         string
	UserID      string
	SessionID   session.ID
	Attempts    int // begun before this one
	CreatedAt   time.Time
	LeasedUntil time.Time
}

// DeliveryStore is what back-channel logout needs of a database.
type DeliveryStore interface {
	// LeaseLogoutDeliveries reserves at most limit due deliveries for the caller until a time: no other replica gets them before.
	LeaseLogoutDeliveries(ctx context.Context, at, until time.Time, limit int) ([]LogoutDelivery, error)
	// FinishLogoutDelivery removes a delivery that was made or given up, or puts it off until a later time if that is not zero.
	FinishLogoutDelivery(ctx context.Context, id int64, retryAt time.Time) error
}

// LogoutSender tells clients that sessions of theirs have ended (OpenID Connect Back-Channel Logout 1.0). Several replicas share the work.
type LogoutSender struct {
	issuer string
	store  DeliveryStore
	minter *token.Minter
	client *http.Client
	log    *slog.Logger
}

// NewLogoutSender returns a sender. The client decides which addresses may be called; it must not follow redirects.
func NewLogoutSender(issuer string, store DeliveryStore, minter *token.Minter, client *http.Client, log *slog.Logger) *LogoutSender {
	return &LogoutSender{issuer: issuer, store: store, minter: minter, client: client, log: log}
}

// Run delivers what is due until ctx ends.
func (s *LogoutSender) Run(ctx context.Context) {
	ticker := time.NewTicker(deliveryEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for more := true; more && ctx.Err() == nil; {
			more = s.deliverDue(ctx)
		}
	}
}

// deliverDue makes one batch of deliveries, and reports whether there may be more.
func (s *LogoutSender) deliverDue(ctx context.Context) bool {
	now := time.Now()
	due, err := s.store.LeaseLogoutDeliveries(ctx, now, now.Add(deliveryLease), deliveryBatch)
	if err != nil {
		if ctx.Err() == nil {
			s.log.WarnContext(ctx, "logout deliveries cannot be read", "error", err)
		}
		return false
	}
	var group sync.WaitGroup
	for _, d := range due {
		group.Go(func() { s.deliver(ctx, d) })
	}
	group.Wait()
	return len(due) == deliveryBatch
}

func (s *LogoutSender) deliver(ctx context.Context, d LogoutDelivery) {
	err := s.send(ctx, d)
	var retryAt time.Time
	if err != nil {
		if d.Attempts < deliveryAttempts {
			retryAt = time.Now().Add(time.Second << (2 * d.Attempts)) // 1 s, 4 s, 16 s, ... 17 min
		}
		s.log.WarnContext(ctx, "logout token not delivered", "client_id", d.ClientID, "session_id", d.SessionID.String(), "attempt", d.Attempts+1, "again", !retryAt.IsZero(), "error", err)
	}
	if err := s.store.FinishLogoutDelivery(ctx, d.ID, retryAt); err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "logout delivery cannot be recorded, it will be repeated", "error", err)
	}
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

func (s *LogoutSender) send(ctx context.Context, d LogoutDelivery) error {
	now := time.Now()
	raw, err := s.minter.Sign(ctx, token.TypeLogout, "", logoutClaims{
		Issuer: s.issuer, Subject: d.UserID, Audience: d.ClientID, IssuedAt: now.Unix(), ExpiresAt: now.Add(logoutTokenLife).Unix(), ID: rand.Text(),
		Events: map[string]map[string]bool{"http://schemas.openid.net/event/backchannel-logout": {}}, SessionID: d.SessionID.String(),
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
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusNoContent {
		return fmt.Errorf("the client answered %s", response.Status)
	}
	return nil
}
