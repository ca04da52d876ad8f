package upstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/handstamp/handstamp/pkg/clock"
)

const (
	tokenLeeway  = time.Minute            // a provider token that expires sooner is refreshed
	leaseTime    = 30 * time.Second       // longer than any refresh takes; after a crash another replica goes on
	leasePolling = 200 * time.Millisecond // how often those who wait look
)

// ErrBusy says that another replica is refreshing the tokens and does not come to an end. Try again.
var ErrBusy = errors.New("provider tokens are being refreshed")

// Keeper hands out stored provider tokens and keeps them fresh.
type Keeper struct {
	Store     Store
	Sealer    Sealer
	Providers *Providers
	Clock     *clock.Clock // nil for the machine's
}

// Save seals and stores the tokens that a login brought.
func (k Keeper) Save(ctx context.Context, id Identity, t Tokens) error {
	if err := k.Store.SaveTokens(ctx, id.Provider, id.Subject, k.Sealer.Seal(t, id.Provider, id.Subject)); err != nil {
		return fmt.Errorf("save provider tokens: %w", err)
	}
	return nil
}

// Token returns a user's provider tokens, fresh ones if the stored access token is about to expire. The refresh is
// done by one replica at a time, because most providers rotate refresh tokens and some end everything when an old one
// is shown again. No transaction is open meanwhile.
//
// Errors: ErrNotFound if nothing is kept, ErrUnknownProvider, ErrReauthNeeded (also later, until the user logs in at
// the provider again), ErrUnavailable, ErrInvalidAnswer, ErrMisconfigured, ErrBusy, ErrSealed; anything else is a
// storage failure.
func (k Keeper) Token(ctx context.Context, userID, providerID string) (Tokens, error) {
	p, err := k.Providers.Provider(providerID)
	if err != nil {
		return Tokens{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	for {
		row, err := k.Store.Tokens(ctx, userID, providerID)
		if err != nil {
			return Tokens{}, fmt.Errorf("read provider tokens: %w", err)
		}
		if row.NeedsReauth {
			return Tokens{}, p.fail(ErrReauthNeeded, "refresh", nil)
		}
		t, err := k.Sealer.Open(row.Sealed, row.Provider, row.Subject)
		if err != nil {
			return Tokens{}, err
		}
		if left := t.ExpiresAt.Sub(k.Clock.Now()); t.ExpiresAt.IsZero() || left > tokenLeeway || left > 0 && t.Refresh == "" {
			return t, nil
		}
		now := k.Clock.Now()
		row.Version, err = k.Store.LeaseTokens(ctx, row, now, now.Add(leaseTime))
		if err == nil {
			return k.refresh(ctx, p, row, t)
		}
		if !errors.Is(err, ErrConflict) {
			return Tokens{}, fmt.Errorf("lease provider tokens: %w", err)
		}
		select {
		case <-ctx.Done():
			return Tokens{}, fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
		case <-time.After(leasePolling):
		}
	}
}

// The holder of the lease calls refresh. It stores the outcome even if the caller has gone away, because the refresh token
// that the provider has rotated exists nowhere else.
func (k Keeper) refresh(ctx context.Context, p *Provider, row TokenRow, old Tokens) (Tokens, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loginTimeout)
	defer cancel()
	fresh, err := p.Refresh(ctx, old.Refresh, old.Scope)
	switch {
	case err == nil:
		row.Sealed = k.Sealer.Seal(*fresh, row.Provider, row.Subject)
	case errors.Is(err, ErrReauthNeeded):
		row.NeedsReauth = true
	case k.Clock.Now().Before(old.ExpiresAt):
		fresh, err = &old, nil // still good for a moment; the next caller tries again
	}
	if finish := k.Store.FinishTokens(ctx, row); finish != nil && !errors.Is(finish, ErrConflict) {
		return Tokens{}, fmt.Errorf("save provider tokens: %w", finish)
	}
	if err != nil {
		return Tokens{}, err
	}
	return *fresh, nil
}
