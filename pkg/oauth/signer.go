package oauth

import (
	"context"
	"time"

	"github.com/handstamp/handstamp/pkg/token"
)

// ClientSigner signs what is meant for a client, with the algorithm that it is registered with: a client refuses any other
// (OpenID Connect Core, section 3.1.3.7; Back-Channel Logout 1.0, section 2.6).
type ClientSigner struct {
	clients *Registry
	minter  *token.Minter
}

// NewClientSigner returns a signer.
func NewClientSigner(clients *Registry, minter *token.Minter) *ClientSigner {
	return &ClientSigner{clients: clients, minter: minter}
}

// Now is the time by which tokens are dated.
func (s *ClientSigner) Now() time.Time { return s.minter.Now() }

// SignFor signs a JWT of a type for a client. ErrClientNotFound, or an error of token.Minter.Sign.
func (s *ClientSigner) SignFor(ctx context.Context, clientID string, typ token.Type, claims any) (string, error) {
	c, err := s.clients.Client(ctx, clientID)
	if err != nil {
		return "", err
	}
	return s.minter.Sign(ctx, typ, c.OwnAlgorithm(), claims)
}
