package verifier

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestKeyRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newSigner("a"), newSigner("b")
		i := newBubbleIssuer(t, a)
		v := i.follow(t, WithoutFeed())
		expect(t, v, "the first key", i.mint(a), nil)
		i.set(func(i *issuer) { i.signers = append(i.signers, b) }) // published, and used once max-age has passed
		time.Sleep(300 * time.Second)
		before := i.count(jwksPath)
		expect(t, v, "the second key", i.mint(b), nil)
		if i.count(jwksPath) != before {
			t.Error("a key that was published in time had to be fetched for a token")
		}
		expect(t, v, "the first key", i.mint(a), nil)
		i.set(func(i *issuer) { i.signers = []signer{b} })
		time.Sleep(300 * time.Second)
		expect(t, v, "a key that is gone", i.mint(a), ErrUnknownKey)
		expect(t, v, "the second key", i.mint(b), nil)
	})
}

// Many tokens with one new key cause one fetch, and all of them are accepted.
func TestUnknownKeyIsFetchedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newSigner("a"), newSigner("b")
		i := newBubbleIssuer(t, a)
		v := i.follow(t, WithoutFeed())
		i.set(func(i *issuer) { i.signers = append(i.signers, b) })
		raw, before := i.mint(b), i.count(jwksPath)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { expect(t, v, "new key", raw, nil) })
		}
		wg.Wait()
		if n := i.count(jwksPath) - before; n != 1 {
			t.Errorf("%d fetches, want 1", n)
		}
	})
}

func TestKeysWhileIssuerIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newSigner("a"), newSigner("b")
		i := newBubbleIssuer(t, a)
		var fetches, failures int
		var mu sync.Mutex
		v := i.follow(t, WithoutFeed(), WithHooks(Hooks{KeysFetched: func(err error) {
			mu.Lock()
			defer mu.Unlock()
			if fetches++; err != nil {
				failures++
			}
		}}))
		i.set(func(i *issuer) { i.fail[jwksPath], i.fail[metaPath] = 503, 503 })
		time.Sleep(time.Hour)
		expect(t, v, "known key", i.mint(a), nil)
		expect(t, v, "perhaps a new key", i.mint(b), ErrUnavailable) // an unknown outcome is not a refusal
		if s := v.Status(); s.KeysErr == nil || s.Keys != 1 || s.KeysAge < time.Hour-5*time.Minute {
			t.Errorf("status = %+v", s)
		}
		mu.Lock()
		if failures < 50 || failures > 200 {
			t.Errorf("%d attempts in an hour's outage", failures)
		}
		mu.Unlock()
		i.set(func(i *issuer) { clear(i.fail); i.signers = append(i.signers, b) })
		time.Sleep(time.Minute)
		expect(t, v, "new key", i.mint(b), nil)
	})
}

// KEY-05: a key that is revoked is named in the feed; the verifier refuses what it signed and fetches its successor at once, also
// when made-up kids have used up the fetch of the last 30 seconds.
func TestKEY05_RevokedKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newSigner("a"), newSigner("b")
		i := newBubbleIssuer(t, a)
		v := i.follow(t)
		raw := i.mint(a)
		expect(t, v, "made-up kid", newSigner("x").sign(`{"alg":"ES256","kid":"x","typ":"at+jwt"}`, claims(i.url)), ErrUnknownKey)
		i.set(func(i *issuer) { i.signers = []signer{b} })
		now := uint32(time.Now().Unix())
		i.set(func(i *issuer) { i.log = append(i.log, Entry{KeyOf(BlockKID, "a"), now + 3600, now + 3600}) })
		time.Sleep(2 * time.Second)
		expect(t, v, "signed by the revoked key", raw, ErrInvalid)
		expect(t, v, "signed by its successor", i.mint(b), nil)
	})
}

func TestBadKeySets(t *testing.T) {
	a, b := newSigner("a"), newSigner("b")
	keyA, _ := NewJWK("a", a.private.Public())
	keyB, _ := NewJWK("b", b.private.Public())
	text := func(k JWK) string {
		return fmt.Sprintf(`{"kty":%q,"crv":%q,"x":%q,"y":%q,"kid":%q,"alg":%q,"use":"sig","key_ops":["verify"],"x5t":"x"}`, k.Kty,
			k.Crv, k.X, k.Y, k.Kid, k.Alg)
	}
	twin := keyB
	twin.Kid = "a"
	for name, c := range map[string]struct {
		body string
		want error
	}{
		"ok/other kinds beside": {`{"keys":[{"kty":"oct","k":"AAAA","kid":"a","alg":"HS256"},` +
			`{"kty":"EC","crv":"P-521","kid":"c"},` + text(keyA) + `]}`, nil},
		"ok/again":               {`{"keys":[` + text(keyB) + `,` + text(keyA) + `],"more":1}`, nil},
		"fail/empty":             {`{"keys":[]}`, ErrUnavailable},
		"fail/null":              {`{"keys":null}`, ErrUnavailable},
		"fail/not JSON":          {`<html>`, ErrUnavailable},
		"fail/one kid, two keys": {`{"keys":[` + text(keyA) + `,` + text(twin) + `]}`, ErrUnavailable},
		"fail/only secrets":      {`{"keys":[{"kty":"oct","k":"AAAA","kid":"a","alg":"HS256"}]}`, ErrUnavailable},
		"fail/endless":           {`{"keys":[` + text(keyA) + `],"x":"` + strings.Repeat("x", maxJWKS) + `"}`, ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := newBubbleIssuer(t, a)
				i.client = serveBubble(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == jwksPath {
						_, _ = w.Write([]byte(c.body))
						return
					}
					i.ServeHTTP(w, r)
				}))
				v := i.follow(t, WithoutFeed())
				expect(t, v, name, i.mint(a), c.want)
			})
		})
	}
}

func TestKeyMaxAge(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"":                     defaultKeyMaxAge,
		"public":               defaultKeyMaxAge,
		"public, max-age=60":   time.Minute,
		`Max-Age="60"`:         time.Minute,
		"max-age=1":            time.Second,
		"max-age=0":            uncachedKeys,
		"no-store":             uncachedKeys,
		"max-age=60, no-cache": uncachedKeys,
		"max-age=x":            uncachedKeys,
		"max-age=-1":           uncachedKeys,
		"max-age=999999999":    longestKeyMaxAge,
	} {
		a := answer{header: http.Header{"Cache-Control": {header}}}
		if got := a.keyMaxAge(); got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
	a := answer{header: http.Header{"Cache-Control": {"max-age=60"}, "Age": {"50"}}}
	if got := a.keyMaxAge(); got != 10*time.Second {
		t.Errorf("with Age: %v, want 10 s", got)
	}
}

// Redirects are not followed, and addresses without TLS are not believed.
func TestMetadataThatLeadsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, meta := range map[string]func(w http.ResponseWriter, r *http.Request, i *issuer){
			"redirect": func(w http.ResponseWriter, r *http.Request, i *issuer) {
				http.Redirect(w, r, i.url+"/elsewhere", http.StatusFound)
			},
			"clear text": func(w http.ResponseWriter, _ *http.Request, i *issuer) {
				fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"http://keys.example/"}`, i.url)
			},
			"no jwks_uri": func(w http.ResponseWriter, _ *http.Request, i *issuer) { fmt.Fprintf(w, `{"issuer":%q}`, i.url) },
			"clear stream": func(w http.ResponseWriter, _ *http.Request, i *issuer) {
				fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"%s/k","handstamp_blocklist_stream_endpoint":"http://x.example"}`, i.url, i.url)
			},
			"file": func(w http.ResponseWriter, _ *http.Request, i *issuer) {
				fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"file:///etc/passwd"}`, i.url)
			},
		} {
			i := newBubbleIssuer(t, newSigner("a"))
			var strayed bool
			i.client = serveBubble(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == metaPath {
					meta(w, r, i)
					return
				}
				strayed = true
			}))
			v := i.follow(t)
			expect(t, v, name, i.mint(i.signers[0]), ErrUnavailable)
			if strayed {
				t.Errorf("%s: another address was asked", name)
			}
			v.Close()
		}
	})
}

// A request that waits for keys is let go when its client is gone.
func TestContextBoundsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newSigner("a")
		i := newBubbleIssuer(t, a)
		hang := make(chan struct{})
		var hanging bool
		i.client = serveBubble(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == jwksPath && hanging {
				<-hang
			}
			i.ServeHTTP(w, r)
		}))
		v := i.follow(t, WithoutFeed())
		hanging = true
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		b := newSigner("b")
		if _, err := v.Verify(ctx, b.sign(b.header(), claims(i.url))); !errors.Is(err, ErrUnavailable) ||
			!errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Verify = %v, want ErrUnavailable and the cause", err)
		}
		close(hang)
	})
}
