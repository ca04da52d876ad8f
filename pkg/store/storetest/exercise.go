package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/handstamp/handstamp/pkg/account"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/mail"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/outbox"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/sharedsignal"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/upstream"
	"github.com/handstamp/handstamp/pkg/user"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// ExerciseBrowser runs each statement of the browser flow and of logins at providers on a migrated database, for tests
// that look at how a database carries them out.
func ExerciseBrowser(t *testing.T, st store.Store) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	got := func(_ any, err error) {
		t.Helper()
		must(err)
	}
	ctx, later := t.Context(), now().Add(time.Hour)
	u := user.User{ID: user.NewID(now()), Email: "exercise@example.test", CreatedAt: now(), UpdatedAt: now()}
	event := audit.Event{At: now(), UserID: u.ID}
	must(st.CreateUser(ctx, u, event))
	e := session.Ending{At: now(), BlockUntil: now(), Event: event}

	b := oauth.BrowserSession{Hash: oauth.Hash{1}, UserID: u.ID, AuthTime: now(), CreatedAt: now(), ExpiresAt: later}
	must(st.SaveBrowserSession(ctx, b, oauth.Hash{}))
	replaced := b.Hash
	b.Hash = oauth.Hash{2}
	must(st.SaveBrowserSession(ctx, b, replaced))
	got(st.BrowserSession(ctx, b.Hash, now()))
	got(st.BrowserClients(ctx, b, now()))
	exerciseProofs(t, st, u)
	code := oauth.Code{
		Hash:           oauth.Hash{3},
		UserID:         u.ID,
		ClientID:       oauth.DefaultClientID,
		AuthTime:       now(),
		BrowserSession: b.Hash,
		CreatedAt:      now(),
		ExpiresAt:      later,
	}
	must(st.SaveCode(ctx, code))
	got(st.Code(ctx, code.Hash))
	row := session.Session{
		ID:            session.NewID(now()),
		UserID:        u.ID,
		ClientID:      oauth.DefaultClientID,
		RotatedAt:     now(),
		IdleExpiresAt: later,
		ExpiresAt:     later,
		AuthTime:      now(),
		CreatedAt:     now(),
	}
	got(st.RedeemCode(ctx, code.Hash, session.Start{Session: row, Limit: 5, BlockUntil: now(), Event: event}))
	must(st.ReleaseCode(ctx, code.Hash, row.ID))
	got(st.EndBrowserSession(ctx, b.Hash, e))
	exerciseFactors(t, st, u.ID)
	must(st.SavePushedRequest(ctx, oauth.PushedRequest{Hash: oauth.Hash{4}, ExpiresAt: later}))
	got(st.VisitPushedRequest(ctx, oauth.Hash{4}, now(), later))
	must(st.SaveConsent(ctx, oauth.Consent{UserID: u.ID, ClientID: "c", GrantedAt: now()}, event))
	got(st.Consent(ctx, u.ID, "c"))
	got(st.Consents(ctx, u.ID))
	got(st.RevokeConsent(ctx, u.ID, "c", e))
	stream := sharedsignal.Stream{
		ID:              "stm_x",
		ClientID:        oauth.DefaultClientID,
		Method:          sharedsignal.MethodPush,
		EventsRequested: []string{sharedsignal.EventSessionRevoked},
		CreatedAt:       now(),
		UpdatedAt:       now(),
	}
	must(st.CreateStream(ctx, stream))
	got(st.Stream(ctx, stream.ClientID))
	must(st.UpdateStream(ctx, stream))
	must(st.LeaveOut(ctx, stream.ID, sharedsignal.Subject{UserID: u.ID}, 5))
	must(st.TakeIn(ctx, stream.ID, sharedsignal.Subject{UserID: u.ID}))
	must(st.Verify(ctx, stream.ID, "s", now(), time.Second))
	got(st.SignalEvents(ctx, stream.ID, 5))
	got(st.LeaseStreams(ctx, now(), later, 5))
	must(st.FinishPush(ctx, sharedsignal.Push{StreamID: stream.ID, Delivered: []string{"a"}, Refused: []string{"b"}, DueAt: now()}))
	must(st.Acknowledge(ctx, stream.ID, []string{"a"}))
	got(st.SweepSignals(ctx, later, later, 5))
	must(st.SetStreamStatus(ctx, stream.ID, stream.ClientID, sharedsignal.Disabled, "", later))
	must(st.DeleteStream(ctx, stream.ID, stream.ClientID))
	must(st.BlockToken(ctx, 1, now(), blocklist.NewEntry(verifier.BlockJTI, "exercise", now()), event))
	got(st.RevokedStatuses(ctx, 0, 1000))
	_, _, err := st.StatusRange(ctx)
	must(err)
	got(st.SweepStatuses(ctx, now(), 5))
	got(st.SweepEvents(ctx, now().Add(-time.Hour), 5))
	got(st.LeaseRows(ctx, oauth.KindLogout, now(), later, 5))
	must(st.FinishRow(ctx, outbox.Row{ID: 1, LeasedUntil: now()}, outbox.Outcome{RetryAt: later}))
	must(st.FinishRow(ctx, outbox.Row{ID: 1, LeasedUntil: now()}, outbox.Outcome{DeadAt: later, Reason: "r"}))
	must(st.FinishRow(ctx, outbox.Row{ID: 1, LeasedUntil: now()}, outbox.Outcome{}))
	got(st.SweepRows(ctx, now(), 5))
	got(st.Rows(ctx, mail.KindMail, 7, 5))
	got(st.RetryRows(ctx, mail.KindMail, []int64{1}, now()))
	got(st.RetryRows(ctx, mail.KindMail, nil, now()))
	got(st.Backlog(ctx, mail.KindMail))
	must(st.Post(ctx, (&mail.Writer{}).NoAccount(now(), mail.Recipient{Address: "a@example.test"})))
	got(st.SweepBrowser(ctx, now(), 5))
	got(st.SweepPushedRequests(ctx, now(), 5))

	must(st.SaveAttempt(ctx, upstream.Attempt{StateHash: [32]byte{1}, ExpiresAt: later}))
	got(st.TakeAttempt(ctx, [32]byte{1}, now()))
	must(st.UseIDToken(ctx, [32]byte{1}, later))
	got(st.Known(ctx, upstream.Question{Provider: "acme", Subject: "s", Email: u.Email, UserID: u.ID}))
	link := upstream.Link{UserID: u.ID, Identity: upstream.Identity{Provider: "acme", Subject: "s"}, At: now(), Event: event}
	must(st.LinkIdentity(ctx, link, ""))
	got(st.Identities(ctx, u.ID))
	must(st.SaveTokens(ctx, "acme", "s", []byte{1}))
	tokens, err := st.Tokens(ctx, u.ID, "acme")
	must(err)
	tokens.Version, err = st.LeaseTokens(ctx, tokens, now(), later)
	must(err)
	must(st.FinishTokens(ctx, tokens))
	other := link
	other.Identity.Provider = "other"
	must(st.LinkIdentity(ctx, other, ""))
	must(st.RemoveIdentity(ctx, upstream.Removal{UserID: u.ID, Provider: "acme", Providers: []string{"other"}, Event: event}))
	must(st.AdoptUser(ctx, upstream.Adoption{Link: link, Email: u.Email, BlockUntil: later}))
	link.UserID, link.Identity.Subject = user.NewID(now()), "t"
	must(st.CreateUserWithIdentity(ctx, user.User{ID: link.UserID, CreatedAt: now(), UpdatedAt: now()}, link))
	got(st.SweepUpstream(ctx, now(), 5))
	_, _, err = st.EndSessionsBefore(ctx, now().Add(-5000*24*time.Hour), session.ID{}, 5, e)
	must(err)
	must(st.Checkpoint(ctx))
	got(st.Deliveries(ctx))
	got(st.EndSessions(ctx, u.ID, session.ID{}, e))
	got(st.DeleteUser(ctx, u.ID, e))
}

// exerciseProofs runs each statement of proofs by mail.
func exerciseProofs(t *testing.T, st store.Store, u user.User) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	p := account.Proof{
		Hash: account.Hash{1}, Flow: account.Hash{2}, Purpose: account.Reset, UserID: u.ID, Email: u.Email,
		CreatedAt: now(), ExpiresAt: now().Add(time.Hour),
	}
	letter := mail.NewNotices().PasswordChanged(now(), audit.Origin{})
	must(st.AskProof(ctx, account.Asked{Proof: p, Letter: letter, Event: audit.Event{At: now(), UserID: u.ID}}))
	_, err := st.ProofByLink(ctx, p.Hash, p.Purpose, now())
	must(err)
	found, err := st.TryCode(ctx, p.Flow, p.Purpose, now())
	must(err)
	found.User.PasswordHash = "another" // so that nothing else of the exercise ends
	_, err = st.ResetPassword(ctx, found, "new", session.Ending{At: now(), BlockUntil: now()})
	if !errors.Is(err, account.ErrLink) {
		t.Fatal(err)
	}
	if err := st.VerifyEmail(ctx, found, audit.Event{At: now()}); !errors.Is(err, account.ErrLink) {
		t.Fatal(err)
	}
	if err := st.FinishSignup(ctx, account.Found{}, user.User{ID: "x"}, audit.Event{At: now()}); !errors.Is(err, account.ErrLink) {
		t.Fatal(err)
	}
	_, err = st.SweepProofs(ctx, now(), 10)
	must(err)
}
