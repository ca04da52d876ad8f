package sessiontest

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/session"
)

// arena is a house and its database.
type arena struct {
	*house
	db *database
}

func arenas(t *testing.T, test func(t *testing.T, a *arena), change ...func(c *service.Config)) {
	t.Helper()
	t.Parallel()
	servicetest.Each(t, func(t *testing.T, at servicetest.Database) {
		h := newHouse(t, at, change...)
		db, err := openDatabase(t.Context(), at.URL)
		must(t, err)
		t.Cleanup(func() { must(t, db.close()) })
		test(t, &arena{h, db})
	})
}

func (a *arena) row(t testing.TB, g *guest) session.Session {
	t.Helper()
	id, err := session.ParseID(g.claims.Session)
	must(t, err)
	row, err := a.db.Session(t.Context(), id)
	must(t, err)
	return row
}

// age lets time pass for a guest's sessions.
func (a *arena) age(t testing.TB, g *guest, d time.Duration) {
	t.Helper()
	must(t, a.db.age(t.Context(), g.claims.Subject, d))
}

// present refreshes at one of the replicas, with an Idempotency-Key unless it is empty.
func (a *arena) present(t testing.TB, replica int, refreshToken, key string, more ...string) servicetest.Response {
	t.Helper()
	header := http.Header{}
	if key != "" {
		header.Set("Idempotency-Key", key)
	}
	form := append([]string{"grant_type", "refresh_token", "refresh_token", refreshToken}, more...)
	r, err := a.s[replica].TryForm(t.Context(), "/oauth2/token", header, form...)
	if err != nil {
		t.Errorf("refresh: %v", err)
	}
	return r
}

func (a *arena) reuses(t testing.TB, g *guest) (n int) {
	t.Helper()
	events, err := a.db.Events(t.Context(), g.claims.Subject, audit.Cursor{}, 100)
	must(t, err)
	for _, e := range events {
		if e.Kind == audit.KindRefreshTokenReuse && e.SessionID == g.claims.Session {
			n++
		}
	}
	return n
}

// wantLive demands that the session goes on from the guest's token.
func (a *arena) wantLive(t *testing.T, g *guest) {
	t.Helper()
	if r := a.present(t, 0, g.tokens.RefreshToken, "", "client_id", g.clientID); r.Status != http.StatusOK {
		t.Errorf("the session is over: %d %s", r.Status, r.Body)
	}
}

// Somebody keeps R0 while the owner goes on to R2. R0 ends it for both.
func TestRT01_Reuse(t *testing.T) {
	arenas(t, func(t *testing.T, a *arena) {
		g := a.guest(t, false)
		bystander := a.guest(t, false)
		first := a.present(t, 0, g.tokens.RefreshToken, "").Tokens(t)
		second := a.present(t, 1, first.RefreshToken, "").Tokens(t)
		if r := a.present(t, 0, g.tokens.RefreshToken, ""); r.Status != http.StatusBadRequest || r.Code() != "invalid_grant" ||
			strings.Contains(r.Body, "token\":") {
			t.Errorf("reuse: %d %s", r.Status, r.Body)
		}
		for _, raw := range []string{second.RefreshToken, first.RefreshToken, g.tokens.RefreshToken} {
			for replica := range a.s {
				wantRefused(t, "after reuse", a.present(t, replica, raw, ""))
			}
		}
		for _, tokens := range []servicetest.Tokens{g.tokens, first, second} {
			a.wantDead(t, "an access token of the session", tokens.AccessToken)
		}
		if n := a.reuses(t, g); n != 1 {
			t.Errorf("%d events", n)
		}
		if row := a.row(t, g); row.RevokeReason != session.ReasonReuse {
			t.Errorf("row: %+v", row)
		}
		a.wantLive(t, bystander)
	})
}

// Many present the same token at once. All get the same successor, and the generation moves once.
func TestRT02_Race(t *testing.T) {
	arenas(t, func(t *testing.T, a *arena) {
		for _, n := range []int{2, 5, 50} {
			for replicas := 1; replicas <= 2; replicas++ {
				t.Run(fmt.Sprintf("%d on %d replicas", n, replicas), func(t *testing.T) {
					g := a.guest(t, false)
					for generation := uint32(2); generation < 5; generation++ {
						answers := make([]servicetest.Response, n)
						var wg sync.WaitGroup
						for i := range answers {
							wg.Go(func() { answers[i] = a.present(t, i%replicas, g.tokens.RefreshToken, "") })
						}
						wg.Wait()
						for _, r := range answers {
							if r.Status != http.StatusOK {
								t.Fatalf("%d %s", r.Status, r.Body)
							}
							if got := r.Tokens(t).RefreshToken; got != answers[0].Tokens(t).RefreshToken {
								t.Fatal("two successors")
							}
						}
						if row := a.row(t, g); row.Generation != generation || !row.RevokedAt.IsZero() {
							t.Fatalf("generation %d, want %d; revoked: %v", row.Generation, generation, row.RevokedAt)
						}
						g.tokens = answers[0].Tokens(t)
					}
				})
			}
		}
	})
}

// The service commits, and the client is gone before the answer. It comes again with the same token, at another replica.
func TestRT03_LostAnswer(t *testing.T) {
	grace := service.DefaultConfig().RefreshGrace
	arenas(t, func(t *testing.T, a *arena) {
		for name, test := range map[string]struct {
			first, second string // Idempotency-Keys
			after         time.Duration
			lives         bool
		}{
			"ok/within the grace period":                            {"", "", 0, true},
			"ok/long after it, by the same request":                 {"a", "a", 6 * 24 * time.Hour, true},
			"fail/after the grace period":                           {"", "", 2 * grace, false},
			"fail/after the grace period, by another request":       {"a", "b", 2 * grace, false},
			"fail/after the grace period, by one that has no key":   {"a", "", 2 * grace, false},
			"ok/within the grace period, by a request with any key": {"", "b", 0, true},
		} {
			t.Run(name, func(t *testing.T) {
				g := a.guest(t, false)
				gate := a.link[0].hold("Rotate", true)
				ctx, hangUp := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() {
					header := http.Header{}
					if test.first != "" {
						header.Set("Idempotency-Key", test.first)
					}
					r, err := a.s[0].TryForm(ctx, "/oauth2/token", header, "grant_type", "refresh_token", "refresh_token", g.tokens.RefreshToken)
					if err == nil {
						t.Errorf("got an answer: %d", r.Status)
					}
				})
				<-gate.reached // committed
				hangUp()
				wg.Wait()
				close(gate.release)
				if row := a.row(t, g); row.Generation != 2 {
					t.Fatalf("generation %d", row.Generation)
				}
				a.age(t, g, test.after)
				r := a.present(t, 1, g.tokens.RefreshToken, test.second)
				if !test.lives {
					wantRefused(t, "the late repeat", r)
					a.wantDead(t, "the access token", g.tokens.AccessToken)
					return
				}
				next := *g
				next.tokens = r.Tokens(t)
				if p, err := a.db.codec.Parse(next.tokens.RefreshToken); err != nil || p.Generation != 2 {
					t.Errorf("generation %d, %v", p.Generation, err)
				}
				a.wantLive(t, &next)
			})
		}
	})
}

// A thief and the owner take turns, each with what the other has left. Within the grace period they cannot be told from
// two tabs; the first turn outside of it ends the session.
func TestRT04_TakingTurns(t *testing.T) {
	arenas(t, func(t *testing.T, a *arena) {
		for _, key := range []string{"", "k"} {
			g := a.guest(t, false)
			owner, thief := g.tokens.RefreshToken, g.tokens.RefreshToken
			for range 3 { // like two tabs
				owner = a.present(t, 0, owner, key).Tokens(t).RefreshToken
				thief = a.present(t, 1, thief, "").Tokens(t).RefreshToken
			}
			served := 0
			for i := range 4 {
				a.age(t, g, service.DefaultConfig().RefreshGrace+time.Second)
				mine := &owner
				if i%2 == 1 {
					mine = &thief
				}
				r := a.present(t, i%2, *mine, "")
				if r.Status != http.StatusOK {
					break
				}
				*mine = r.Tokens(t).RefreshToken
				served++
			}
			if row := a.row(t, g); served > 2 || row.RevokeReason != session.ReasonReuse {
				t.Errorf("%d turns served, row %+v", served, row)
			}
		}
	})
}

// A refresh token is its client's alone. Whoever else presents it gets nothing and changes nothing.
func TestRT07_ClientBinding(t *testing.T) {
	arenas(t, func(t *testing.T, a *arena) {
		now := time.Now()
		event := audit.Event{At: now, Kind: audit.KindClientCreated, Actor: audit.ActorCLI}
		must(t, a.db.CreateClient(t.Context(), oauth.Client{
			ID:         "secretive",
			Type:       oauth.Confidential,
			SecretHash: oauth.HashSecret("s3cret"),
			Grants:     []string{oauth.GrantRefreshToken},
			CreatedAt:  now,
			UpdatedAt:  now,
		}, event))
		must(t, a.db.CreateClient(t.Context(), oauth.Client{
			ID: "open", Type: oauth.Public, Grants: []string{oauth.GrantRefreshToken}, CreatedAt: now, UpdatedAt: now,
		}, event))
		g := a.guest(t, false)
		u, err := a.db.UserByEmail(t.Context(), g.email)
		must(t, err)
		start := func(clientID string) string {
			issued, err := a.s[0].Sessions.Start(t.Context(), session.Login{User: u, ClientID: clientID, Audience: a.s[0].Config.Audience})
			must(t, err)
			return issued.RefreshToken
		}
		mine, secretive := start("open"), start("secretive")
		for name, test := range map[string]struct {
			token string
			form  []string
			code  string
		}{
			"fail/another public client": {mine, []string{"client_id", "default"}, "invalid_grant"},
			"fail/no client named":       {mine, nil, "invalid_grant"},
			"fail/a confidential client": {mine, []string{"client_id", "secretive", "client_secret", "s3cret"},
				"invalid_grant"},
			"fail/an unknown client":                  {mine, []string{"client_id", "nobody"}, "invalid_client"},
			"fail/a confidential client's, no secret": {secretive, []string{"client_id", "secretive"}, "invalid_client"},
			"fail/a confidential client's, wrong one": {secretive, []string{"client_id", "secretive", "client_secret", "guess"},
				"invalid_client"},
			"fail/a confidential client's, by another": {secretive, []string{"client_id", "open"}, "invalid_grant"},
			"fail/a public client with a secret":       {mine, []string{"client_id", "open", "client_secret", "x"}, "invalid_client"},
			"fail/a client named twice":                {mine, []string{"client_id", "open", "client_id", "default"}, "invalid_request"},
			"fail/a confidential client's, empty secret": {secretive, []string{"client_id", "secretive", "client_secret", ""},
				"invalid_client"},
		} {
			t.Run(name, func(t *testing.T) {
				for replica := range a.s {
					if r := a.present(t, replica, test.token, "", test.form...); r.Code() != test.code {
						t.Errorf("%d %s, want %s", r.Status, r.Body, test.code)
					}
				}
			})
		}
		// An old token in the hands of a stranger ends nothing either.
		next := a.present(t, 0, mine, "", "client_id", "open").Tokens(t)
		last := a.present(t, 0, next.RefreshToken, "", "client_id", "open").Tokens(t)
		for _, old := range []string{mine, next.RefreshToken, last.RefreshToken} {
			wantRefused(t, "a stranger", a.present(t, 1, old, "", "client_id", "default"))
		}
		if r := a.present(t, 1, last.RefreshToken, "", "client_id", "open"); r.Status != http.StatusOK {
			t.Errorf("a stranger has ended the session: %s", r.Body)
		}
		if r := a.present(t, 1, secretive, "", "client_id", "secretive", "client_secret", "s3cret"); r.Status != http.StatusOK {
			t.Errorf("a stranger has ended the session: %s", r.Body)
		}
	})
}

// A refresh may ask for less than the grant and never for more; the grant stays as it is.
func TestRT08_Scope(t *testing.T) {
	arenas(t, func(t *testing.T, a *arena) {
		g := a.guest(t, false)
		u, err := a.db.UserByEmail(t.Context(), g.email)
		must(t, err)
		issued, err := a.s[0].Sessions.Start(t.Context(), session.Login{
			User:     u,
			ClientID: oauth.DefaultClientID,
			Scope:    "openid profile",
			Audience: []string{a.s[0].Config.Issuer, "https://api.example.test"},
		})
		must(t, err)
		token := issued.RefreshToken
		for _, step := range []struct {
			form  []string
			code  string
			scope string
		}{
			{[]string{"scope", "openid profile email"}, "invalid_scope", ""},
			{[]string{"scope", "admin"}, "invalid_scope", ""},
			{[]string{"scope", "openid\tprofile"}, "invalid_scope", ""},
			{[]string{"scope", "openid", "scope", "profile"}, "invalid_request", ""},
			{[]string{"resource", "https://elsewhere.example.test"}, "invalid_target", ""},
			{[]string{"scope", "profile"}, "", "profile"},
			{nil, "", "openid profile"},
			{[]string{"scope", ""}, "", "openid profile"},
			{[]string{"scope", "profile openid"}, "", "profile openid"},
			{[]string{"scope", "profile email"}, "invalid_scope", ""},
			{[]string{"resource", "https://api.example.test"}, "", "openid profile"},
			{nil, "", "openid profile"},
		} {
			r := a.present(t, 1, token, "", step.form...)
			if step.code != "" {
				if r.Code() != step.code {
					t.Errorf("%q: %d %s, want %s", step.form, r.Status, r.Body, step.code)
				}
				continue
			}
			tokens := r.Tokens(t)
			if got := servicetest.Claims(t, tokens.AccessToken)["scope"]; tokens.Scope != step.scope || got != step.scope {
				t.Errorf("%q: scope %q and %q, want %q", step.form, tokens.Scope, got, step.scope)
			}
			token = tokens.RefreshToken
		}
	})
}

// Whatever the browser holds at login, the login is a session of its own.
func TestRT09_Fixation(t *testing.T) {
	arenas(t, func(t *testing.T, a *arena) {
		attacker, victim := a.guest(t, false), a.guest(t, false)
		header := bearer(attacker.tokens.AccessToken)
		header.Set("Content-Type", "application/json")
		header.Set("Cookie", "refresh_token="+attacker.tokens.RefreshToken+"; __Host-refresh_token="+attacker.tokens.RefreshToken)
		r := a.s[0].Do(t, http.MethodPost, "/v1/login", header, strings.NewReader(
			`{"email":"`+victim.email+`","password":"`+servicetest.Password+`"}`))
		tokens := r.Tokens(t)
		c := claimsOf(t, tokens.AccessToken)
		if c.Subject != victim.claims.Subject || c.Session == attacker.claims.Session || c.Session == victim.claims.Session {
			t.Errorf("logged in as %+v", c)
		}
		wantOther := a.present(t, 0, attacker.tokens.RefreshToken, "").Tokens(t)
		if got := claimsOf(t, wantOther.AccessToken); got.Subject != attacker.claims.Subject {
			t.Errorf("the planted token is now %+v", got)
		}
	})
}

// The ends of a session stand in the database: no restart forgets them, and no rotation moves the absolute one.
func TestRT10_Ends(t *testing.T) {
	const idle, lifetime, moment = time.Hour, 3 * time.Hour, time.Minute
	t.Parallel()
	settings := func(c *service.Config) { c.RefreshIdleLifetime, c.RefreshLifetime = idle, lifetime }
	servicetest.Each(t, func(t *testing.T, at servicetest.Database) {
		db, err := openDatabase(t.Context(), at.URL)
		must(t, err)
		t.Cleanup(func() { must(t, db.close()) })
		for name, test := range map[string]struct {
			pauses []time.Duration // a refresh after each
			lives  bool            // after the last
		}{
			"ok/just before the idle end":      {[]time.Duration{idle - moment}, true},
			"fail/just after the idle end":     {[]time.Duration{idle + moment}, false},
			"ok/the idle end moves":            {[]time.Duration{idle - moment, idle - moment}, true},
			"ok/just before the absolute end":  {[]time.Duration{idle - moment, idle - moment, idle - moment, 2 * moment}, true},
			"fail/just after the absolute end": {[]time.Duration{idle - moment, idle - moment, idle - moment, 4 * moment}, false},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := servicetest.Start(t, at, settings)
				g := &guest{email: session.NewID(time.Now()).String() + "@example.test"}
				g.tokens = s.SignUp(t, g.email)
				g.claims = claimsOf(t, g.tokens.AccessToken)
				for i, pause := range test.pauses {
					must(t, db.age(t.Context(), g.claims.Subject, pause))
					s.Stop()
					s = servicetest.Start(t, at, settings)
					r := s.Refresh(t, g.tokens.RefreshToken)
					if lives := i < len(test.pauses)-1 || test.lives; !lives {
						wantRefused(t, "after the end", r)
						return
					}
					g.tokens = r.Tokens(t)
				}
			})
		}
	})
}

// The database fails at each statement of a refresh, before and after it did its work. The answer is that it can be
// tried again, and it can.
func TestRT11_StorageErrors(t *testing.T) {
	arenas(t, func(t *testing.T, a *arena) {
		for name, prepare := range map[string]func(t *testing.T, g *guest){
			"advance": func(*testing.T, *guest) {},
			"repeat":  func(t *testing.T, g *guest) { a.present(t, 0, g.tokens.RefreshToken, "").Tokens(t) },
			"reuse": func(t *testing.T, g *guest) {
				a.present(t, 0, a.present(t, 0, g.tokens.RefreshToken, "").Tokens(t).RefreshToken, "").Tokens(t)
			},
		} {
			for _, f := range []fault{failBefore, failAfter} {
				t.Run(name+"/"+f.String(), func(t *testing.T) {
					for n := 0; ; n++ {
						g := a.guest(t, false)
						prepare(t, g)
						faults := a.link[0].faults.Load()
						a.link[0].arm(f, n)
						r := a.present(t, 0, g.tokens.RefreshToken, "")
						a.link[0].arm(healthy, 0)
						if a.link[0].faults.Load() == faults {
							return // it makes no more calls
						}
						if r.Status != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" || strings.Contains(r.Body, "hsr_") ||
							strings.Contains(r.Body, "access_token") {
							t.Errorf("call %d: %d %v %s", n, r.Status, r.Header, r.Body)
						}
						again := a.present(t, 1, g.tokens.RefreshToken, "")
						if name == "reuse" {
							wantRefused(t, "again", again)
							if a.reuses(t, g) != 1 || a.row(t, g).RevokedAt.IsZero() {
								t.Errorf("call %d: %d events, row %+v", n, a.reuses(t, g), a.row(t, g))
							}
						} else if again.Status != http.StatusOK || a.row(t, g).Generation != 2 {
							t.Errorf("call %d, again: %d %s, generation %d", n, again.Status, again.Body, a.row(t, g).Generation)
						}
					}
				})
			}
		}
	})
}

// Nothing that belongs to a session which was revoked can be turned into anything that lives.
func TestRT15_Revoked(t *testing.T) {
	arenas(t, func(t *testing.T, a *arena) {
		g := a.guest(t, false)
		older := g.tokens
		g.tokens = a.present(t, 0, older.RefreshToken, "key").Tokens(t)
		if r := a.s[0].Form(t, "/oauth2/revoke", "token", g.tokens.RefreshToken); r.Status != http.StatusOK {
			t.Fatalf("revoke: %d %s", r.Status, r.Body)
		}
		p, err := a.db.codec.Parse(g.tokens.RefreshToken)
		must(t, err)
		p.Generation += 5
		future := a.db.codec.Format(p) // as if a failover had lost five rotations
		for replica := range a.s {
			wantRefused(t, "the newest", a.present(t, replica, g.tokens.RefreshToken, ""))
			wantRefused(t, "the one before", a.present(t, replica, older.RefreshToken, ""))
			wantRefused(t, "the one before, with its key", a.present(t, replica, older.RefreshToken, "key"))
			wantRefused(t, "one from the future", a.present(t, replica, future, ""))
			for _, raw := range []string{g.tokens.RefreshToken, g.tokens.AccessToken} {
				if r := a.s[replica].Form(t, "/oauth2/token", "grant_type", "authorization_code", "code", raw, "redirect_uri",
					"http://127.0.0.1/", "code_verifier", strings.Repeat("v", 43)); r.Status/100 != 4 {
					t.Errorf("as a code: %d %s", r.Status, r.Body)
				}
				r := a.s[replica].Form(t, "/oauth2/token", "grant_type", "urn:ietf:params:oauth:grant-type:token-exchange",
					"subject_token", raw, "subject_token_type", "urn:ietf:params:oauth:token-type:access_token")
				if r.Status/100 != 4 {
					t.Errorf("exchange: %d %s", r.Status, r.Body)
				}
			}
		}
		a.wantDead(t, "the access token", g.tokens.AccessToken)
		if row := a.row(t, g); row.Generation != 2 || row.RevokeReason != session.ReasonRevoked {
			t.Errorf("row: %+v", row)
		}
	})
}
