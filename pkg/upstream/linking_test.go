package upstream_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/upstream"
)

func TestDecide(t *testing.T) {
	const email = "ada@example.com"
	verified := upstream.Identity{Provider: "up", Subject: "s", Email: email, EmailVerified: true}
	unverified := upstream.Identity{Provider: "up", Subject: "s", Email: email}
	proven := upstream.Person{UserID: "ada", Email: email, EmailVerified: true}
	unproven := upstream.Person{UserID: "mallory", Email: email}
	spelled := func(p upstream.Person, email string) upstream.Person { p.Email = email; return p }
	disabled := func(p upstream.Person) upstream.Person { p.Disabled = true; return p }
	linked := func(p upstream.Person) upstream.Person { p.HasProvider = true; return p }
	login := func(id upstream.Identity, candidates ...upstream.Person) upstream.Situation {
		return upstream.Situation{
			Identity:      id,
			EmailTrusted:  true,
			SignupAllowed: true,
			EmailRequired: true,
			Known:         upstream.Known{Candidates: candidates},
		}
	}
	with := func(s upstream.Situation, change func(*upstream.Situation)) upstream.Situation { change(&s); return s }

	for name, c := range map[string]struct {
		s    upstream.Situation
		want upstream.Decision
	}{
		"ok/known identity": {
			with(login(unverified), func(s *upstream.Situation) { s.Owner = &proven }),
			upstream.Decision{Action: upstream.Login, UserID: "ada"},
		},
		"ok/known identity with another's address": { // the address changed at the provider
			with(login(verified, upstream.Person{UserID: "bob", EmailVerified: true}), func(s *upstream.Situation) { s.Owner = &proven }),
			upstream.Decision{Action: upstream.Login, UserID: "ada"},
		},
		"ok/known identity while sign-up is closed": {
			with(login(unverified), func(s *upstream.Situation) { s.Owner, s.SignupAllowed = &proven, false }),
			upstream.Decision{Action: upstream.Login, UserID: "ada"},
		},
		"fail/known identity of a disabled user": {
			with(login(verified), func(s *upstream.Situation) { p := disabled(proven); s.Owner = &p }),
			upstream.Decision{Err: upstream.ErrUserDisabled},
		},
		"ok/OA-07 proven address of one user who proved it too": {
			login(verified, proven), upstream.Decision{Action: upstream.LinkTo, UserID: "ada", Email: email},
		},
		"fail/OA-07 address not verified": {
			login(unverified, proven), upstream.Decision{Err: upstream.ErrEmailRequired},
		},
		"ok/OA-07 address not verified finds nobody, not even to refuse": {
			with(login(unverified, proven), func(s *upstream.Situation) { s.EmailRequired = false }),
			upstream.Decision{Action: upstream.Create},
		},
		"fail/OA-07 provider not trusted": {
			with(login(verified, proven), func(s *upstream.Situation) { s.EmailTrusted = false }),
			upstream.Decision{Err: upstream.ErrEmailRequired},
		},
		"ok/OA-07 provider not trusted, address not needed": {
			with(login(verified, proven), func(s *upstream.Situation) { s.EmailTrusted, s.EmailRequired = false, false }),
			upstream.Decision{Action: upstream.Create},
		},
		"fail/OA-07 two users": {
			login(verified, proven, unproven), upstream.Decision{Err: upstream.ErrAmbiguousEmail},
		},
		"fail/address was given to somebody else at the provider": {
			login(verified, linked(proven)), upstream.Decision{Err: upstream.ErrProviderLinked},
		},
		"fail/disabled user": {
			login(verified, disabled(proven)), upstream.Decision{Err: upstream.ErrUserDisabled},
		},
		"fail/disabled user who proved nothing": {
			login(verified, disabled(unproven)), upstream.Decision{Err: upstream.ErrUserDisabled},
		},
		"ok/OA-07 the user's spelling of the address is what was proven": {
			login(verified, spelled(proven, "Ada@EXAMPLE.com")),
			upstream.Decision{Action: upstream.LinkTo, UserID: "ada", Email: "Ada@EXAMPLE.com"},
		},
		"fail/OA-07 address that reads alike": {
			login(verified, spelled(proven, "ada@exampl\u212e.com")), upstream.Decision{Err: upstream.ErrLookalikeEmail},
		},
		"fail/OA-07 sharp s": {
			login(upstream.Identity{Provider: "up", Subject: "s", Email: "ada@fußball.example", EmailVerified: true},
				spelled(proven, "ada@fussball.example")),
			upstream.Decision{Err: upstream.ErrLookalikeEmail},
		},
		"fail/EM-08 user who proved nothing, with a long s": {
			login(verified, spelled(unproven, "ada@example.com\u017f")), upstream.Decision{Err: upstream.ErrLookalikeEmail},
		},
		"ok/EM-08 user who proved nothing": {
			login(verified, unproven), upstream.Decision{Action: upstream.Adopt, UserID: "mallory", Email: email},
		},
		"ok/EM-08 with an identity of the same provider waiting": {
			login(verified, linked(unproven)), upstream.Decision{Action: upstream.Adopt, UserID: "mallory", Email: email},
		},
		"ok/EM-08 while sign-up is closed": {
			with(login(verified, unproven), func(s *upstream.Situation) { s.SignupAllowed = false }),
			upstream.Decision{Action: upstream.Adopt, UserID: "mallory", Email: email},
		},
		"ok/new user": {
			login(verified), upstream.Decision{Action: upstream.Create, Email: email},
		},
		"fail/new user without an address": {
			login(upstream.Identity{Provider: "up", Subject: "s"}), upstream.Decision{Err: upstream.ErrEmailRequired},
		},
		"fail/OA-17 sign-up closed": {
			with(login(verified), func(s *upstream.Situation) { s.SignupAllowed = false }),
			upstream.Decision{Err: upstream.ErrSignupClosed},
		},
		"ok/known identity, whose address could not be had": {
			with(login(upstream.Identity{Provider: "up", Subject: "s", EmailFault: upstream.ErrUnavailable}),
				func(s *upstream.Situation) { s.Owner = &proven }),
			upstream.Decision{Action: upstream.Login, UserID: "ada"},
		},
		"fail/unknown identity, whose address could not be had": {
			with(login(upstream.Identity{Provider: "up", Subject: "s", EmailFault: upstream.ErrUnavailable}),
				func(s *upstream.Situation) { s.EmailRequired = false }),
			upstream.Decision{Err: upstream.ErrUnavailable},
		},
		"ok/added by the user, whatever the address": {
			with(login(unverified, unproven), func(s *upstream.Situation) { s.UserID, s.Self = "ada", &proven }),
			upstream.Decision{Action: upstream.LinkTo, UserID: "ada"},
		},
		"ok/added again": {
			with(login(verified), func(s *upstream.Situation) { s.UserID, s.Self, s.Owner = "ada", &proven, &proven }),
			upstream.Decision{Action: upstream.Login, UserID: "ada"},
		},
		"fail/OA-15 identity of another": {
			with(login(verified), func(s *upstream.Situation) { s.UserID, s.Self, s.Owner = "mallory", &unproven, &proven }),
			upstream.Decision{Err: upstream.ErrIdentityTaken},
		},
		"fail/OA-15 second identity of one provider": {
			with(login(verified), func(s *upstream.Situation) { p := linked(proven); s.UserID, s.Self = "ada", &p }),
			upstream.Decision{Err: upstream.ErrProviderLinked},
		},
		"fail/added to a user who is gone": {
			with(login(verified), func(s *upstream.Situation) { s.UserID = "gone" }),
			upstream.Decision{Err: upstream.ErrUserDisabled},
		},
		"fail/added to a disabled user": {
			with(login(verified), func(s *upstream.Situation) { p := disabled(proven); s.UserID, s.Self = "ada", &p }),
			upstream.Decision{Err: upstream.ErrUserDisabled},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(c.want, upstream.Decide(c.s), cmpopts.EquateErrors()); d != "" {
				t.Error(d)
			}
		})
	}
}

// Every situation there is: whatever the combination, three things never happen.
func TestDecideNever(t *testing.T) {
	persons := []*upstream.Person{nil}
	for i := range 8 {
		persons = append(persons, &upstream.Person{
			UserID:        "u",
			Email:         "ada@example.com",
			EmailVerified: i&1 > 0,
			Disabled:      i&2 > 0,
			HasProvider:   i&4 > 0,
		})
	}
	n := 0
	for flags := range 64 {
		for _, owner := range persons {
			for _, self := range persons {
				for _, first := range persons {
					for _, second := range []bool{false, true} {
						s := upstream.Situation{
							Identity:     upstream.Identity{Provider: "up", Subject: "s", EmailVerified: flags&1 > 0},
							EmailTrusted: flags&2 > 0, SignupAllowed: flags&4 > 0, EmailRequired: flags&8 > 0,
							Known: upstream.Known{Owner: owner, Self: self},
						}
						if flags&16 > 0 {
							s.Identity.Email = "ada@example.com"
						}
						if flags&32 > 0 {
							s.UserID = "u"
						}
						if first != nil {
							s.Candidates = append(s.Candidates, *first)
							if second {
								s.Candidates = append(s.Candidates, *first)
							}
						}
						n++
						d := upstream.Decide(s)
						proof := s.Identity.EmailVerified && s.EmailTrusted && s.Identity.Email != ""
						byEmail := d.Action == upstream.Adopt || d.Action == upstream.LinkTo && s.UserID == ""
						switch {
						case (d.Action == upstream.Refuse) != (d.Err != nil):
							t.Fatalf("%+v: %+v", s, d)
						case byEmail && (!proof || len(s.Candidates) != 1 || s.Candidates[0].Disabled || d.Email == ""):
							t.Fatalf("linked by address without proof: %+v: %+v", s, d)
						case d.Action == upstream.LinkTo && byEmail && !s.Candidates[0].EmailVerified:
							t.Fatalf("pre-hijacked: %+v: %+v", s, d)
						case d.Action == upstream.Create && (!s.SignupAllowed || s.EmailRequired && !proof || d.Email != "" && !proof):
							t.Fatalf("created: %+v: %+v", s, d)
						case d.Action == upstream.Login && (s.Owner == nil || s.Owner.Disabled):
							t.Fatalf("logged in: %+v: %+v", s, d)
						}
					}
				}
			}
		}
	}
	if n < 50_000 {
		t.Errorf("only %d situations", n)
	}
}

func TestLinker(t *testing.T) {
	setup := func(t *testing.T, change ...func(*upstream.Config)) (*memory, upstream.Linker, *upstream.Provider) {
		t.Helper()
		c := upstream.Config{ID: "up", Type: upstream.Google, ClientID: clientID, ClientSecret: clientSecret}
		for _, f := range change {
			f(&c)
		}
		p, err := trusting(t, nil, c).Provider("up")
		if err != nil {
			t.Fatal(err)
		}
		m := newMemory()
		return m, upstream.Linker{Store: m, SignupAllowed: true, EmailRequired: true, BlockFor: time.Hour}, p
	}
	ada := upstream.Identity{Provider: "up", Subject: "s", Email: "Ada@example.com", EmailVerified: true, Name: "Ada"}

	t.Run("ok/new user, then the same user", func(t *testing.T) {
		m, l, p := setup(t)
		first, err := l.Resolve(t.Context(), p, ada, "", audit.Origin{})
		if err != nil || first.Action != upstream.Create || !strings.HasPrefix(first.UserID, "usr_") {
			t.Fatalf("%+v, %v", first, err)
		}
		if u := m.users[first.UserID]; !u.verified || u.email != ada.Email || u.name != "Ada" {
			t.Errorf("user %+v", u)
		}
		moved := ada
		moved.Email = "other@example.com"
		again, err := l.Resolve(t.Context(), p, moved, "", audit.Origin{})
		if err != nil || again.Action != upstream.Login || again.UserID != first.UserID {
			t.Errorf("%+v, %v", again, err)
		}
	})
	t.Run("EM-08", func(t *testing.T) {
		m, l, p := setup(t)
		m.users["mallory"] = &memoryUser{email: "ada@EXAMPLE.com", password: "mallory's", sessions: 2, name: "Not Ada"}
		m.identities[[2]string{"github", "mallory"}] = &memoryIdentity{userID: "mallory"}
		m.identities[[2]string{"up", "mallory"}] = &memoryIdentity{userID: "mallory"}
		d, err := l.Resolve(t.Context(), p, ada, "", audit.Origin{})
		if err != nil || d.Action != upstream.Adopt || d.UserID != "mallory" {
			t.Fatalf("%+v, %v", d, err)
		}
		u := m.users["mallory"]
		if u.password != "" || u.sessions != 0 || !u.verified || u.name != "Ada" || len(m.identities) != 1 {
			t.Errorf("user %+v, identities %v", u, m.identities)
		}
		if want := "identity_linked up_unproven_credentials_removed mallory"; fmt.Sprint(m.events) != "["+want+"]" {
			t.Errorf("events %v", m.events)
		}
	})
	t.Run("ok/address was verified meanwhile", func(t *testing.T) {
		m, l, p := setup(t)
		m.users["u"] = &memoryUser{email: "ada@example.com", password: "hers"}
		m.lag = func() { m.users["u"].verified = true }
		d, err := l.Resolve(t.Context(), p, ada, "", audit.Origin{})
		if err != nil || d.Action != upstream.LinkTo || m.users["u"].password == "" {
			t.Errorf("%+v, %v, user %+v", d, err, m.users["u"])
		}
	})
	t.Run("fail/user was disabled meanwhile", func(t *testing.T) {
		m, l, p := setup(t)
		m.users["u"] = &memoryUser{email: "ada@example.com", verified: true}
		m.lag = func() { m.users["u"].disabled = true }
		if _, err := l.Resolve(t.Context(), p, ada, "", audit.Origin{}); !errors.Is(err, upstream.ErrUserDisabled) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("ok/address was taken meanwhile", func(t *testing.T) {
		m, l, p := setup(t)
		m.lag = func() { m.users["u"] = &memoryUser{email: "ada@example.com", password: "mallory's"} }
		d, err := l.Resolve(t.Context(), p, ada, "", audit.Origin{})
		if err != nil || d.Action != upstream.Adopt || m.users["u"].password != "" {
			t.Errorf("%+v, %v", d, err)
		}
	})
	t.Run("OA-15 identity was linked to another meanwhile", func(t *testing.T) {
		m, l, p := setup(t)
		m.users["u"], m.users["v"] = &memoryUser{}, &memoryUser{}
		m.lag = func() { m.identities[[2]string{"up", "s"}] = &memoryIdentity{userID: "v"} }
		if _, err := l.Resolve(t.Context(), p, ada, "u", audit.Origin{}); !errors.Is(err, upstream.ErrIdentityTaken) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("OA-15 last way in", func(t *testing.T) {
		m, l, p := setup(t)
		d, err := l.Resolve(t.Context(), p, ada, "", audit.Origin{})
		if err != nil {
			t.Fatal(err)
		}
		r := upstream.Removal{UserID: d.UserID, Provider: "up", Providers: []string{"up"}}
		if err := m.RemoveIdentity(t.Context(), r); !errors.Is(err, upstream.ErrLastCredential) {
			t.Errorf("error %v", err)
		}
		m.identities[[2]string{"gone", "x"}] = &memoryIdentity{userID: d.UserID} // of a provider that is not configured any more
		if err := m.RemoveIdentity(t.Context(), r); !errors.Is(err, upstream.ErrLastCredential) {
			t.Errorf("error %v", err)
		}
		m.users[d.UserID].password = "hash"
		if err := m.RemoveIdentity(t.Context(), r); err != nil {
			t.Error(err)
		}
	})
	t.Run("OA-17 sign-up off at the server or the provider", func(t *testing.T) {
		m, l, p := setup(t)
		l.SignupAllowed = false
		if _, err := l.Resolve(t.Context(), p, ada, "", audit.Origin{}); !errors.Is(err, upstream.ErrSignupClosed) ||
			len(m.users) != 0 {
			t.Errorf("error %v", err)
		}
		m, l, p = setup(t, func(c *upstream.Config) { c.DisableSignup = true })
		if _, err := l.Resolve(t.Context(), p, ada, "", audit.Origin{}); !errors.Is(err, upstream.ErrSignupClosed) ||
			len(m.users) != 0 {
			t.Errorf("error %v", err)
		}
	})
	t.Run("OA-07 untrusted provider", func(t *testing.T) {
		m, l, p := setup(t, func(c *upstream.Config) { c.TrustEmail = new(false) })
		m.users["u"] = &memoryUser{email: "ada@example.com", verified: true}
		if _, err := l.Resolve(t.Context(), p, ada, "", audit.Origin{}); !errors.Is(err, upstream.ErrEmailRequired) ||
			len(m.identities) != 0 {
			t.Errorf("error %v", err)
		}
	})
}

func TestOA17_UnknownProvider(t *testing.T) {
	all := trusting(t, nil, upstream.Config{ID: "up", Type: upstream.Google, ClientID: clientID, ClientSecret: clientSecret})
	if _, err := all.Provider("down"); !errors.Is(err, upstream.ErrUnknownProvider) {
		t.Errorf("error %v", err)
	}
	for p := range all.All() {
		if p.ID() != "up" || p.Name() != "Google" || p.Type() != upstream.Google || !p.TrustsEmail() || p.KeepsTokens() ||
			p.FormPost() {
			t.Errorf("provider %+v", p)
		}
	}
}
