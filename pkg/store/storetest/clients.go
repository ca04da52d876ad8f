package storetest

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/verifier"
)

func testClients(s *suite) {
	at := now()

	s.run("ok/the built-in client", func(s *suite) {
		c, err := s.second.Client(s.Context(), oauth.DefaultClientID)
		s.must(err)
		if c.Type != oauth.Public || c.ThirdParty || c.Disabled() || !c.Allows(oauth.GrantRefreshToken) || len(c.Grants) != 1 {
			s.Errorf("built-in client: %+v", c)
		}
		if err := c.Validate(); err != nil {
			s.Errorf("Validate: %v", err)
		}
	})

	full := oauth.Client{
		ID: "full", Name: "Zoë's \U0001F600 app", Type: oauth.Confidential, SecretHash: oauth.HashSecret("s"),
		RedirectURIs:           []string{"https://a.example.test/cb?x=1,2&y=\"'{}", "com.example.app:/cb"},
		PostLogoutRedirectURIs: []string{"https://a.example.test/"}, BackchannelLogoutURI: "https://a.example.test/logout",
		Origins: []string{"https://a.example.test"}, Grants: []string{oauth.GrantAuthorizationCode, oauth.GrantClientCredentials},
		Scopes: []string{"openid", "a:b"}, Audiences: []string{"https://api.example.test"}, ThirdParty: true, Algorithm: "EdDSA",
		IDTokenAlgorithm: "ES256", IDTokenClaims: new(true), GroupsClaim: "groups", AccessTokenType: "JWT", PKCEOptional: true,
		NoAccount: true, RefreshTransport: oauth.TransportCookie,
		RefreshGrace: new(12345678 * time.Microsecond), CreatedAt: stored(at), UpdatedAt: stored(at.Add(time.Second)),
	}
	s.run("ok/a client is read as it was created", func(s *suite) {
		e := s.event(audit.KindClientCreated, "usr_admin")
		s.must(s.first.CreateClient(s.Context(), full, e))
		s.wantEvent(e)
		got, err := s.second.Client(s.Context(), full.ID)
		s.must(err)
		s.same("client", got, full)

		bare := oauth.Client{ID: "bare", Type: oauth.Public, CreatedAt: stored(at), UpdatedAt: stored(at), DisabledAt: stored(at)}
		s.must(s.first.CreateClient(s.Context(), bare, s.event(audit.KindClientCreated, "")))
		got, err = s.second.Client(s.Context(), bare.ID)
		s.must(err)
		s.same("client", got, bare)
	})

	s.run("fail/ID taken", func(s *suite) {
		e := s.event(audit.KindClientCreated, "usr_taken")
		for _, id := range []string{full.ID, oauth.DefaultClientID} {
			err := s.second.CreateClient(s.Context(), oauth.Client{ID: id, CreatedAt: at, UpdatedAt: at}, e)
			if !errors.Is(err, oauth.ErrClientExists) {
				s.Errorf("CreateClient of %s: %v, want ErrClientExists", id, err)
			}
		}
		s.same("events", s.countEvents("usr_taken", audit.KindClientCreated), 0)
		got, err := s.first.Client(s.Context(), full.ID)
		s.must(err)
		s.same("client", got, full)
	})

	s.run("ok/of all who create a client one does", func(s *suite) {
		var won atomic.Int64
		s.parallel(20, func(_ int, st store.Store) error {
			err := st.CreateClient(s.Context(), oauth.Client{ID: "contended", CreatedAt: at, UpdatedAt: at},
				s.event(audit.KindClientCreated, ""))
			if err == nil {
				won.Add(1)
			}
			if errors.Is(err, oauth.ErrClientExists) {
				return nil
			}
			return err
		})
		s.same("created", won.Load(), int64(1))
	})

	s.run("fail/unknown", func(s *suite) {
		for _, id := range []string{"unknown", "", "FULL", "full ", strings.Repeat("x", 10_000)} {
			if _, err := s.first.Client(s.Context(), id); !errors.Is(err, oauth.ErrClientNotFound) {
				s.Errorf("Client: %v, want ErrClientNotFound", err)
			}
			e := s.event(audit.KindClientDisabled, "usr_unknown")
			entry := blocklist.NewEntry(verifier.BlockClient, id, at.Truncate(time.Second))
			if err := s.first.DisableClient(s.Context(), id, at, entry, e); !errors.Is(err, oauth.ErrClientNotFound) {
				s.Errorf("DisableClient: %v, want ErrClientNotFound", err)
			}
			if _, ok := s.entry(entry.Key); ok {
				s.Error("an unknown client was blocked")
			}
		}
		s.same("events", s.countEvents("usr_unknown", audit.KindClientDisabled), 0)
	})

	s.run("ok/listed by ID", func(s *suite) {
		for range 3 {
			s.client()
		}
		var got []string
		for after := ""; ; {
			page, err := s.second.Clients(s.Context(), after, 2)
			s.must(err)
			if len(page) == 0 {
				break
			}
			for _, c := range page {
				if c.ID <= after {
					s.Errorf("%s comes after %s", c.ID, after)
				}
				after = c.ID
				got = append(got, c.ID)
			}
		}
		if len(got) != 7 { // default, full, bare, contended and three
			s.Errorf("listed: %q", got)
		}
	})

	s.run("ok/updated, if it is as it was read", func(s *suite) {
		c := s.client()
		before, err := s.second.Client(s.Context(), c.ID)
		s.must(err)
		changed := before
		changed.Name, changed.Type, changed.SecretHash, changed.UpdatedAt = "New", oauth.Confidential, "hash", stored(
			at.Add(time.Second))
		changed.RedirectURIs, changed.Origins = []string{"https://new.example/"}, []string{"https://new.example"}
		changed.PostLogoutRedirectURIs, changed.BackchannelLogoutURI = []string{"https://new.example/bye"}, "https://new.example/logout"
		changed.Grants, changed.Scopes = []string{oauth.GrantAuthorizationCode}, []string{"new"}
		changed.Audiences, changed.ThirdParty, changed.Algorithm = []string{"new"}, true, verifier.EdDSA
		changed.IDTokenAlgorithm, changed.IDTokenClaims, changed.GroupsClaim = verifier.ES256, new(false), "groups"
		changed.AccessTokenType, changed.PKCEOptional, changed.NoAccount, changed.RefreshGrace = "JWT", true, true, new(7*time.Second)
		changed.DisabledAt, changed.RefreshTransport = stored(at), oauth.TransportCookie
		e := s.event(audit.KindClientUpdated, "usr_"+c.ID)
		s.must(s.first.UpdateClient(s.Context(), changed, before.UpdatedAt, e))
		got, err := s.second.Client(s.Context(), c.ID)
		s.must(err)
		s.same("client", got, changed)
		s.wantEvent(e)
		told, err := s.second.ClientChanges(s.Context(), "")
		s.must(err)
		s.same("told", slices.ContainsFunc(told.Changed, func(o oauth.Client) bool { return o.ID == c.ID && o.Name == "New" }), true)

		back := changed
		back.DisabledAt, back.UpdatedAt = time.Time{}, stored(at.Add(time.Minute))
		for _, since := range []time.Time{before.UpdatedAt, changed.UpdatedAt.Add(time.Microsecond)} {
			if err := s.first.UpdateClient(s.Context(), back, since, e); !errors.Is(err, oauth.ErrClientChanged) {
				s.Errorf("changed meanwhile: %v", err)
			}
		}
		s.wantEvent(e)
		s.must(s.first.UpdateClient(s.Context(), back, changed.UpdatedAt, s.event(audit.KindClientUpdated, "")))
		got, err = s.second.Client(s.Context(), c.ID)
		s.must(err)
		s.same("client", got, back)
		back.ID = "nobody"
		if err := s.first.UpdateClient(s.Context(), back, back.UpdatedAt, e); !errors.Is(err, oauth.ErrClientNotFound) {
			s.Errorf("nobody: %v", err)
		}
	})

	s.run("ok/disabled, and its access tokens blocked", func(s *suite) {
		c := s.client()
		entry := blocklist.NewEntry(verifier.BlockClient, c.ID, blockUntil(at))
		for range 2 { // the second changes nothing
			e := s.event(audit.KindClientDisabled, "usr_"+c.ID)
			s.must(s.first.DisableClient(s.Context(), c.ID, at.Add(time.Minute), entry, e))
			got, err := s.second.Client(s.Context(), c.ID)
			s.must(err)
			s.same("DisabledAt", got.DisabledAt, stored(at.Add(time.Minute)))
			s.same("UpdatedAt", got.UpdatedAt, stored(at.Add(time.Minute)))
			told, _ := s.entry(entry.Key)
			s.same("entry", told, entry)
			s.same("events", s.countEvents("usr_"+c.ID, audit.KindClientDisabled), 1)
		}
	})

	s.run("ok/changes are told by cursor", func(s *suite) {
		all, err := s.second.ClientChanges(s.Context(), "")
		s.must(err)
		if !all.Complete || len(all.Changed) < 5 {
			s.Errorf("everything: %+v", all)
		}
		none, err := s.second.ClientChanges(s.Context(), all.Cursor)
		s.must(err)
		if none.Complete || len(none.Changed)+len(none.Deleted) > 0 {
			s.Errorf("nothing has changed: %+v", none)
		}
		// The clock of the writer does not matter.
		c := s.client()
		past := stored(at.Add(-1000 * time.Hour))
		s.must(s.first.DisableClient(s.Context(), c.ID, past,
			blocklist.NewEntry(verifier.BlockClient, c.ID, past.Truncate(time.Second)),
			s.event(audit.KindClientDisabled, "")))
		got, err := s.second.ClientChanges(s.Context(), none.Cursor)
		s.must(err)
		if len(got.Changed) != 1 || got.Changed[0].ID != c.ID || !got.Changed[0].Disabled() || len(got.Deleted) > 0 {
			s.Errorf("disabled: %+v", got)
		}
		for _, cursor := range []string{"x", all.Cursor + "A", strings.Repeat("A", 40)} {
			if _, err := s.second.ClientChanges(s.Context(), cursor); !errors.Is(err, blocklist.ErrCursorGone) {
				s.Errorf("cursor %q: %v, want ErrCursorGone", cursor, err)
			}
		}
	})

	s.run("ok/a change is told in whatever order transactions end", func(s *suite) {
		seen := map[string]bool{}
		start, err := s.second.ClientChanges(s.Context(), "")
		s.must(err)
		cursor := start.Cursor
		read := func() {
			got, err := s.second.ClientChanges(s.Context(), cursor)
			s.must(err)
			for _, c := range got.Changed {
				seen[c.ID] = true
			}
			cursor = got.Cursor
		}
		done := make(chan struct{})
		const writers = 40
		go func() {
			defer close(done)
			s.parallel(writers, func(n int, st store.Store) error {
				id := "parallel-" + strconv.Itoa(n)
				return st.CreateClient(s.Context(), oauth.Client{ID: id, CreatedAt: at, UpdatedAt: at}, s.event(audit.KindClientCreated, ""))
			})
		}()
		for reading := true; reading; {
			select {
			case <-done:
				reading = false
			default:
			}
			read()
		}
		read()
		for n := range writers {
			if id := "parallel-" + strconv.Itoa(n); !seen[id] {
				s.Errorf("%s was never told", id)
			}
		}
	})

	s.run("ok/deleted for ever", func(s *suite) {
		c := s.client()
		u := s.user()
		row := s.newSession(u.ID)
		row.ClientID = c.ID
		started, err := s.first.Start(s.Context(), s.starting(row))
		s.must(err)
		if !started.Created {
			s.Fatalf("not started: %+v", started)
		}
		s.must(s.first.SaveConsent(s.Context(), oauth.Consent{UserID: u.ID, ClientID: c.ID, Scope: "openid", GrantedAt: stored(at)},
			s.event(audit.KindConsentGranted, u.ID)))
		before, err := s.second.ClientChanges(s.Context(), "")
		s.must(err)

		e := s.event(audit.KindClientDeleted, "usr_"+c.ID)
		entry := blocklist.NewEntry(verifier.BlockClient, c.ID, blockUntil(at))
		s.must(s.first.DeleteClient(s.Context(), c.ID, at.Add(time.Minute), entry, e))
		told, _ := s.entry(entry.Key)
		s.same("entry", told, entry)
		s.same("events", s.countEvents("usr_"+c.ID, audit.KindClientDeleted), 1)

		changes, err := s.second.ClientChanges(s.Context(), before.Cursor)
		s.must(err)
		if len(changes.Changed) > 0 || len(changes.Deleted) != 1 || changes.Deleted[0] != c.ID {
			s.Errorf("changes: %+v", changes)
		}
		if _, err := s.second.Client(s.Context(), c.ID); !errors.Is(err, oauth.ErrClientNotFound) {
			s.Errorf("Client: %v, want ErrClientNotFound", err)
		}
		listed, err := s.second.Clients(s.Context(), "", 1000)
		s.must(err)
		for _, other := range listed {
			if other.ID == c.ID {
				s.Error("the client is listed")
			}
		}
		given, err := s.second.Consent(s.Context(), u.ID, c.ID)
		s.must(err)
		s.same("consent", given, oauth.Consent{})
		sessions, err := s.second.Sessions(s.Context(), u.ID, at)
		s.must(err)
		s.same("sessions listed", len(sessions), 0)
		read, err := s.second.Session(s.Context(), row.ID)
		s.must(err)
		s.same("the session may not be refreshed", read.ClientDisabled, true)

		for what, err := range map[string]error{
			"DeleteClient":  s.first.DeleteClient(s.Context(), c.ID, at, entry, e),
			"DisableClient": s.first.DisableClient(s.Context(), c.ID, at, entry, e),
		} {
			if !errors.Is(err, oauth.ErrClientNotFound) {
				s.Errorf("%s: %v, want ErrClientNotFound", what, err)
			}
		}
		again := oauth.Client{ID: c.ID, CreatedAt: at, UpdatedAt: at}
		err = s.first.CreateClient(s.Context(), again, s.event(audit.KindClientCreated, ""))
		if !errors.Is(err, oauth.ErrClientExists) {
			s.Errorf("CreateClient: %v, want ErrClientExists", err)
		}
		second := s.newSession(u.ID)
		second.ClientID = c.ID
		started, err = s.first.Start(s.Context(), s.starting(second))
		s.must(err)
		if started.Created {
			s.Error("a session was started at a deleted client")
		}
	})
}
