package service_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/mail"
	"github.com/handstamp/handstamp/pkg/mail/mailtest"
	"github.com/handstamp/handstamp/pkg/outbox"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/store"
)

// kill is one that the test makes: of the server for mail or of the replica that sends, when a mail is at a step.
type kill struct {
	replica bool
	step    mailtest.Step
}

// Steps of a replica that the server does not see.
const (
	leased   mailtest.Step = "leased"
	finished mailtest.Step = "finished" // the server has answered, and the row is still there
)

var errDead = errors.New("this replica is dead")

// killing runs two replicas and a server, and kills them.
type killing struct {
	t      *testing.T
	store  store.Store
	server *mailtest.Server
	skew   atomic.Int64 // how much later it is, so that nobody waits for leases and pauses

	mu     sync.Mutex
	plan   []kill
	sends  *replica // that has leased a row
	killed int
	alive  sync.WaitGroup
	ctx    context.Context //nolint:containedctx // of all replicas
}

// replica is one. Once it is dead, nothing that it does reaches the database or the server.
type replica struct {
	*killing
	dead atomic.Bool
	stop context.CancelFunc

	conns struct {
		sync.Mutex
		open []net.Conn
	}
}

func (k *killing) start() {
	ctx, stop := context.WithCancel(k.ctx)
	r := &replica{killing: k, stop: stop}
	master, err := seal.ParseMasterKey(servicetest.Master)
	if err != nil {
		k.t.Error(err)
		stop()
		return
	}
	sender, err := mail.NewSender(mail.Config{
		Issuer: "https://login.example.test",
		Server: "smtp://mail.example.test",
		From:   "no-reply@example.test",
		Now:    time.Now,
		Roots:  k.server.Roots,
		Dial:   r.dial,
	}, master, r, func(c mail.Content) (mail.Rendered, error) {
		return mail.Rendered{Subject: "subject", Text: c.Link, HTML: c.Link}, nil
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		k.t.Error(err)
		stop()
		return
	}
	always := make(chan struct{})
	close(always)
	k.alive.Go(func() {
		defer stop()
		outbox.NewWorker(sender.Kind(), nil, nil, slog.New(slog.DiscardHandler)).Run(ctx, func() <-chan struct{} { return always })
	})
}

func (r *replica) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, r.server.Addr)
	if err != nil {
		return nil, err
	}
	r.conns.Lock()
	defer r.conns.Unlock()
	if r.dead.Load() {
		return nil, errors.Join(errDead, c.Close())
	}
	r.conns.open = append(r.conns.open, c)
	return c, nil
}

// die is kill -9: no row is given back, no connection is ended in order.
func (r *replica) die() {
	r.conns.Lock()
	defer r.conns.Unlock()
	r.dead.Store(true)
	for _, c := range r.conns.open {
		_ = c.Close()
	}
	r.stop()
}

// LeaseRows implements outbox.Source.
func (r *replica) LeaseRows(ctx context.Context, kind string, at, until time.Time, limit int) ([]outbox.Row, error) {
	if r.dead.Load() {
		return nil, errDead
	}
	skew := time.Duration(r.skew.Load())
	rows, err := r.store.LeaseRows(ctx, kind, at.Add(skew), until.Add(skew), limit)
	if len(rows) > 0 {
		r.mu.Lock()
		r.sends = r
		r.mu.Unlock()
		_ = r.at(leased)
	}
	return rows, err
}

// FinishRow implements outbox.Source.
func (r *replica) FinishRow(ctx context.Context, row outbox.Row, o outbox.Outcome) error {
	if o.Result() == outbox.Delivered {
		_ = r.at(finished)
	}
	if r.dead.Load() {
		return errDead
	}
	return r.store.FinishRow(ctx, row, o)
}

// at carries out the next kill of the plan, if its step is reached.
func (k *killing) at(step mailtest.Step) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.plan) == 0 || k.plan[0].step != step {
		return nil
	}
	next := k.plan[0]
	k.plan = k.plan[1:]
	k.killed++
	defer k.skew.Add(int64(time.Hour / 4)) // leases and pauses are over
	if next.replica {
		k.sends.die()
		k.start()
		return nil
	}
	k.alive.Go(func() {
		k.server.Kill()
		k.server.Again(k.t)
	})
	return mailtest.ErrCut
}

// 1,000 mails, two replicas, and one of them or the server for mail is killed at every step, several times: no mail is lost, and
// a kill repeats one at most.
func TestKilledWhileMailsAreSent(t *testing.T) {
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		const mails, rounds = 1000, 3
		c := service.DefaultConfig()
		c.DatabaseURL, c.Migrate = seal.Secret(db.URL), true
		s, err := service.OpenCurrentStore(t.Context(), c, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}()
		ctx, stop := context.WithCancel(t.Context())
		k := &killing{t: t, store: s, server: &mailtest.Server{STARTTLS: true}, ctx: ctx}
		k.server.At = func(step mailtest.Step, _ string) error { return k.at(step) }
		for range rounds {
			for _, step := range []mailtest.Step{
				mailtest.Connected, mailtest.Sender, mailtest.Recipient, mailtest.Data, mailtest.Half, mailtest.Refusable, mailtest.Taken,
			} {
				k.plan = append(k.plan, kill{false, step}, kill{true, step})
			}
			k.plan = append(k.plan, kill{true, leased}, kill{true, finished})
		}
		want := len(k.plan)

		master, err := seal.ParseMasterKey(servicetest.Master)
		if err != nil {
			t.Fatal(err)
		}
		writer := mail.NewWriter(master, mail.Rate{Burst: 1, Every: time.Minute})
		ids := map[string]int{}
		for i := range mails {
			now := time.Now()
			l := writer.Verify(now, mail.Recipient{Address: fmt.Sprintf("user-%d@example.test", i)},
				mail.Proof{Path: "/verify", Token: "t", ExpiresAt: now.Add(24 * time.Hour)})
			head, err := mail.HeadOf([]byte(l.Payload))
			if err != nil {
				t.Fatal(err)
			}
			ids["<"+head.ID+"@example.test>"] = 0
			if err := s.Post(t.Context(), l); err != nil {
				t.Fatal(err)
			}
		}
		k.server.Start(t)
		k.start()
		k.start()
		for left := mails - mails/10; left >= 0; left -= mails / 10 { // a busy machine takes its time
			servicetest.Eventually(t, fmt.Sprintf("%d mails are left", left), func() bool {
				b, err := s.Backlog(t.Context(), mail.KindMail)
				return err == nil && b.Waiting <= left
			})
		}
		stop()
		k.alive.Wait()

		repeated := 0
		for _, m := range k.server.Got() {
			id := m.Parse(t).Header.Get("Message-Id")
			if _, ours := ids[id]; !ours {
				t.Fatalf("another Message-ID: %s", id)
			}
			if ids[id]++; ids[id] > 1 {
				repeated++
			}
		}
		lost := 0
		for _, n := range ids {
			if n == 0 {
				lost++
			}
		}
		b, err := s.Backlog(t.Context(), mail.KindMail)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d mails, %d kills: %d lost, %d repeated", mails, k.killed, lost, repeated)
		if lost > 0 || repeated > k.killed || k.killed != want || b.Dead > 0 {
			t.Errorf("%d lost, %d repeated, %d kills of %d, %d given up", lost, repeated, k.killed, want, b.Dead)
		}
	})
}
