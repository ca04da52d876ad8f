package storetest

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/mail"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/outbox"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/user"
)

// mailWriter writes letters with a master key and a rate.
func (s *suite) mailWriter(burst int, every time.Duration) *mail.Writer {
	s.Helper()
	master, err := seal.ParseMasterKey("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	s.must(err)
	return mail.NewWriter(master, mail.Rate{Burst: burst, Every: every})
}

// written is a letter as it stands in the outbox.
type written struct {
	Mail   mail.Name `json:"mail"`
	To     string    `json:"to"`
	Locale string    `json:"locale"`
	IP     string    `json:"ip"`
}

// mails returns the letters in the outbox to an address, the oldest first.
func (s *suite) mails(st store.Store, address string) (found []written) {
	s.Helper()
	for before := int64(0); ; {
		entries, err := st.Rows(s.Context(), mail.KindMail, before, 1000)
		s.must(err)
		for _, e := range entries {
			before = e.ID
			var w written
			s.must(json.Unmarshal(e.Payload, &w))
			if w.To == address {
				found = append(found, w)
			}
		}
		if len(entries) < 1000 {
			slices.Reverse(found)
			return found
		}
	}
}

func testMail(s *suite) {
	at := now().Add(time.Hour)
	writer := s.mailWriter(3, 20*time.Minute)
	from := audit.Origin{IP: "192.0.2.7", UserAgent: "agent", Languages: "de"}

	s.run("ok/a change of password tells the user at the address of the row", func(s *suite) {
		u := s.user()
		locale := "de-AT"
		_, err := s.first.UpdateUser(s.Context(), u.ID, user.Change{Profile: map[string]*string{"locale": &locale}}, at)
		s.must(err)
		e := s.ending(u.ID, at, audit.KindPasswordChanged, session.ReasonPasswordChange)
		e.Mail = writer.PasswordChanged(at, from)
		_, err = s.first.SetPassword(s.Context(), u.ID, u.PasswordHash, "new", e)
		s.must(err)
		s.same("mails", s.mails(s.second, u.Email), []written{{mail.PasswordChanged, u.Email, locale, from.IP}})
	})

	s.run("fail/a change of password that does not happen tells nobody", func(s *suite) {
		u := s.user()
		e := s.ending(u.ID, at, audit.KindPasswordChanged, session.ReasonPasswordChange)
		e.Mail = writer.PasswordChanged(at, from)
		if _, err := s.first.SetPassword(s.Context(), u.ID, "another", "new", e); err == nil {
			s.Error("the password was changed")
		}
		s.same("mails", s.mails(s.second, u.Email), []written(nil))
	})

	s.run("ok/a deletion tells the user who is gone", func(s *suite) {
		u := s.user()
		e := s.ending(u.ID, at, audit.KindUserDeleted, session.ReasonUserDeleted)
		e.Mail = writer.AccountDeleted(at, from)
		_, err := s.first.DeleteUser(s.Context(), u.ID, e)
		s.must(err)
		s.same("mails", s.mails(s.second, u.Email), []written{{mail.AccountDeleted, u.Email, "", from.IP}})
		if _, err := s.first.DeleteUser(s.Context(), u.ID, e); err == nil {
			s.Error("deleted twice")
		}
		s.same("mails after another try", len(s.mails(s.second, u.Email)), 1)
	})

	s.run("ok/a session that begins tells of a new device", func(s *suite) {
		u := s.user()
		start := s.starting(s.newSession(u.ID))
		start.Mail = writer.NewDevice(at, from)
		started, err := s.first.Start(s.Context(), start)
		s.must(err)
		if !started.Created {
			s.Fatal("no session")
		}
		s.same("mails", s.mails(s.second, u.Email), []written{{mail.NewDevice, u.Email, "", from.IP}})
	})

	s.run("fail/a session that does not begin tells nobody", func(s *suite) {
		u := s.user()
		start := s.starting(s.newSession(u.ID))
		start.Mail, start.PasswordHash = writer.NewDevice(at, from), "another"
		started, err := s.first.Start(s.Context(), start)
		s.must(err)
		if started.Created {
			s.Fatal("a session")
		}
		s.same("mails", s.mails(s.second, u.Email), []written(nil))
	})

	s.run("ok/a browser session that begins tells of a new device, one that does not tells nobody", func(s *suite) {
		u := s.user()
		b := oauth.BrowserSession{
			Hash:      sha256.Sum256([]byte(u.ID)),
			UserID:    u.ID,
			AuthTime:  now(),
			CreatedAt: now(),
			ExpiresAt: at,
			Mail:      writer.NewDevice(at, from),
			Proof:     oauth.Proof{PasswordHash: "another"},
		}
		if err := s.first.SaveBrowserSession(s.Context(), b, oauth.Hash{}); err == nil {
			s.Error("a browser session")
		}
		s.same("mails of none", s.mails(s.second, u.Email), []written(nil))
		b.Proof.PasswordHash = u.PasswordHash
		s.must(s.first.SaveBrowserSession(s.Context(), b, oauth.Hash{}))
		s.same("mails", s.mails(s.second, u.Email), []written{{mail.NewDevice, u.Email, "", from.IP}})
	})

	s.run("ok/a user without an address is told nothing", func(s *suite) {
		u := user.User{ID: user.NewID(now()), CreatedAt: now(), UpdatedAt: now()}
		s.must(s.first.CreateUser(s.Context(), u, s.event(audit.KindUserCreated, u.ID)))
		e := s.ending(u.ID, at, audit.KindUserDeleted, session.ReasonUserDeleted)
		e.Mail = writer.AccountDeleted(at, from)
		_, err := s.first.DeleteUser(s.Context(), u.ID, e)
		s.must(err)
		s.same("mails", s.mails(s.second, ""), []written(nil))
	})

	s.run("ok/no letter, no row", func(s *suite) {
		s.must(s.first.Post(s.Context(), mail.Letter{}))
		s.must(s.first.Post(s.Context(), (*mail.Writer)(nil).NoAccount(at, mail.Recipient{Address: "nobody@example.test"})))
		s.same("mails", s.mails(s.second, "nobody@example.test"), []written(nil))
	})

	address := func(s *suite) string { return fmt.Sprintf("mail-%d@example.test", s.serial.Add(1)) }
	asked := func(s *suite, st store.Store, to string, at time.Time) {
		s.Helper()
		s.must(st.Post(s.Context(), writer.Reset(at, mail.Recipient{Address: to}, mail.Proof{Token: "t"})))
	}

	s.run("fail/TestEM07 200 resends at once from two replicas: no more than the budget", func(s *suite) {
		to := address(s)
		s.parallel(10, func(_ int, st store.Store) error {
			for range 20 {
				if err := st.Post(s.Context(), writer.Reset(at, mail.Recipient{Address: to}, mail.Proof{Token: "t"})); err != nil {
					return err
				}
			}
			return nil
		})
		s.same("mails", len(s.mails(s.second, to)), 3)
	})

	s.run("fail/200 resends within an hour: three at once, and one every 20 minutes", func(s *suite) {
		to := address(s)
		for i := range 200 {
			asked(s, s.first, to, at.Add(time.Duration(i)*18*time.Second)) // the last one just within the hour
		}
		s.same("mails", len(s.mails(s.second, to)), 3+2)
	})

	s.run("ok/spellings of one address share a budget, other addresses and other budgets have their own", func(s *suite) {
		to := address(s)
		for range 5 {
			asked(s, s.first, to, at)
		}
		asked(s, s.first, "MAIL"+to[4:], at)
		s.same("another spelling", len(s.mails(s.second, "MAIL"+to[4:])), 0)
		other := address(s)
		asked(s, s.first, other, at)
		s.same("another address", len(s.mails(s.second, other)), 1)
		s.must(s.first.Post(s.Context(), writer.LoginCode(at, mail.Recipient{Address: to}, mail.Proof{Code: "1"})))
		s.same("another budget", len(s.mails(s.second, to)), 3+1)
	})

	s.run("ok/what strangers ask for does not use up what warns the user", func(s *suite) {
		u := s.user()
		for range 10 {
			asked(s, s.first, u.Email, at)
		}
		e := s.ending(u.ID, at, audit.KindPasswordChanged, session.ReasonPasswordChange)
		e.Mail = writer.PasswordChanged(at, from)
		_, err := s.first.SetPassword(s.Context(), u.ID, u.PasswordHash, "new", e)
		s.must(err)
		got := s.mails(s.second, u.Email)
		s.same("mails", len(got), 3+1)
		s.same("the last", got[len(got)-1].Mail, mail.PasswordChanged)
	})

	s.run("ok/listed, counted, given up, sent again", func(s *suite) {
		const kind = mail.KindMail
		drain := func() { // what other cases have left
			for {
				rows, err := s.first.LeaseRows(s.Context(), kind, at.Add(1000*time.Hour), at.Add(1001*time.Hour), 100)
				s.must(err)
				if len(rows) == 0 {
					return
				}
				for _, r := range rows {
					s.must(s.first.FinishRow(s.Context(), r, outbox.Outcome{}))
				}
			}
		}
		drain()
		empty, err := s.second.Backlog(s.Context(), kind)
		s.must(err)
		s.same("backlog of nothing", empty, outbox.Backlog{})
		to := address(s)
		for i := range 3 {
			asked(s, s.first, to, at.Add(time.Duration(i)*time.Second))
		}
		b, err := s.second.Backlog(s.Context(), kind)
		s.must(err)
		s.same("backlog", b, outbox.Backlog{Waiting: 3, Oldest: stored(at)})

		leased, err := s.first.LeaseRows(s.Context(), kind, at.Add(time.Minute), at.Add(2*time.Minute), 100)
		s.must(err)
		s.same("leased at once", len(leased), 1) // of one destination
		s.must(s.first.FinishRow(s.Context(), leased[0], outbox.Outcome{DeadAt: at.Add(time.Minute), Reason: "550 no such user"}))
		next, err := s.first.LeaseRows(s.Context(), kind, at.Add(time.Minute), at.Add(2*time.Minute), 100)
		s.must(err)
		s.must(s.first.FinishRow(s.Context(), next[0], outbox.Outcome{RetryAt: at.Add(time.Hour), Reason: "451 later"}))
		last, err := s.first.LeaseRows(s.Context(), kind, at.Add(time.Minute), at.Add(2*time.Minute), 100)
		s.must(err)
		s.same("while one is leased", len(last), 1)

		entries, err := s.second.Rows(s.Context(), kind, 0, 2)
		s.must(err)
		if len(entries) != 2 || entries[0].ID != last[0].ID || entries[1].Reason != "451 later" || !entries[1].DeadAt.IsZero() {
			s.Errorf("rows: %+v", entries)
		}
		rest, err := s.second.Rows(s.Context(), kind, entries[1].ID, 100)
		s.must(err)
		if len(rest) != 1 || rest[0].ID != leased[0].ID || rest[0].Reason != "550 no such user" ||
			!rest[0].DeadAt.Equal(stored(at.Add(time.Minute))) {
			s.Errorf("rows before: %+v", rest)
		}
		b, err = s.second.Backlog(s.Context(), kind)
		s.must(err)
		s.same("backlog with a dead letter", b, outbox.Backlog{Waiting: 2, Dead: 1, Oldest: stored(at.Add(time.Second))})

		again := at.Add(2 * time.Hour)
		for _, c := range []struct {
			ids  []int64
			want int
		}{
			{[]int64{last[0].ID, leased[0].ID + 1_000_000}, 0}, // one is being delivered, one does not exist
			{[]int64{leased[0].ID}, 1},
			{nil, 1}, // the one that was put off
			{nil, 0},
		} {
			n, err := s.second.RetryRows(s.Context(), kind, c.ids, again)
			s.must(err)
			s.same(fmt.Sprintf("retried of %v", c.ids), n, c.want)
		}
		s.must(s.first.FinishRow(s.Context(), last[0], outbox.Outcome{}))
		first, err := s.first.LeaseRows(s.Context(), kind, again, again.Add(time.Minute), 100)
		s.must(err)
		if len(first) != 1 || first[0].ID != leased[0].ID || first[0].Attempts != 0 || !first[0].CreatedAt.Equal(stored(again)) {
			s.Errorf("leased again: %+v", first)
		}
		s.must(s.first.FinishRow(s.Context(), first[0], outbox.Outcome{}))
		drain()
	})
}
