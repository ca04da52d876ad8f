package upstream_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/upstream"
)

func TestOA11_Sealer(t *testing.T) {
	s := upstream.NewSealer(masterKey(t))
	tokens := upstream.Tokens{
		Access:    "access-canary",
		Refresh:   "refresh-canary",
		ExpiresAt: time.Unix(1_900_000_000, 0),
		Scope:     "a b",
	}
	sealed := s.Seal(tokens, "up", "s")
	if bytes.Contains(sealed, []byte("canary")) || bytes.Contains(sealed, []byte("redacted")) {
		t.Error("to be read")
	}
	if bytes.Equal(sealed, s.Seal(tokens, "up", "s")) {
		t.Error("the same twice")
	}
	if got, err := s.Open(sealed, "up", "s"); err != nil || got != tokens {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := s.Open(s.Seal(upstream.Tokens{Access: "a"}, "up", "s"), "up", "s"); err != nil || !got.ExpiresAt.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
	otherKey, err := seal.ParseMasterKey(base64.StdEncoding.EncodeToString([]byte("another key, 32 bytes long......")))
	if err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func() (upstream.Tokens, error){
		"fail/other subject":  func() (upstream.Tokens, error) { return s.Open(sealed, "up", "t") },
		"fail/other provider": func() (upstream.Tokens, error) { return s.Open(sealed, "pu", "s") },
		"fail/moved boundary": func() (upstream.Tokens, error) { return s.Open(s.Seal(tokens, "a", "bc"), "ab", "c") },
		"fail/other key":      func() (upstream.Tokens, error) { return upstream.NewSealer(otherKey).Open(sealed, "up", "s") },
		"fail/empty":          func() (upstream.Tokens, error) { return s.Open(nil, "up", "s") },
		"fail/cut":            func() (upstream.Tokens, error) { return s.Open(sealed[:len(sealed)-1], "up", "s") },
		"fail/other version":  func() (upstream.Tokens, error) { return s.Open(append([]byte{9}, sealed[1:]...), "up", "s") },
	} {
		if got, err := open(); !errors.Is(err, upstream.ErrSealed) || got != (upstream.Tokens{}) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := s.Open(changed, "up", "s"); !errors.Is(err, upstream.ErrSealed) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
}

// A row that a program before pkg/seal has written.
func TestOA11_SealedBefore(t *testing.T) {
	key, err := seal.ParseMasterKey("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := base64.StdEncoding.DecodeString(
		"AVCHvCqbx4KZjGGB77DIMEiog8qfR7GFfh+sppBstC1BPQyPKjpiyvlbCKfNkXtGjf2sOclCDsroeNW3BrZwvU4QVt1A8I2cP+fszqZEqW1yAg==")
	if err != nil {
		t.Fatal(err)
	}
	want := upstream.Tokens{Access: "access", Refresh: "refresh", ExpiresAt: time.Unix(1_900_000_000, 0), Scope: "a b"}
	if got, err := upstream.NewSealer(key).Open(sealed, "up", "s"); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestKeeper(t *testing.T) {
	type house struct {
		liar
		*memory
		upstream.Keeper
		p *upstream.Provider
	}
	// setup stores tokens of a real login for user u, expiring at a time.
	setup := func(t *testing.T, expires time.Time) house {
		t.Helper()
		l, m := newLiar(t, ""), newMemory()
		c := l.Config(upstream.OIDC)
		c.KeepTokens = true
		all := trusting(t, []*httptest.Server{l.Server}, c)
		p, _ := all.Provider("up")
		h := house{l, m, upstream.Keeper{Store: m, Sealer: upstream.NewSealer(masterKey(t)), Providers: all}, p}
		id, tokens, err := login(t, p)
		if err != nil {
			t.Fatal(err)
		}
		m.users["u"] = &memoryUser{}
		m.identities[[2]string{"up", id.Subject}] = &memoryIdentity{userID: "u"}
		tokens.ExpiresAt = expires
		if err := h.Save(t.Context(), *id, *tokens); err != nil {
			t.Fatal(err)
		}
		return h
	}
	t.Run("ok/fresh enough", func(t *testing.T) {
		h := setup(t, time.Now().Add(2*time.Minute))
		if got, err := h.Token(t.Context(), "u", "up"); err != nil || got.Access == "" || h.Hits("/token") != 1 {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("ok/fifty callers on two replicas, one refresh", func(t *testing.T) {
		h := setup(t, time.Now().Add(-time.Minute))
		second := h.Keeper
		results := make(chan upstream.Tokens, 50)
		for i := range cap(results) {
			keeper := h.Keeper
			if i%2 > 0 {
				keeper = second
			}
			go func() {
				got, err := keeper.Token(t.Context(), "u", "up")
				if err != nil {
					t.Error(err)
				}
				results <- got
			}()
		}
		first := <-results
		for range cap(results) - 1 {
			if got := <-results; got.Access != first.Access {
				t.Error("different tokens")
			}
		}
		if n := h.Hits("/token"); n != 2 {
			t.Errorf("%d requests to the token endpoint, want the login's and one", n)
		}
	})
	t.Run("fail/refused: says so, and goes on saying so without asking", func(t *testing.T) {
		h := setup(t, time.Now().Add(-time.Minute))
		h.WithdrawRefreshToken()
		for range 2 {
			if _, err := h.Token(t.Context(), "u", "up"); !errors.Is(err, upstream.ErrReauthNeeded) {
				t.Errorf("error %v", err)
			}
		}
		if n := h.Hits("/token"); n != 2 {
			t.Errorf("%d requests to the token endpoint", n)
		}
		if list, _ := h.Identities(t.Context(), "u"); len(list) != 1 || !list[0].NeedsReauth {
			t.Errorf("identities %+v", list)
		}
		id, tokens, err := login(t, h.p)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Save(t.Context(), *id, *tokens); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Token(t.Context(), "u", "up"); err != nil {
			t.Errorf("after a new login: %v", err)
		}
	})
	t.Run("fail/provider down: nothing is lost", func(t *testing.T) {
		h := setup(t, time.Now().Add(-time.Minute))
		h.TokenAnswer = func(w http.ResponseWriter, _ *http.Request, _ func()) { w.WriteHeader(http.StatusBadGateway) }
		if _, err := h.Token(t.Context(), "u", "up"); !errors.Is(err, upstream.ErrUnavailable) {
			t.Errorf("error %v", err)
		}
		h.TokenAnswer = nil
		if _, err := h.Token(t.Context(), "u", "up"); err != nil {
			t.Errorf("up again: %v", err)
		}
	})
	t.Run("ok/provider down and a moment left", func(t *testing.T) {
		h := setup(t, time.Now().Add(30*time.Second))
		h.TokenAnswer = func(w http.ResponseWriter, _ *http.Request, _ func()) { w.WriteHeader(http.StatusBadGateway) }
		if _, err := h.Token(t.Context(), "u", "up"); err != nil {
			t.Error(err)
		}
	})
	t.Run("ok/replica that crashed with the lease", func(t *testing.T) {
		h := setup(t, time.Now().Add(-time.Minute))
		row, err := h.Tokens(t.Context(), "u", "up")
		if err != nil {
			t.Fatal(err)
		}
		past := time.Now().Add(-time.Minute)
		version, err := h.LeaseTokens(t.Context(), row, past, past.Add(30*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Token(t.Context(), "u", "up"); err != nil {
			t.Error(err)
		}
		row.Version, row.NeedsReauth = version, true
		if err := h.FinishTokens(t.Context(), row); !errors.Is(err, upstream.ErrConflict) {
			t.Errorf("the crashed one came back: %v", err)
		}
	})
	t.Run("fail/lease on what was read during another's lease", func(t *testing.T) {
		h := setup(t, time.Now().Add(-time.Minute))
		first, err := h.Tokens(t.Context(), "u", "up")
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		if first.Version, err = h.LeaseTokens(t.Context(), first, now, now.Add(30*time.Second)); err != nil {
			t.Fatal(err)
		}
		during, err := h.Tokens(t.Context(), "u", "up")
		if err != nil {
			t.Fatal(err)
		}
		if err := h.FinishTokens(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		if _, err := h.LeaseTokens(t.Context(), during, now, now.Add(30*time.Second)); !errors.Is(err, upstream.ErrConflict) {
			t.Errorf("the old tokens would be refreshed twice: %v", err)
		}
	})
	t.Run("fail/nothing kept", func(t *testing.T) {
		h := setup(t, time.Now())
		if _, err := h.Token(t.Context(), "nobody", "up"); !errors.Is(err, upstream.ErrNotFound) {
			t.Errorf("error %v", err)
		}
		if _, err := h.Token(t.Context(), "u", "gone"); !errors.Is(err, upstream.ErrUnknownProvider) {
			t.Errorf("error %v", err)
		}
	})
}
