package upstream_test

import (
	"errors"
	"net/url"
	"testing"

	"github.com/handstamp/handstamp/pkg/upstream"
	"github.com/handstamp/handstamp/pkg/upstream/upstreamtest"
)

func TestOIDCProvider(t *testing.T) {
	issuer := upstreamtest.StartOIDCProvider(t, redirectURI)
	all := trusting(t, nil, upstream.Config{
		ID: "up", Type: upstream.OIDC, Issuer: issuer, ClientID: clientID, ClientSecret: clientSecret,
		AllowPrivateNetwork: true, KeepTokens: true,
	})
	p, err := all.Provider("up")
	if err != nil {
		t.Fatal(err)
	}

	t.Run("ok/login, tokens, rotation", func(t *testing.T) {
		b, values := begin(t, p, upstream.Request{LoginHint: "ada@example.com"})
		if values.Get("iss") != issuer {
			t.Errorf("iss %q", values.Get("iss"))
		}
		id, tokens, err := complete(t, p, b, values)
		if err != nil {
			t.Fatal(err)
		}
		want := upstream.Identity{
			Provider:      "up",
			Subject:       "ada@example.com",
			Email:         "ada@example.com",
			EmailVerified: true,
			Name:          "Name of ada@example.com",
			AuthTime:      id.AuthTime,
		}
		if *id != want {
			t.Errorf("identity %+v, want %+v", *id, want)
		}
		if tokens == nil || tokens.Refresh == "" || tokens.ExpiresAt.IsZero() {
			t.Fatalf("tokens %+v", tokens)
		}
		fresh, err := p.Refresh(t.Context(), tokens.Refresh, tokens.Scope)
		if err != nil || fresh.Access == tokens.Access {
			t.Fatalf("refresh: %+v, %v", fresh, err)
		}
		if _, err := p.Refresh(t.Context(), "not-one-of-theirs", ""); !errors.Is(err, upstream.ErrReauthNeeded) {
			t.Errorf("refresh with a stranger's token: %v", err)
		}
		if _, _, err := complete(t, p, b, values); !errors.Is(err, upstream.ErrInvalidAnswer) {
			t.Errorf("OA-01 code used twice: %v", err)
		}
	})
	t.Run("ok/OA-07 address not verified", func(t *testing.T) {
		b, values := begin(t, p, upstream.Request{LoginHint: "eve@example.com?unverified"})
		if id, _, err := complete(t, p, b, values); err != nil || id.EmailVerified {
			t.Errorf("%+v, %v", id, err)
		}
	})
	t.Run("fail/denied", func(t *testing.T) {
		b, values := begin(t, p, upstream.Request{LoginHint: "deny"})
		_, _, err := complete(t, p, b, values)
		if e, ok := errors.AsType[*upstream.Error](err); !errors.Is(err, upstream.ErrDenied) || !ok ||
			e.Description != "<b>the user said no</b>" {
			t.Errorf("error %v", err)
		}
	})
	t.Run("fail/OA-05 code of another attempt", func(t *testing.T) {
		_, victim := begin(t, p, upstream.Request{LoginHint: "ada@example.com"})
		b, values := begin(t, p, upstream.Request{LoginHint: "eve@example.com"})
		values.Set("code", victim.Get("code"))
		if _, _, err := complete(t, p, b, values); !errors.Is(err, upstream.ErrInvalidAnswer) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("fail/wrong client secret", func(t *testing.T) {
		wrong, err := trusting(t, nil, upstream.Config{
			ID:                  "up",
			Type:                upstream.OIDC,
			Issuer:              issuer,
			ClientID:            clientID,
			ClientSecret:        "wrong",
			AllowPrivateNetwork: true,
		}).Provider("up")
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := login(t, wrong); !errors.Is(err, upstream.ErrMisconfigured) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("fail/OA-12 not allowed on loopback", func(t *testing.T) {
		u, _ := url.Parse(issuer)
		outside, err := upstream.NewProviders([]upstream.Config{{
			ID:           "up",
			Type:         upstream.OIDC,
			Issuer:       "https://" + u.Host,
			ClientID:     clientID,
			ClientSecret: clientSecret,
		}},
			upstream.Options{Key: masterKey(t)})
		if err != nil {
			t.Fatal(err)
		}
		p, _ := outside.Provider("up")
		if _, err := p.Begin(t.Context(), upstream.Request{RedirectURI: redirectURI}); !errors.Is(err, upstream.ErrMisconfigured) {
			t.Errorf("error %v", err)
		}
	})
}
