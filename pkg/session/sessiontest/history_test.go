package sessiontest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/store/postgres/pgtest"
	"github.com/handstamp/handstamp/pkg/store/sqlite"
	"github.com/handstamp/handstamp/pkg/store/sqlite/sqlitetest"
	"github.com/handstamp/handstamp/pkg/user"
)

// historiesVariable names the environment variable for a long run: about so many histories in all.
const historiesVariable = "HANDSTAMP_TEST_HISTORIES"

// check plays histories: some, or this part of a long run.
func check(t *testing.T, some int, part float64, prop func(rt *rapid.T)) {
	t.Helper()
	n := some
	if text := os.Getenv(historiesVariable); text != "" {
		all, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s: %v", historiesVariable, err)
		}
		n = int(float64(all) * part)
	}
	checks := flag.Lookup("rapid.checks")
	before := checks.Value.String()
	defer func() { must(t, checks.Value.Set(before)) }()
	played := 0
	for played < n {
		// By the clock of a bubble a hundred take most of a day, and rapid stops after one without a word.
		must(t, checks.Value.Set(strconv.Itoa(min(n-played, 100))))
		rapid.Check(struct{ rapid.TB }{t}, func(rt *rapid.T) { // in a bubble nobody may ask for the deadline of a test
			played++
			prop(rt)
		})
	}
	t.Logf("%d histories", played)
}

// exactRules are for a clock that the test moves. The second client has a grace period of its own.
var exactRules = [sessions]Rules{
	{Idle: 10 * time.Minute, Lifetime: 40 * time.Minute, Grace: 10 * time.Second},
	{Idle: 10 * time.Minute, Lifetime: 40 * time.Minute, Grace: 3 * time.Second},
}

func exactPauses() []time.Duration {
	return []time.Duration{
		0, 0, 0, 0, time.Millisecond, time.Second, time.Second, 3 * time.Second, 3*time.Second + time.Microsecond, 9 * time.Second,
		10 * time.Second, 10*time.Second + time.Microsecond, 11 * time.Second, 11 * time.Second, time.Minute, time.Minute, time.Minute,
		10*time.Minute - time.Millisecond, 10 * time.Minute,
	}
}

// agedRules are for rows that are aged while the clock on the wall goes on: no sum of pauses is near an end.
var agedRules = [sessions]Rules{
	{Idle: 1005 * time.Second, Lifetime: 3615 * time.Second, Grace: 105 * time.Second},
	{Idle: 1005 * time.Second, Lifetime: 3615 * time.Second, Grace: 45 * time.Second},
}

func agedPauses() []time.Duration {
	return []time.Duration{0, 0, 0, 30 * time.Second, 30 * time.Second, 150 * time.Second, 150 * time.Second, 600 * time.Second}
}

// managers is a replica that is a session.Manager alone.
type managers struct {
	manager *session.Manager
	codec   *session.Codec
	user    user.User
}

// openManager starts managers. A seeded bug may stand between one and its link to the database.
func openManager(db *database, rules Rules,
	bug func(db *database, s store.Store) store.Store) func(u user.User) (replica, *link, error) {
	return func(u user.User) (replica, *link, error) {
		l := newLink(db.Store)
		var s store.Store = l
		if bug != nil {
			s = bug(db, s)
		}
		return &managers{user: u, codec: db.codec, manager: session.NewManager(s, db.master, session.Config{
			IdleLifetime: rules.Idle, Lifetime: rules.Lifetime, Grace: rules.Grace, Limit: 10, AccessTokenLifetime: accessTokenLifetime,
			ClockMargin: 2 * time.Minute,
			Clock:       servicetest.OldClock(),
		})}, l, nil
	}
}

func (m *managers) begin(ctx context.Context, clientID string) (tokens, error) {
	return managed(m.manager.Start(ctx, session.Login{User: m.user, ClientID: clientID}))
}

func (m *managers) refresh(ctx context.Context, clientID, token, key string) (tokens, error) {
	return managed(m.manager.Refresh(ctx, session.Refresh{Raw: token, ClientID: clientID, IdempotencyKey: key}))
}

func (m *managers) fork(ctx context.Context, clientID, token, key string) (tokens, error) {
	return managed(m.manager.Fork(ctx, session.Refresh{Raw: token, ClientID: clientID, IdempotencyKey: key}))
}

func managed(issued session.Issued, err error) (tokens, error) {
	switch {
	case err == nil:
		return tokens{refresh: issued.RefreshToken, iat: issued.IATFloor, roles: strings.Join(issued.Roles, " ")}, nil
	case errors.Is(err, session.ErrEnded), errors.Is(err, session.ErrReuse), errors.Is(err, session.ErrLate),
		errors.Is(err, session.ErrWrongClient):
		return tokens{}, errRefused
	case errors.Is(err, session.ErrMalformed), errors.Is(err, session.ErrClientDisabled), errors.Is(err, session.ErrScope),
		errors.Is(err, session.ErrUserDisabled), errors.Is(err, session.ErrUserChanged):
		return tokens{}, err
	}
	return tokens{}, errors.Join(errUnavailable, err)
}

func (m *managers) by() session.By { return session.By{Actor: m.user.ID} }

func (m *managers) logout(ctx context.Context, token string) error {
	p, err := m.codec.Parse(token)
	if err != nil {
		return err
	}
	return orUnavailable(m.manager.End(ctx, session.Session{ID: p.ID, UserID: m.user.ID}, session.ReasonLogout, m.by()))
}

func (m *managers) logoutAll(ctx context.Context) error {
	_, err := m.manager.EndAll(ctx, m.user.ID, session.ID{}, session.ReasonLogoutAll, m.by())
	return orUnavailable(err)
}

func (m *managers) setRoles(ctx context.Context, roles string) error {
	return orUnavailable(m.manager.SetRoles(ctx, m.user.ID, []string{roles}, session.By{Actor: audit.ActorCLI}))
}

func (m *managers) stop() {}

func orUnavailable(err error) error {
	if err != nil {
		return errors.Join(errUnavailable, err)
	}
	return nil
}

// exactStage is managers over SQLite, in a bubble of which the test moves the clock.
func exactStage(ctx context.Context, db *database, bug func(db *database, s store.Store) store.Store) *stage {
	st := &stage{
		ctx: ctx, db: db, rules: exactRules, pauses: exactPauses(), exact: true, open: openManager(db, exactRules[0], bug),
		now: func() time.Duration { return time.Duration(time.Now().UnixMicro()) * time.Microsecond },
	}
	st.advance = func(_ *history, d time.Duration) error { return sleep(ctx, d) }
	st.reopen = func() error {
		if err := db.Close(); err != nil {
			return err
		}
		var err error
		db.Store, err = sqlite.Open(ctx, db.url)
		return err
	}
	return st
}

// agedStage is replicas over any database, whose rows are aged.
func agedStage(ctx context.Context, db *database, open func(u user.User) (replica, *link, error)) *stage {
	virtual := time.Duration(time.Now().UnixMicro()) * time.Microsecond
	return &stage{
		ctx: ctx, db: db, rules: agedRules, pauses: agedPauses(), open: open,
		now: func() time.Duration { return virtual },
		advance: func(h *history, d time.Duration) error {
			virtual += d
			if d == 0 {
				return nil
			}
			return db.age(ctx, h.user.ID, d)
		},
	}
}

var (
	allFaults   = []fault{failBefore, failAfter, killBefore, killAfter, slowBefore, slowAfter, tooSlow}
	quickFaults = []fault{failBefore, failAfter, killBefore, killAfter}
)

// TestHistories_Managers plays against session.Manager over SQLite with an exact clock.
func TestHistories_Managers(t *testing.T) {
	url := sqlitetest.URL(t)
	synctest.Test(t, func(t *testing.T) {
		db, err := openDatabase(t.Context(), url)
		must(t, err)
		defer func() { must(t, db.close()) }()
		must(t, otherClient(t.Context(), db, exactRules[1].Grace))
		st := exactStage(t.Context(), db, nil)
		check(t, 400, 0.8, func(rt *rapid.T) {
			if err := st.play(drawScript(rt, len(st.pauses), allFaults, 50)); err != nil {
				rt.Fatal(err)
			}
		})
	})
}

// TestHistories_Postgres plays against session.Manager over PostgreSQL.
func TestHistories_Postgres(t *testing.T) {
	db, err := openDatabase(t.Context(), pgtest.URL(t))
	must(t, err)
	defer func() { must(t, db.close()) }()
	must(t, otherClient(t.Context(), db, agedRules[1].Grace))
	st := agedStage(t.Context(), db, openManager(db, agedRules[0], nil))
	check(t, 60, 0.1, func(rt *rapid.T) {
		if err := st.play(drawScript(rt, len(st.pauses), quickFaults, 0)); err != nil {
			rt.Fatal(err)
		}
	})
}

// TestHistories_Crash plays against session.Manager over a PostgreSQL server that loses power in the middle of rounds.
func TestHistories_Crash(t *testing.T) {
	cluster := pgtest.NewCluster(t)
	db, err := openDatabase(t.Context(), cluster.URL())
	must(t, err)
	defer func() { must(t, db.close()) }()
	must(t, otherClient(t.Context(), db, agedRules[1].Grace))
	st := agedStage(t.Context(), db, openManager(db, agedRules[0], nil))
	st.crash = func() error {
		cluster.Crash()
		cluster.Restart()
		return nil
	}
	check(t, 3, 0.01, func(rt *rapid.T) {
		if err := st.play(drawScript(rt, len(st.pauses), quickFaults, 6)); err != nil {
			rt.Fatal(err)
		}
	})
}

// services is a replica of the whole service, over HTTP.
type services struct {
	pool *pool
	s    *servicetest.Service
	link *link
	user user.User
}

// pool keeps replicas running from one history to the next.
type pool struct {
	t    testing.TB
	url  string
	idle []*services
}

func (p *pool) open(u user.User) (replica, *link, error) {
	var v *services
	if n := len(p.idle); n > 0 {
		v, p.idle = p.idle[n-1], p.idle[:n-1]
	} else {
		v = &services{pool: p, link: newLink(nil)}
		v.s = servicetest.Start(p.t, servicetest.Database{URL: p.url, Wrap: func(s store.Store) store.Store {
			v.link.Store = s
			return v.link
		}}, func(c *service.Config) {
			c.Issuer, c.Audience = "http://127.0.0.1:1", []string{"http://127.0.0.1:1"}
			c.RefreshIdleLifetime, c.RefreshLifetime, c.RefreshGrace = agedRules[0].Idle, agedRules[0].Lifetime, agedRules[0].Grace
			c.AccessTokenLifetime = accessTokenLifetime
		})
	}
	v.user = u
	return v, v.link, nil
}

// stop lets a replica wait for the next history, or ends one that is dead.
func (v *services) stop() {
	if v.link.alive() {
		v.pool.idle = append(v.pool.idle, v)
	} else {
		v.s.Stop()
	}
}

func (v *services) begin(ctx context.Context, clientID string) (tokens, error) {
	issued, err := v.s.Sessions.Start(ctx, session.Login{User: v.user, ClientID: clientID, Audience: v.s.Config.Audience})
	return managed(issued, err)
}

func (v *services) refresh(ctx context.Context, clientID, token, key string) (tokens, error) {
	return v.post(ctx, "/oauth2/token", key, "grant_type", "refresh_token", "refresh_token", token, "client_id", clientID)
}

func (v *services) fork(ctx context.Context, clientID, token, key string) (tokens, error) {
	return v.post(ctx, "/v1/sessions/fork", key, "refresh_token", token, "client_id", clientID)
}

// post sends a form that is answered with tokens.
func (v *services) post(ctx context.Context, path, key string, pairs ...string) (tokens, error) {
	header := http.Header{}
	if key != "" {
		header.Set("Idempotency-Key", key)
	}
	r, err := v.s.TryForm(ctx, path, header, pairs...)
	switch {
	case err != nil:
		return tokens{}, errors.Join(errUnavailable, err)
	case r.Status == http.StatusOK:
		got := r.Tokens(v.pool.t)
		claims := servicetest.Claims(v.pool.t, got.AccessToken)
		iat, _ := claims["iat"].(float64)
		var roles []string
		list, _ := claims["roles"].([]any)
		for _, role := range list {
			text, _ := role.(string)
			roles = append(roles, text)
		}
		return tokens{refresh: got.RefreshToken, iat: int64(iat), roles: strings.Join(roles, " ")}, nil
	case (r.Status == http.StatusBadRequest || r.Status == http.StatusUnauthorized) && r.Code() == "invalid_grant":
		return tokens{}, errRefused
	case r.Status == http.StatusServiceUnavailable && r.Header.Get("Retry-After") != "":
		return tokens{}, fmt.Errorf("%w: %s", errUnavailable, r.Body)
	}
	return tokens{}, errors.New(strconv.Itoa(r.Status) + " " + r.Body)
}

func (v *services) logout(ctx context.Context, token string) error {
	r, err := v.s.Try(ctx, http.MethodPost, "/v1/logout", http.Header{"Content-Type": {"application/json"}},
		strings.NewReader(`{"refresh_token":"`+token+`"}`))
	switch {
	case err != nil:
		return errors.Join(errUnavailable, err)
	case r.Status == http.StatusNoContent:
		return nil
	case r.Status == http.StatusServiceUnavailable && r.Header.Get("Retry-After") != "":
		return errUnavailable
	}
	return errors.New(strconv.Itoa(r.Status) + " " + r.Body)
}

func (v *services) logoutAll(ctx context.Context) error {
	_, err := v.s.Sessions.EndAll(ctx, v.user.ID, session.ID{}, session.ReasonLogoutAll, session.By{Actor: v.user.ID})
	return orUnavailable(err)
}

func (v *services) setRoles(ctx context.Context, roles string) error {
	return orUnavailable(v.s.Sessions.SetRoles(ctx, v.user.ID, []string{roles}, session.By{Actor: audit.ActorCLI}))
}

// TestHistories_Services plays against replicas of the whole service over HTTP, on both databases.
func TestHistories_Services(t *testing.T) {
	servicetest.Each(t, func(t *testing.T, at servicetest.Database) {
		db, err := openDatabase(t.Context(), at.URL)
		must(t, err)
		t.Cleanup(func() { must(t, db.close()) })
		must(t, otherClient(t.Context(), db, agedRules[1].Grace))
		st := agedStage(t.Context(), db, (&pool{t: t, url: at.URL}).open)
		check(t, 20, 0.05, func(rt *rapid.T) {
			if err := st.play(drawScript(rt, len(st.pauses), quickFaults, 0)); err != nil {
				rt.Fatal(err)
			}
		})
	})
}
