package token_test

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/handstamp/handstamp/pkg/keyring"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/token"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// memory is as much of a keyring.Store as a keyring needs that nobody rotates.
type memory struct {
	keyring.Store
	mu   sync.Mutex
	keys []keyring.Record
}

func (m *memory) SigningKeys(context.Context) ([]keyring.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(slices.Values(m.keys), func(a, b keyring.Record) int { return cmp.Compare(a.ID, b.ID) }), nil
}

func (m *memory) InsertSigningKey(_ context.Context, i keyring.Insertion) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys = append(m.keys, i.Key)
	return nil
}

func (m *memory) ActivateSigningKey(_ context.Context, a keyring.Activation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.keys {
		if m.keys[i].ID == a.ID {
			m.keys[i].State, m.keys[i].ActivatedAt = keyring.StateActive, a.At
		}
	}
	return nil
}

const issuer = "https://id.example"

func keys(t testing.TB) *keyring.Keyring {
	t.Helper()
	master, err := seal.ParseMasterKey("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		t.Fatal(err)
	}
	k, err := keyring.Open(t.Context(), &memory{}, master, keyring.Options{Algorithms: []string{verifier.EdDSA}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

func minimal() token.Access {
	return token.Access{Subject: "usr_1", Audience: []string{"https://api.example"}, ClientID: "default", Lifetime: 15 * time.Minute}
}

// parts decodes a token without believing anything.
func parts(t testing.TB, raw string) (header, claims map[string]any) {
	t.Helper()
	segments := strings.Split(raw, ".")
	if len(segments) != 3 {
		t.Fatalf("%d parts", len(segments))
	}
	for i, into := range []*map[string]any{&header, &claims} {
		text, err := base64.RawURLEncoding.Strict().DecodeString(segments[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
	}
	return header, claims
}

func TestMint(t *testing.T) {
	k := keys(t)
	m := token.NewMinter(issuer, k, nil)
	at := time.Now().Add(-time.Second).Truncate(time.Second)
	for name, c := range map[string]struct {
		change func(*token.Access)
		want   map[string]any // besides those that every token of the table has
	}{
		"ok/minimal":   {func(*token.Access) {}, nil},
		"ok/audiences": {func(a *token.Access) { a.Audience = []string{"a", "b"} }, map[string]any{"aud": []any{"a", "b"}}},
		"ok/roles": {func(a *token.Access) { a.Roles = []string{"admin", `"quoted"\`} },
			map[string]any{"roles": []any{"admin", `"quoted"\`}}},
		"ok/escapes": {func(a *token.Access) { a.Scope = "é\x00\n\x1f\x7f</script>\u2028😀" },
			map[string]any{"scope": "é\x00\n\x1f\x7f</script>\u2028😀"}},
		"ok/extra": {func(a *token.Access) { a.Extra = map[string]any{"tenant": "t<1>", "level": 3} },
			map[string]any{"tenant": "t<1>", "level": 3.0}},
		"ok/client's own": {func(a *token.Access) { a.Subject = "default" }, map[string]any{"sub": "default"}},
		"ok/everything else": {
			func(a *token.Access) {
				a.Scope, a.SessionID, a.AuthTime, a.AMR, a.ACR = "openid profile", "ses_1", at.Add(-time.Hour), []string{"pwd", "otp"}, "aal2"
			},
			map[string]any{
				"scope": "openid profile", "sid": "ses_1", "auth_time": float64(at.Add(-time.Hour).Unix()),
				"amr": []any{"pwd", "otp"}, "acr": "aal2",
			},
		},
	} {
		for _, algorithm := range []string{"", verifier.ES256, verifier.EdDSA, verifier.RS256} {
			t.Run(name+"/"+cmp.Or(algorithm, "default"), func(t *testing.T) {
				access := minimal()
				access.Algorithm, access.IssuedAt = algorithm, at.Add(300*time.Millisecond)
				c.change(&access)
				minted, err := m.Mint(t.Context(), access)
				if err != nil {
					t.Fatal(err)
				}
				key, err := k.Signer(t.Context(), algorithm)
				if err != nil {
					t.Fatal(err)
				}
				header, claims := parts(t, minted.Raw)
				if diff := gocmp.Diff(map[string]any{
					"alg": cmp.Or(algorithm, verifier.EdDSA),
					"kid": key.ID,
					"typ": "at+jwt",
				}, header); diff != "" {
					t.Error(diff)
				}
				want := map[string]any{
					"iss": issuer, "sub": "usr_1", "aud": "https://api.example", "client_id": "default", "scope": "", "roles": []any{},
					"iat": float64(at.Unix()), "exp": float64(minted.ExpiresAt.Unix()), "jti": minted.ID,
				}
				maps.Copy(want, c.want)
				if diff := gocmp.Diff(want, claims); diff != "" {
					t.Error(diff)
				}
				if !minted.IssuedAt.Equal(at) {
					t.Errorf("issued at %v", minted.IssuedAt)
				}
				accept(t, k, minted.Raw, access)
			})
		}
	}
}

// accept has the token verified by our own verifier and by golang-jwt.
func accept(t *testing.T, k *keyring.Keyring, raw string, access token.Access) {
	t.Helper()
	v, err := verifier.New(t.Context(), issuer, verifier.WithAudience(access.Audience[len(access.Audience)-1]),
		verifier.WithKeys(k.Public), verifier.WithoutFeed())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	claims, err := v.Verify(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	if claims.Subject != access.Subject || claims.ClientID != access.ClientID || !slices.Equal(claims.Roles, access.Roles) ||
		claims.SessionID != access.SessionID {
		t.Errorf("verified as %+v", claims)
	}
	if _, err := jwt.Parse(raw, func(token *jwt.Token) (any, error) {
		key, ok := k.Public(token.Header["kid"].(string))
		if !ok {
			return nil, errors.New("unknown kid")
		}
		return key.Public(), nil
	}, jwt.WithIssuer(issuer), jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithStrictDecoding()); err != nil {
		t.Errorf("golang-jwt: %v", err)
	}
}

func TestMintRefuses(t *testing.T) {
	m := token.NewMinter(issuer, keys(t), nil)
	for name, change := range map[string]func(*token.Access){
		"fail/no subject":           func(a *token.Access) { a.Subject = "" },
		"fail/no client":            func(a *token.Access) { a.ClientID = "" },
		"fail/no audience":          func(a *token.Access) { a.Audience = nil },
		"fail/empty audience":       func(a *token.Access) { a.Audience = []string{"a", ""} },
		"fail/no lifetime":          func(a *token.Access) { a.Lifetime = 0 },
		"fail/negative lifetime":    func(a *token.Access) { a.Lifetime = -time.Hour },
		"fail/outlives its key":     func(a *token.Access) { a.Lifetime = 15*time.Minute + time.Second },
		"fail/subject not UTF-8":    func(a *token.Access) { a.Subject = "usr_\xff" },
		"fail/role not UTF-8":       func(a *token.Access) { a.Roles = []string{"a", "\xed\xa0\x80"} },
		"fail/extra not JSON":       func(a *token.Access) { a.Extra = map[string]any{"f": func() {}} },
		"fail/client named as user": func(a *token.Access) { a.ClientID = "usr_1" },
	} {
		t.Run(name, func(t *testing.T) {
			access := minimal()
			change(&access)
			if minted, err := m.Mint(t.Context(), access); !errors.Is(err, token.ErrClaims) || minted.Raw != "" {
				t.Errorf("%v, %v", minted, err)
			}
		})
	}
	t.Run("fail/algorithm", func(t *testing.T) {
		access := minimal()
		access.Algorithm = "HS256"
		if minted, err := m.Mint(t.Context(), access); !errors.Is(err, keyring.ErrUnknownAlgorithm) || minted.Raw != "" {
			t.Errorf("%v, %v", minted, err)
		}
	})
}

// JWT-20: no hook and no client metadata sets a claim of ours, in whatever spelling a verifier may take for it.
func TestJWT20_ReservedClaims(t *testing.T) {
	m := token.NewMinter(issuer, keys(t), nil)
	for _, name := range []string{
		"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "scope", "sid", "roles", "auth_time", "amr", "acr", "cnf", "act",
		"SUB", "Scope", "rOLES", "ſub", "ſcope", "iſſ",
	} {
		access := minimal()
		access.Extra = map[string]any{"harmless": 1, name: "usr_admin"}
		if _, err := m.Mint(t.Context(), access); !errors.Is(err, token.ErrClaims) || !token.Reserved(name) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if token.Reserved("tenant") || token.Reserved("subject") || token.Reserved("") {
		t.Error("reserves more than it must")
	}
	access := minimal()
	access.ClientID, access.Subject = "usr_01", "usr_01"
	if _, err := m.Mint(t.Context(), access); !errors.Is(err, token.ErrClaims) {
		t.Errorf("client named like a user: %v", err)
	}
}

func TestLifetimeIsSpread(t *testing.T) {
	m := token.NewMinter(issuer, keys(t), nil)
	seen, ids := map[time.Duration]bool{}, map[string]bool{}
	const full = 15 * time.Minute
	for range 600 {
		minted, err := m.Mint(t.Context(), minimal())
		if err != nil {
			t.Fatal(err)
		}
		life := minted.ExpiresAt.Sub(minted.IssuedAt)
		if life > full || life < full*95/100 || life%time.Second != 0 {
			t.Fatalf("lifetime %v", life)
		}
		if age := time.Since(minted.IssuedAt); age < 0 || age > 5*time.Second {
			t.Fatalf("issued %v ago", age)
		}
		seen[life], ids[minted.ID] = true, true
	}
	if len(seen) < 40 || !seen[full] || !seen[full*95/100] || len(ids) != 600 {
		t.Errorf("%d different lifetimes of 46, full %v, least %v; %d different IDs", len(seen), seen[full], seen[full*95/100],
			len(ids))
	}
}

func TestSign(t *testing.T) {
	k := keys(t)
	m := token.NewMinter(issuer, k, nil)
	for _, typ := range []token.Type{token.TypeID, token.TypeLogout, token.TypeBlocklist} {
		t.Run("ok/"+string(typ), func(t *testing.T) {
			claims := jwt.MapClaims{"iss": issuer, "nonce": "<&>", "exp": float64(time.Now().Add(time.Minute).Unix())}
			raw, err := m.Sign(t.Context(), typ, verifier.RS256, claims)
			if err != nil {
				t.Fatal(err)
			}
			header, got := parts(t, raw)
			if header["typ"] != string(typ) || header["alg"] != verifier.RS256 || len(header) != 3 {
				t.Errorf("header %v", header)
			}
			if diff := gocmp.Diff(map[string]any(claims), got); diff != "" {
				t.Error(diff)
			}
			key, _ := k.Public(header["kid"].(string))
			if _, err := jwt.Parse(raw, func(*jwt.Token) (any, error) { return key.Public(), nil }); err != nil {
				t.Error(err)
			}
			v, err := verifier.New(t.Context(), issuer, verifier.WithAudience("a"), verifier.WithKeys(k.Public), verifier.WithoutFeed())
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			if _, err := v.Verify(t.Context(), raw); !errors.Is(err, verifier.ErrInvalid) {
				t.Errorf("taken for an access token: %v", err)
			}
		})
	}
	for name, c := range map[string]struct {
		typ    token.Type
		claims any
	}{
		"fail/access token":  {"at+jwt", map[string]any{}},
		"fail/no type":       {"", map[string]any{}},
		"fail/injected type": {`JWT","crit":[],"x":"`, map[string]any{}},
		"fail/not an object": {token.TypeID, []string{"iss"}},
		"fail/null":          {token.TypeID, nil},
		"fail/cannot encode": {token.TypeID, map[string]any{"c": make(chan int)}},
	} {
		t.Run(name, func(t *testing.T) {
			if raw, err := m.Sign(t.Context(), c.typ, "", c.claims); !errors.Is(err, token.ErrClaims) || raw != "" {
				t.Errorf("%q, %v", raw, err)
			}
		})
	}
}

// FuzzMint: whatever text stands in a claim, it is read back as it was, or refused.
func FuzzMint(f *testing.F) {
	m := token.NewMinter(issuer, keys(f), nil)
	f.Add("usr_1", "openid", "admin")
	f.Add(`","sub":"usr_admin`, "\x00\x1f\x7f\u2028", "é\\\"\\u0041")
	f.Add("\xff", "\xed\xa0\x80", "\U0010ffff")
	f.Fuzz(func(t *testing.T, subject, scope, role string) {
		access := minimal()
		access.Subject, access.Scope, access.Roles = subject, scope, []string{role, subject}
		access.Extra = map[string]any{"x-" + role: scope}
		minted, err := m.Mint(t.Context(), access)
		if valid := subject != "" && utf8.ValidString(subject+"."+scope+"."+role); valid != (err == nil) {
			t.Fatalf("valid is %v: %v", valid, err)
		}
		if err != nil {
			return
		}
		_, claims := parts(t, minted.Raw)
		if claims["sub"] != subject || claims["scope"] != scope || !gocmp.Equal(claims["roles"], []any{role, subject}) ||
			claims["x-"+role] != scope {
			t.Errorf("%+v became %q", access, claims)
		}
	})
}

func BenchmarkMint(b *testing.B) {
	k := keys(b)
	m := token.NewMinter(issuer, k, nil)
	access := minimal()
	access.Scope, access.SessionID = "openid profile offline_access", "ses_abcdefghijklmnopqrstuvwxyz"
	access.Roles = []string{"admin", "editor"}
	access.AuthTime, access.AMR = time.Now(), []string{"pwd"}
	for _, algorithm := range []string{verifier.ES256, verifier.EdDSA, verifier.RS256} {
		access.Algorithm = algorithm
		key, err := k.Signer(b.Context(), algorithm)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(algorithm+"/mint", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.Mint(b.Context(), access); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(algorithm+"/bare signature", func(b *testing.B) {
			b.ReportAllocs()
			input, space := make([]byte, 700), make([]byte, 0, 256)
			for b.Loop() {
				if _, err := key.AppendSignature(space, input); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
