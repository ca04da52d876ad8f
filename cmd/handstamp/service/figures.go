package service

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/handstamp/handstamp/pkg/account"
	"github.com/handstamp/handstamp/pkg/keyring"
	"github.com/handstamp/handstamp/pkg/mail"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/sharedsignal"
	"github.com/handstamp/handstamp/pkg/store"
)

// figures are what the service counts besides requests. No label holds a caller's text. docs/metrics.md lists them.
type figures struct {
	refreshes *prometheus.CounterVec
	started   prometheus.Counter
	ended     *prometheus.CounterVec
	waiting   *prometheus.GaugeVec
	oldest    prometheus.Gauge
	swept     atomic.Int64 // when expired rows were last swept, in Unix seconds
}

// endings are the reasons for which this replica ends sessions and knows how many. An operator's commands are not its own.
func endings() []session.Reason {
	return []session.Reason{
		session.ReasonLogout, session.ReasonRevoked, session.ReasonReuse, session.ReasonLogoutAll, session.ReasonPasswordChange,
		session.ReasonPasswordReset,
		session.ReasonUserDeleted, session.ReasonLimit, session.ReasonCodeReuse,
	}
}

func newFigures(r prometheus.Registerer) *figures {
	f := &figures{
		refreshes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "handstamp_refreshes_total",
			Help: "Refreshes that the database has decided, by outcome. Alert on a rise of reuse: tokens are stolen, or a client is " +
				"broken.",
		}, []string{"outcome"}),
		started: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "handstamp_sessions_started_total", Help: "Sessions started by this replica.",
		}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "handstamp_sessions_ended_total",
			Help: "Sessions ended by this replica before they expired, by reason.",
		}, []string{"reason"}),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "handstamp_deliveries_waiting",
			Help: "Logout tokens, security events and mails that wait to be delivered, by kind, as counted every minute. Alert if it " +
				"grows.",
		}, []string{"kind"}),
		oldest: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "handstamp_mail_oldest_age_seconds",
			Help: "Age of the oldest mail that waits to be sent, as counted every minute. Alert above 600: nobody gets mail.",
		}),
	}
	for _, o := range session.Outcomes() {
		f.refreshes.WithLabelValues(string(o))
	}
	for _, reason := range endings() {
		f.ended.WithLabelValues(string(reason))
	}
	for _, kind := range []string{oauth.KindLogout, sharedsignal.KindPush, mail.KindMail} {
		f.waiting.WithLabelValues(kind)
	}
	r.MustRegister(f.refreshes, f.started, f.ended, f.waiting, f.oldest)
	return f
}

// watched registers what is read when somebody asks for the figures.
func (b *builder) watched(context.Context) error {
	gauge := func(name, help string, value func() float64) {
		b.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	counter := func(name, help string, value func() float64) {
		b.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, value))
	}
	now := b.config.Clock.Now

	gauge("handstamp_password_hashes_running", "Passwords being hashed.",
		func() float64 { return float64(b.Hasher.Stats().Running) })
	gauge("handstamp_password_hashes_waiting", "Passwords that wait to be hashed.",
		func() float64 { return float64(b.Hasher.Stats().Waiting) })
	counter("handstamp_password_hashes_total", "Passwords hashed.", func() float64 { return float64(b.Hasher.Stats().Evaluations) })
	counter("handstamp_password_hashes_refused_total", "Passwords not hashed because too many waited, each a 503. Alert on a rise.",
		func() float64 { return float64(b.Hasher.Stats().Refusals) })

	gauge("handstamp_signing_key_next_rotation_timestamp_seconds",
		"When the next signing key begins to sign, by schedule. Alert if it is in the past.",
		func() float64 { return unix(nextRotation(b.Keys.List(context.Background()), b.config.KeyRotation)) })

	gauge("handstamp_blocklist_entries", "Entries of the blocklist.", func() float64 { return float64(b.Blocklist.Set().Len()) })
	gauge("handstamp_blocklist_delay_seconds",
		"Time since this replica last heard from the database about the blocklist. Alert above 5: revocations are late.",
		func() float64 { return time.Since(b.Blocklist.HeardAt()).Seconds() })

	gauge("handstamp_database_connections", "Connections to the database that this replica may open.",
		func() float64 { return float64(b.Store.Stats().Connections) })
	gauge("handstamp_database_connections_in_use", "Connections with a statement now.",
		func() float64 { return float64(b.Store.Stats().InUse) })
	counter("handstamp_database_waits_total", "Calls that had to wait for a connection.",
		func() float64 { return float64(b.Store.Stats().Waits) })
	counter("handstamp_database_wait_seconds_total", "Time that calls have waited for a connection.",
		func() float64 { return b.Store.Stats().Waited.Seconds() })
	counter("handstamp_database_failures_total", "Calls of the database that failed. Alert on a rise.",
		func() float64 { return float64(b.Store.Stats().Failures) })

	gauge("handstamp_clock_offset_seconds",
		"How far the database's clock is ahead of this machine's. It is corrected; alert beyond 1 in either direction: set the clock.",
		func() float64 { return b.config.Clock.Offset().Seconds() })

	b.figures.swept.Store(now().Unix())
	gauge("handstamp_sweep_age_seconds", "Time since expired rows were last swept; every minute. Alert above 600: tables grow.",
		func() float64 { return now().Sub(time.Unix(b.figures.swept.Load(), 0)).Seconds() })
	return nil
}

func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.Unix())
}

// nextRotation is when the next key of any algorithm begins to sign: the one that is published already, or else the one
// that the schedule demands.
func nextRotation(keys []keyring.Record, every time.Duration) (next time.Time) {
	begins := map[string]time.Time{}
	for _, k := range keys {
		switch k.State {
		case keyring.StateUpcoming:
			begins[k.Algorithm] = k.ActivatesAt
		case keyring.StateActive:
			if begins[k.Algorithm].IsZero() {
				begins[k.Algorithm] = k.ActivatedAt.Add(every)
			}
		case keyring.StateRetired, keyring.StateRevoked:
		}
	}
	for _, at := range begins {
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

// tally counts the sessions that a store starts and ends.
type tally struct {
	store.Store
	figures *figures
}

func (t tally) end(reason session.Reason, n int, err error) {
	if err == nil && n > 0 {
		t.figures.ended.WithLabelValues(string(reason)).Add(float64(n))
	}
}

func (t tally) begin(s session.Started, err error) {
	if err == nil && s.Created {
		t.figures.started.Inc()
		t.end(session.ReasonLimit, len(s.Ended), nil)
	}
}

// Start implements session.Store.
func (t tally) Start(ctx context.Context, s session.Start) (session.Started, error) {
	started, err := t.Store.Start(ctx, s)
	t.begin(started, err)
	return started, err
}

// RedeemCode implements oauth.BrowserStore.
func (t tally) RedeemCode(ctx context.Context, h oauth.Hash, s session.Start) (session.Started, error) {
	started, err := t.Store.RedeemCode(ctx, h, s)
	t.begin(started, err)
	return started, err
}

// EndSession implements session.Store.
func (t tally) EndSession(ctx context.Context, id session.ID, e session.Ending) (bool, error) {
	ended, err := t.Store.EndSession(ctx, id, e)
	if ended {
		t.end(e.Reason, 1, err)
	}
	return ended, err
}

// EndDevice implements session.Store.
func (t tally) EndDevice(ctx context.Context, userID string, id session.ID, e session.Ending) ([]session.ID, error) {
	ids, err := t.Store.EndDevice(ctx, userID, id, e)
	t.end(e.Reason, len(ids), err)
	return ids, err
}

// EndSessions implements session.Store.
func (t tally) EndSessions(ctx context.Context, userID string, except session.ID, e session.Ending) ([]session.ID, error) {
	ids, err := t.Store.EndSessions(ctx, userID, except, e)
	t.end(e.Reason, len(ids), err)
	return ids, err
}

// SetPassword implements session.Store.
func (t tally) SetPassword(ctx context.Context, userID, old, replacement string, e session.Ending) ([]session.ID, error) {
	ids, err := t.Store.SetPassword(ctx, userID, old, replacement, e)
	t.end(e.Reason, len(ids), err)
	return ids, err
}

// ResetPassword implements account.Store.
func (t tally) ResetPassword(ctx context.Context, f account.Found, replacement string, e session.Ending) ([]session.ID, error) {
	ids, err := t.Store.ResetPassword(ctx, f, replacement, e)
	t.end(e.Reason, len(ids), err)
	return ids, err
}

// DeleteUser implements session.Store.
func (t tally) DeleteUser(ctx context.Context, userID string, e session.Ending) ([]session.ID, error) {
	ids, err := t.Store.DeleteUser(ctx, userID, e)
	t.end(e.Reason, len(ids), err)
	return ids, err
}

// EndBrowserSession implements oauth.BrowserStore.
func (t tally) EndBrowserSession(ctx context.Context, h oauth.Hash, e session.Ending) ([]session.ID, error) {
	ids, err := t.Store.EndBrowserSession(ctx, h, e)
	t.end(e.Reason, len(ids), err)
	return ids, err
}
