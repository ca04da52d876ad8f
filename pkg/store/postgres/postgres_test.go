package postgres

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/store/postgres/pgtest"
	"github.com/handstamp/handstamp/pkg/user"
)

// noon is the time in these tests.
func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// open returns a migrated database and its URL.
func open(t testing.TB) (*DB, string) {
	t.Helper()
	url := pgtest.URL(t)
	db := openURL(t, url)
	must(t, db.Migrate(t.Context()))
	return db, url
}

func openURL(t testing.TB, url string) *DB {
	t.Helper()
	db, err := Open(t.Context(), url, Options{})
	must(t, err)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// connect returns a connection beside the store.
func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	must(t, err)
	t.Cleanup(func() { _ = c.Close(context.WithoutCancel(t.Context())) })
	return c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// event is of no interest.
func event() audit.Event {
	return audit.Event{At: noon(), Kind: audit.KindUserCreated, Actor: audit.ActorCLI}
}

func endFor(reason session.Reason) session.Ending {
	return session.Ending{At: noon().Add(time.Minute), Reason: reason, BlockUntil: noon().Add(time.Hour), Event: event()}
}

// login adds a user and a session of the user.
func login(t testing.TB, db *DB) (user.User, session.Session) {
	t.Helper()
	id := session.NewID(noon())
	u := user.User{
		ID:           user.NewID(noon()),
		Email:        id.String() + "@example.test",
		PasswordHash: "hash",
		Roles:        []string{"old"},
		CreatedAt:    noon(),
		UpdatedAt:    noon(),
	}
	must(t, db.CreateUser(t.Context(), u, event()))
	start := startFor(u, id)
	started, err := db.Start(t.Context(), start)
	must(t, err)
	if !started.Created {
		t.Fatalf("not started: %+v", started)
	}
	start.Session.Roles = started.Roles
	return u, start.Session
}

func startFor(u user.User, id session.ID) session.Start {
	return session.Start{
		Session: session.Session{
			ID:            id,
			UserID:        u.ID,
			ClientID:      "default",
			Generation:    1,
			Nonce:         session.Nonce(id),
			RotatedAt:     noon(),
			IdleExpiresAt: noon().Add(24 * time.Hour),
			ExpiresAt:     noon().Add(48 * time.Hour), IATFloor: noon().Unix(), AuthTime: noon(), CreatedAt: noon(),
		},
		PasswordHash: u.PasswordHash, Limit: 100, BlockUntil: noon().Add(time.Hour), Event: event(),
	}
}

// rotation is the next of a session.
func rotation(s session.Session) session.Rotation {
	return session.Rotation{
		ID: s.ID, Nonce: s.Nonce, ClientID: s.ClientID, From: s.Generation, To: s.Generation + 1, At: noon().Add(time.Minute),
		IdleExpiresAt: noon().Add(25 * time.Hour),
	}
}

func TestOpen(t *testing.T) {
	const password = "s3cr3t-Wort"
	for name, c := range map[string]struct{ url, fault string }{
		"fail/another scheme":    {"mysql://u:" + password + "@h/d", "must be postgres://"},
		"fail/not a URL":         {"host=h password=" + password, "must be postgres://"},
		"fail/unescaped slash":   {"postgres://u:" + password + "/x@h/d", "must be postgres://"},
		"fail/unescaped percent": {"postgres://u:" + password + "%zz@h/d", "must be postgres://"},
		"fail/port":              {"postgres://u:" + password + "@h:port/d", "must be postgres://"},
		"fail/large port":        {"postgres://u:" + password + "@h:99999/d", "not valid"},
		"fail/parameter":         {"postgres://u:" + password + "@h/d?pool_max_conns=" + password, "not valid"},
		"fail/certificate": {"postgres://u:" + password + "@h/d?sslmode=verify-full&sslrootcert=/none/" + password,
			"not valid"},
		"fail/slash behind digits":       {"postgres://u:12/" + password + "@h/d", "write / as %2F"},
		"fail/number sign behind digits": {"postgres://u:12#" + password + "@h/d", "# as %23"},
		"fail/question mark":             {"postgres://u:12?" + password + "@h/d", "? as %3F"},
		"fail/at sign and slash":         {"postgres://u:p@12/" + password + "@h/d", "@ as %40"},
		"fail/number sign":               {"postgres://u:" + password + "@h/d#" + password, "# as %23"},
		"fail/DB-02/simple protocol": {
			"postgres://u:" + password + "@h/d?default_query_exec_mode=simple_protocol", "cache_describe",
		},
	} {
		t.Run(name, func(t *testing.T) {
			db, err := Open(t.Context(), c.url, Options{})
			if err == nil {
				_ = db.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), c.fault) {
				t.Errorf("error %q does not say %q", err, c.fault)
			}
			noSecret(t, err, password)
		})
	}

	t.Run("fail/nobody there", func(t *testing.T) {
		db := openURL(t, "postgres://u:"+password+"@127.0.0.1:1/d?connect_timeout=1")
		err := db.Ping(t.Context())
		if err == nil {
			t.Fatal("no error")
		}
		noSecret(t, err, password)
		noSecret(t, db.Migrate(t.Context()), password)
		noSecret(t, db.Wait(t.Context()), password)
		if _, err := db.Session(t.Context(), session.ID{}); err == nil || errors.Is(err, session.ErrNotFound) {
			t.Errorf("Session: %v, want a storage failure", err)
		}
	})

	t.Run("ok/settings of the connection", func(t *testing.T) {
		db := openURL(t, pgtest.URL(t)+"&lock_timeout=123&pool_max_conns=3&standard_conforming_strings=off")
		if n := db.pool.Config().MaxConns; n != 3 {
			t.Errorf("%d connections, want 3", n)
		}
		for name, want := range map[string]string{
			"statement_timeout":                   "10s",
			"lock_timeout":                        "123ms",
			"idle_in_transaction_session_timeout": "5s",
			"transaction_isolation":               "read committed",
			"plan_cache_mode":                     "force_generic_plan",
			"standard_conforming_strings":         "on",
		} {
			var got string
			must(t, db.pool.QueryRow(t.Context(), "SELECT current_setting($1)", name).Scan(&got))
			if got != want {
				t.Errorf("%s is %s, want %s", name, got, want)
			}
		}
	})
}

// Lists and reports choose their plans themselves: where point look-ups hold to an index, reading a table from end to
// end is the right plan for most of its rows.
func TestReportsChooseTheirPlans(t *testing.T) {
	db := openURL(t, pgtest.URL(t)+"&pool_max_conns=3")
	for name, want := range map[string][2]string{
		"plan_cache_mode":   {"force_generic_plan", "auto"},
		"enable_seqscan":    {"off", "on"},
		"enable_hashjoin":   {"off", "on"},
		"enable_mergejoin":  {"off", "on"},
		"statement_timeout": {"10s", "10s"},
	} {
		for i, pool := range []*pgxpool.Pool{db.pool, db.reports} {
			var got string
			must(t, pool.QueryRow(t.Context(), "SELECT current_setting($1)", name).Scan(&got))
			if got != want[i] {
				t.Errorf("pool %d: %s is %s, want %s", i, name, got, want[i])
			}
		}
	}
	if n := db.reports.Config().MaxConns; n != 2 {
		t.Errorf("%d connections for reports, want 2", n)
	}

	must(t, db.Migrate(t.Context()))
	// A list must not wait for the connections that refreshes use.
	for range 3 {
		conn, err := db.pool.Acquire(t.Context())
		must(t, err)
		defer conn.Release()
	}
	_, err := db.Users(t.Context(), "", 10)
	must(t, err)
	_, err = db.Events(t.Context(), "", audit.Cursor{}, 10)
	must(t, err)
}

// The connections of lists may have died since the last one. A list goes on to another, as long as it has told nothing.
func TestReportsOutliveTheirConnections(t *testing.T) {
	db, url := open(t)
	admin := connect(t, url)
	for range 2 {
		_, err := db.Users(t.Context(), "", 10)
		must(t, err)
		_, err = admin.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'`)
		must(t, err)
		_, err = db.Users(t.Context(), "", 10)
		must(t, err)
		_, err = db.Events(t.Context(), "", audit.Cursor{}, 10)
		must(t, err)
	}
}

// noSecret fails if an error, or any of what it wraps, shows a password.
func noSecret(t *testing.T, err error, password string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if strings.Contains(e.Error(), password) || strings.Contains(e.Error(), password[1:8]) {
			t.Errorf("the password is in an error: %v", e)
		}
	}
}

func TestDB04_WarnsOfAPowerfulRole(t *testing.T) {
	url := pgtest.URL(t)
	admin := connect(t, url)
	var super bool
	must(t, admin.QueryRow(t.Context(), "SELECT current_setting('is_superuser')::boolean").Scan(&super))

	var log strings.Builder
	db, err := Open(t.Context(), url, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	must(t, err)
	must(t, db.Ping(t.Context()))
	must(t, db.Close())
	if got := strings.Contains(log.String(), "superuser"); got != super {
		t.Errorf("the role is a superuser: %t, and the log says %q", super, log.String())
	}
}

func TestErrorsShowNoValues(t *testing.T) {
	db, _ := open(t)
	const secret = "hash-of-a-password"
	u := user.User{
		ID:           user.NewID(noon()),
		Email:        "a@example.test",
		Name:         secret + "\x00",
		PasswordHash: secret,
		CreatedAt:    noon(),
		UpdatedAt:    noon(),
	}
	err := db.CreateUser(t.Context(), u, event())
	if err == nil || errors.Is(err, user.ErrEmailTaken) {
		t.Fatalf("CreateUser: %v, want a storage failure", err)
	}
	for _, part := range []string{secret, "INSERT", "$1", u.Email} {
		if strings.Contains(err.Error(), part) {
			t.Errorf("%q is in the error %q", part, err)
		}
	}
	err = errors.Join(err, failed("test", db.run(t.Context(), "convert", do("SELECT $1::text::integer", secret))))
	if strings.Contains(err.Error(), secret) {
		t.Errorf("a value is in the error %q", err)
	}
	if !strings.HasPrefix(err.Error(), "create user: ") {
		t.Errorf("error %q does not say what was being done", err)
	}
}

func TestSchemaMissing(t *testing.T) {
	db := openURL(t, pgtest.URL(t))
	if _, err := db.UserByID(t.Context(), "usr_x"); !errors.Is(err, store.ErrSchema) {
		t.Errorf("UserByID: %v, want ErrSchema", err)
	}
}

// TestImpatientCaller gives up in the middle of a statement. The statement comes to its end, and the connection stays.
func TestImpatientCaller(t *testing.T) {
	url := pgtest.URL(t) + "&pool_max_conns=1"
	db := openURL(t, url)
	must(t, db.Migrate(t.Context()))
	pid := func() (pid int) {
		must(t, db.pool.QueryRow(t.Context(), "SELECT pg_backend_pid()").Scan(&pid))
		return pid
	}
	before := pid()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	must(t, db.run(ctx, "sleep", do("SELECT pg_sleep(0.2)")))
	if after := pid(); after != before {
		t.Errorf("connection %d was replaced by %d", before, after)
	}
	if err := db.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Ping: %v, want DeadlineExceeded", err)
	}
}
