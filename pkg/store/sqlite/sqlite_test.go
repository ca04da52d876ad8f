package sqlite_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/store/sqlite"
	"github.com/handstamp/handstamp/pkg/store/storetest"
	"github.com/handstamp/handstamp/pkg/user"
	"github.com/handstamp/handstamp/pkg/verifier"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) (first, second store.Store) {
		path := filepath.Join(t.TempDir(), "handstamp.db")
		return open(t, path), open(t, path)
	})
}

// open opens a database for a test.
func open(t *testing.T, path string) *sqlite.DB {
	t.Helper()
	db, err := sqlite.Open(t.Context(), sqlite.Prefix+path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return db
}

// migrated opens a database for a test and migrates it.
func migrated(t *testing.T, path string) *sqlite.DB {
	t.Helper()
	db := open(t, path)
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}

func now() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func createUser(ctx context.Context, db *sqlite.DB, email string) (user.User, error) {
	u := user.User{ID: user.NewID(now()), Email: email, CreatedAt: now(), UpdatedAt: now()}
	return u, db.CreateUser(ctx, u, audit.Event{At: now(), Kind: audit.KindUserCreated, UserID: u.ID})
}

// createUserInTurn is createUser beside processes that write all the time: SQLite lets nobody queue, so that who is
// unlucky has to try again.
func createUserInTurn(ctx context.Context, db *sqlite.DB, email string) (u user.User, err error) {
	for range 20 {
		if u, err = createUser(ctx, db, email); err == nil || !strings.Contains(err.Error(), "SQLITE_BUSY") {
			break
		}
	}
	return u, err
}

func TestDB05_Files(t *testing.T) {
	t.Run("ok/made for the owner alone", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "a", "data")
		path := filepath.Join(dir, "handstamp.db")
		db := migrated(t, path)
		if _, err := createUser(t.Context(), db, "a@example.test"); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]fs.FileMode{dir: 0o700, path: 0o600, path + "-wal": 0o600, path + "-shm": 0o600} {
			info, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Mode().Perm(); got != want {
				t.Errorf("%s has mode %04o, want %04o", name, got, want)
			}
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != 3 {
			t.Errorf("files: %v", entries)
		}
	})

	for name, prepare := range map[string]func(t *testing.T, path string){
		"a symbolic link": func(t *testing.T, path string) {
			check(t, os.WriteFile(path+".target", nil, 0o600))
			check(t, os.Symlink(path+".target", path))
		},
		"a dangling symbolic link": func(t *testing.T, path string) { check(t, os.Symlink(path+".target", path)) },
		"a symbolic link for the log": func(t *testing.T, path string) {
			check(t, os.WriteFile(path, nil, 0o600))
			check(t, os.Symlink(path+".target", path+"-wal"))
		},
		"a symbolic link for the shared memory": func(t *testing.T, path string) {
			check(t, os.WriteFile(path, nil, 0o600))
			check(t, os.Symlink(path+".target", path+"-shm"))
		},
		"a symbolic link for the log of a new file": func(t *testing.T, path string) {
			check(t, os.Symlink(path+".target", path+"-wal"))
		},
		"readable by everybody": func(t *testing.T, path string) {
			check(t, os.WriteFile(path, nil, 0o600))
			check(t, os.Chmod(path, 0o604))
		},
		"a log that is readable by others": func(t *testing.T, path string) {
			check(t, os.WriteFile(path, nil, 0o600))
			check(t, os.WriteFile(path+"-wal", nil, 0o600))
			check(t, os.Chmod(path+"-wal", 0o604))
		},
		"a directory": func(t *testing.T, path string) { check(t, os.Mkdir(path, 0o700)) },
		"not a database": func(t *testing.T, path string) {
			check(t, os.WriteFile(path, bytes.Repeat([]byte("text "), 1000), 0o600))
		},
	} {
		t.Run("fail/"+name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "handstamp.db")
			prepare(t, path)
			before := snapshot(t, dir)
			db, err := sqlite.Open(t.Context(), sqlite.Prefix+path)
			if err == nil {
				err = errors.Join(db.Migrate(t.Context()), db.Close())
			}
			if err == nil {
				t.Fatal("opened")
			}
			after := snapshot(t, dir)
			if after["handstamp.db"] == "" && before["handstamp.db"] == "" { // making it is all that happens
				delete(after, "handstamp.db")
				delete(before, "handstamp.db")
			}
			if !reflect.DeepEqual(after, before) {
				t.Errorf("files changed from %v to %v", before, after)
			}
		})
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// snapshot returns the names and contents of the files in a directory.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	entries, err := os.ReadDir(dir)
	check(t, err)
	for _, e := range entries {
		content, _ := os.ReadFile(filepath.Join(dir, e.Name())) //nolint:gosec // a test's own directory
		out[e.Name()] = string(content)
	}
	return out
}

func TestDB05_Path(t *testing.T) {
	for _, name := range []string{
		"x y.db", "x%20y.db", "x%3Fmode=memory", "x#y.db", "x&_pragma=journal_mode(OFF)", "x;ATTACH 'y.db' AS y", "x'\"`$().db",
		"file:x.db", "ünï.db", "x+y=z.db", ":memory:", "-x", "x\ny",
	} {
		t.Run("ok/"+name, func(t *testing.T) {
			dir := t.TempDir()
			db := migrated(t, filepath.Join(dir, name))
			if _, err := createUser(t.Context(), db, "a@example.test"); err != nil {
				t.Fatal(err)
			}
			got := snapshot(t, dir)
			for _, suffix := range []string{"", "-wal", "-shm"} {
				if _, ok := got[name+suffix]; !ok {
					t.Errorf("there is no file %q", name+suffix)
				}
				delete(got, name+suffix)
			}
			if len(got) > 0 {
				t.Errorf("more files: %v", got)
			}
		})
	}

	t.Run("ok/relative", func(t *testing.T) {
		t.Chdir(t.TempDir())
		db := migrated(t, "data/handstamp.db")
		if _, err := os.Stat("data/handstamp.db"); err != nil {
			t.Error(err)
		}
		t.Chdir(t.TempDir()) // connections that are opened later find the same file
		if _, err := createUser(t.Context(), db, "a@example.test"); err != nil {
			t.Error(err)
		}
		if _, err := db.Users(t.Context(), "", 1); err != nil {
			t.Error(err)
		}
	})

	for _, url := range []string{
		"", "sqlite", "sqlite:", "sqlite::memory:", "sqlite:file:x?mode=memory", "sqlite:x.db?_pragma=foreign_keys(0)",
		"sqlite:x.db?mode=ro", "sqlite://host/x.db", "sqlite:x/", "sqlite:x\x00.db", "postgres://x", "x.db",
	} {
		t.Run("fail/"+url, func(t *testing.T) {
			dir := t.TempDir()
			t.Chdir(dir)
			if db, err := sqlite.Open(t.Context(), url); err == nil {
				t.Errorf("opened: %v", db.Close())
			}
			if got := snapshot(t, dir); len(got) > 0 {
				t.Errorf("files: %v", got)
			}
		})
	}
}

// TestSettings holds the connections to what durability and safety rest on.
func TestSettings(t *testing.T) {
	path := filepath.Join(t.TempDir(), "handstamp.db")
	db := migrated(t, path)
	for name, want := range map[string]string{
		"journal_mode":       "wal",
		"synchronous":        "2",
		"foreign_keys":       "1",
		"trusted_schema":     "0",
		"temp_store":         "2",
		"busy_timeout":       "3000",
		"journal_size_limit": "67108864", "secure_delete": "2",
	} {
		if got := db.Pragma(t, name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	db.ReaderCannotWrite(t)
}

func TestSchemaMissing(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "handstamp.db"))
	_, err := db.UserByEmail(t.Context(), "canary@example.test")
	if !errors.Is(err, store.ErrSchema) {
		t.Errorf("UserByEmail: %v, want ErrSchema", err)
	}
	if _, err := createUser(t.Context(), db, "canary@example.test"); !errors.Is(err, store.ErrSchema) ||
		strings.Contains(err.Error(), "canary") {
		t.Errorf("CreateUser: %v, want ErrSchema", err)
	}
	check(t, db.Migrate(t.Context()))
	if _, err := createUser(t.Context(), db, "canary@example.test"); err != nil {
		t.Errorf("after the migration: %v", err)
	}
}

// TestNewerSchema: a program that is rolled back finds a database that a newer one has migrated.
func TestNewerSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "handstamp.db")
	db := migrated(t, path)
	other := openSQL(t, path)
	if _, err := other.ExecContext(t.Context(),
		`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`); err != nil {
		t.Fatal(err)
	}
	current, newest, err := db.Schema(t.Context())
	if err != nil || current != 9999 || newest >= current {
		t.Errorf("Schema: %d, %d, %v", current, newest, err)
	}
	check(t, db.Migrate(t.Context()))
}

// openSQL opens a database as another program does.
func openSQL(t *testing.T, path string) *sql.DB {
	t.Helper()
	other, err := sql.Open("sqlite", "file:"+path+"?_busy_timeout=100")
	check(t, err)
	t.Cleanup(func() { check(t, other.Close()) })
	return other
}

func TestBusy(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "handstamp.db")
	db := migrated(t, path)
	u, err := createUser(t.Context(), db, "a@example.test")
	check(t, err)

	other, err := openSQL(t, path).Conn(t.Context())
	check(t, err)
	defer other.Close()
	_, err = other.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	check(t, err)

	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := createUser(t.Context(), db, "b@example.test"); err == nil || errors.Is(err, user.ErrEmailTaken) {
			t.Errorf("a write while another program writes: %v, want a storage failure", err)
		}
	})
	if _, err := db.UserByID(t.Context(), u.ID); err != nil {
		t.Errorf("a read while another program writes: %v", err)
	}
	wg.Wait()
	if err := db.Ping(t.Context()); err == nil {
		t.Error("Ping: no error while nothing can be written")
	}
	_, err = other.ExecContext(t.Context(), "ROLLBACK")
	check(t, err)
	if err := db.Ping(t.Context()); err != nil {
		t.Errorf("Ping: %v", err)
	}
	if _, err := createUser(t.Context(), db, "b@example.test"); err != nil {
		t.Errorf("a write after the other program is done: %v", err)
	}
}

func TestCancelled(t *testing.T) {
	db := migrated(t, filepath.Join(t.TempDir(), "handstamp.db"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := createUser(ctx, db, "a@example.test"); !errors.Is(err, context.Canceled) {
		t.Errorf("CreateUser: %v, want Canceled", err)
	}
	if _, err := db.UserByEmail(t.Context(), "a@example.test"); !errors.Is(err, user.ErrNotFound) {
		t.Errorf("a cancelled call wrote: %v", err)
	}
}

func TestClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "handstamp.db")
	db, err := sqlite.Open(t.Context(), sqlite.Prefix+path)
	check(t, err)
	check(t, db.Migrate(t.Context()))
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() { _, _ = createUser(t.Context(), db, fmt.Sprintf("%d@example.test", i)) })
	}
	wg.Go(func() {
		for db.Wait(t.Context()) == nil { //nolint:revive // until it is closed
		}
	})
	check(t, db.Close())
	wg.Wait()
	check(t, db.Close())
	if _, err := createUser(t.Context(), db, "late@example.test"); err == nil {
		t.Error("CreateUser on a closed database: no error")
	}
	for _, suffix := range []string{"-wal", "-shm"} { // the last connection leaves one file
		if _, err := os.Stat(path + suffix); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, want ErrNotExist", suffix, err)
		}
	}
}

func TestSynctest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "handstamp.db")
	synctest.Test(t, func(t *testing.T) {
		db := migrated(t, path)
		second := migrated(t, path)
		check(t, second.Block(t.Context(), blocklist.NewEntry(verifier.BlockJTI, "past", now()), audit.Event{At: now()}))
		check(t, db.Wait(t.Context())) // returns at once

		woken := make(chan error, 1)
		go func() { woken <- db.Wait(t.Context()) }()
		synctest.Wait()
		time.Sleep(time.Hour)
		select {
		case err := <-woken:
			t.Fatalf("woken without a change: %v", err)
		default:
		}
		before := time.Now()
		check(t, second.Block(t.Context(), blocklist.NewEntry(verifier.BlockJTI, "x", now()), audit.Event{At: now()}))
		check(t, <-woken)
		if took := time.Since(before); took > time.Second {
			t.Errorf("woken after %v", took)
		}

		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				if _, err := createUser(t.Context(), []*sqlite.DB{db, second}[i%2], fmt.Sprintf("%d@example.test", i)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

// TestTM06_Restored: the database comes back from a backup. A reader never misses what is written afterwards: it is
// told to take a snapshot, or told the entry.
func TestTM06_Restored(t *testing.T) {
	dir := t.TempDir()
	path, backup := filepath.Join(dir, "handstamp.db"), filepath.Join(dir, "backup.db")
	entry := func(value string, at time.Time) (blocklist.Entry, audit.Event) {
		return blocklist.NewEntry(verifier.BlockJTI, value, at.Add(time.Hour)), audit.Event{At: at}
	}
	block := func(db *sqlite.DB, value string, at time.Time) blocklist.Entry {
		t.Helper()
		e, event := entry(value, at)
		check(t, db.Block(t.Context(), e, event))
		return e
	}

	db := migrated(t, path)
	block(db, "before", now())
	if _, err := openSQL(t, path).ExecContext(t.Context(), `VACUUM INTO ?`, backup); err != nil {
		t.Fatal(err)
	}
	check(t, os.Chmod(backup, 0o600))
	block(db, "lost", now().Add(time.Minute))
	changes, err := db.BlocklistChanges(t.Context(), "")
	check(t, err)

	restored := open(t, backup)
	if _, err := restored.BlocklistChanges(t.Context(), changes.Cursor); !errors.Is(err, blocklist.ErrCursorGone) {
		t.Errorf("a cursor from the future: %v, want ErrCursorGone", err)
	}
	fresh := block(restored, "after", now().Add(2*time.Minute))
	later, err := restored.BlocklistChanges(t.Context(), changes.Cursor)
	switch {
	case errors.Is(err, blocklist.ErrCursorGone):
	case err != nil:
		t.Error(err)
	case len(later.Entries) != 1 || later.Entries[0] != fresh:
		t.Errorf("told %v, want the new entry", later.Entries)
	}

	another := migrated(t, filepath.Join(dir, "another.db"))
	block(another, "x", now().Add(time.Hour))
	if _, err := another.BlocklistChanges(t.Context(), changes.Cursor); !errors.Is(err, blocklist.ErrCursorGone) {
		t.Errorf("a cursor of another database: %v, want ErrCursorGone", err)
	}
}

// childVariable makes the test binary a second process on the database that it names.
const childVariable = "HANDSTAMP_SQLITE_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childVariable); path != "" {
		if err := child(context.Background(), path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child migrates, then creates users until its input ends, and prints each one once it is acknowledged.
func child(ctx context.Context, path string) error {
	db, err := sqlite.Open(ctx, sqlite.Prefix+path)
	if err != nil {
		return err
	}
	if err := db.Migrate(ctx); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	for i := 0; ; i++ {
		u, err := createUserInTurn(ctx, db, fmt.Sprintf("%d-%d@example.test", os.Getpid(), i))
		if err != nil {
			return err
		}
		fmt.Println(u.ID)
		select {
		case <-ended:
			return db.Close()
		default:
		}
	}
}

type process struct {
	*exec.Cmd
	input io.Closer
	lines *bufio.Scanner
}

func startChild(t *testing.T, path string) process {
	t.Helper()
	executable, err := os.Executable()
	check(t, err)
	cmd := exec.CommandContext(t.Context(), executable) //nolint:gosec // ourselves
	cmd.Env = append(os.Environ(), childVariable+"="+path)
	cmd.Stderr = os.Stderr
	input, err := cmd.StdinPipe()
	check(t, err)
	output, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	return process{cmd, input, bufio.NewScanner(output)}
}

// TestProcesses has several processes start, migrate and write at once.
func TestProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "handstamp.db")
	children := []process{startChild(t, path), startChild(t, path), startChild(t, path)}
	db := migrated(t, path)
	for i := range 50 {
		if _, err := createUserInTurn(t.Context(), db, fmt.Sprintf("parent-%d@example.test", i)); err != nil {
			t.Fatal(err)
		}
	}
	acknowledged := 50
	for _, c := range children {
		if !c.lines.Scan() {
			t.Fatal("a process did nothing")
		}
		acknowledged++
		check(t, c.input.Close())
		for c.lines.Scan() {
			acknowledged++
		}
		check(t, c.Wait())
	}
	users, err := db.Users(t.Context(), "", 1_000_000)
	check(t, err)
	if len(users) != acknowledged {
		t.Errorf("%d users, %d were acknowledged", len(users), acknowledged)
	}
}

// TestKilled kills a process while it writes: what it acknowledged is there, and the database is sound.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "handstamp.db")
	for round := range 5 {
		c := startChild(t, path)
		var acknowledged []string
		for range 10 * (round + 1) {
			if !c.lines.Scan() {
				t.Fatal("the process did nothing")
			}
			acknowledged = append(acknowledged, c.lines.Text())
		}
		check(t, c.Process.Kill())
		for c.lines.Scan() {
			if id := c.lines.Text(); len(id) == len(acknowledged[0]) { // the last line may be cut
				acknowledged = append(acknowledged, id)
			}
		}
		_ = c.Wait()

		db := open(t, path)
		for _, id := range acknowledged {
			if _, err := db.UserByID(t.Context(), id); err != nil {
				t.Fatalf("an acknowledged user: %v", err)
			}
		}
		if result := db.Pragma(t, "integrity_check"); result != "ok" {
			t.Fatalf("integrity check: %s", result)
		}
	}
}

// TestCheckpoint copies the main file alone, as people do. After a checkpoint it holds what was committed.
func TestCheckpoint(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "handstamp.db")
	db := migrated(t, path)
	_, err := createUser(t.Context(), db, "ann@example.test")
	check(t, err)
	check(t, db.Checkpoint(t.Context()))
	copied := filepath.Join(dir, "copy.db")
	content, err := os.ReadFile(path)
	check(t, err)
	check(t, os.WriteFile(copied, content, 0o600))
	other, err := sqlite.OpenExisting(t.Context(), sqlite.Prefix+copied)
	check(t, err)
	if _, err := other.UserByEmail(t.Context(), "ann@example.test"); err != nil {
		t.Errorf("the copy lacks the user: %v", err)
	}
	check(t, other.Close())
}

// TestQueryPlans fails if a statement of the service reads a table from end to end.
func TestQueryPlans(t *testing.T) {
	db := migrated(t, filepath.Join(t.TempDir(), "handstamp.db"))
	u, err := createUser(t.Context(), db, "a@example.test")
	check(t, err)
	exercise(t, db, u)
	db.CheckPlans(t)
}

// exercise runs each statement that a request runs.
func exercise(t *testing.T, db *sqlite.DB, u user.User) {
	t.Helper()
	ctx, event := t.Context(), audit.Event{At: now(), UserID: u.ID}
	row := session.Session{
		ID:            session.NewID(now()),
		UserID:        u.ID,
		ClientID:      "default",
		Generation:    1,
		IdleExpiresAt: now().Add(time.Hour),
		ExpiresAt:     now().Add(time.Hour),
		RotatedAt:     now(),
		AuthTime:      now(),
		CreatedAt:     now(),
		IP:            "192.0.2.1",
	}
	start := session.Start{Session: row, Limit: 5, BlockUntil: now(), Event: event}
	start.Refund.Key = user.StrangersKey(u.Email)
	_, err := db.Start(ctx, start)
	check(t, err)
	r := session.Rotation{ID: row.ID, ClientID: "default", From: 1, To: 2, At: now(), IdleExpiresAt: now().Add(time.Hour)}
	other := r
	other.From, other.To = 2, 3
	for _, batch := range [][]session.Rotation{{r}, {other, other}} {
		_, err = db.Rotate(ctx, batch)
		check(t, err)
	}
	_, err = db.Repeat(ctx, r)
	check(t, err)
	fork := session.Fork{
		Parent:     row.ID,
		ClientID:   "default",
		Generation: 3,
		At:         now(),
		ID:         session.NewID(now()),
		Limit:      5,
		Event:      event,
	}
	child, err := db.Fork(ctx, fork)
	check(t, err)
	if child == nil {
		t.Fatal("the session was not forked")
	}
	_, err = db.Session(ctx, row.ID)
	check(t, err)
	_, err = db.Sessions(ctx, u.ID, now())
	check(t, err)
	_, err = db.BeginLogin(ctx, user.Try{Email: u.Email, IP: "192.0.2.1", At: now()}, user.Throttle{Burst: 5, Every: time.Minute})
	check(t, err)
	_, err = db.UserByID(ctx, u.ID)
	check(t, err)
	_, err = db.UserByEmail(ctx, u.Email)
	check(t, err)
	_, err = db.Users(ctx, "", 10)
	check(t, err)
	_, err = db.Events(ctx, "", audit.Cursor{}, 10)
	check(t, err)
	_, err = db.Events(ctx, u.ID, audit.Cursor{}, 10)
	check(t, err)
	_, err = db.Clients(ctx, "", 10)
	check(t, err)
	clients, err := db.ClientChanges(ctx, "")
	check(t, err)
	_, err = db.ClientChanges(ctx, clients.Cursor)
	check(t, err)
	changes, err := db.BlocklistChanges(ctx, "")
	check(t, err)
	_, err = db.BlocklistChanges(ctx, changes.Cursor)
	check(t, err)
	_, err = db.DropBlocklist(ctx, now(), 10)
	check(t, err)
	_, err = db.SweepSessions(ctx, now(), 10)
	check(t, err)
	_, err = db.SweepEvents(ctx, now().Add(-time.Hour), 10)
	check(t, err)
	e := session.Ending{At: now(), BlockUntil: now(), Event: event}
	check(t, db.SetRoles(ctx, u.ID, []string{"a"}, e))
	_, err = db.EndSession(ctx, row.ID, e)
	check(t, err)
	_, err = db.EndSessions(ctx, u.ID, session.ID{}, e)
	check(t, err)
	_, err = db.DeleteUser(ctx, u.ID, e)
	check(t, err)
	entry := blocklist.NewEntry(verifier.BlockClient, "default", now())
	check(t, db.DisableClient(ctx, "default", now(), entry, event))
	check(t, db.DeleteClient(ctx, "default", now(), entry, event))
}

// TestErrorsTellNothing calls every method of a database that was not migrated with arguments that must not show in its errors.
func TestErrorsTellNothing(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "handstamp.db"))
	methods := reflect.TypeFor[store.Store]()
	for method := range methods.Methods() {
		switch method.Name {
		case "Close", "Migrate", "Schema", "Ping", "Now", "Checkpoint", "Stats":
			continue
		}
		in := []reflect.Value{reflect.ValueOf(t.Context())}
		for j := 1; j < method.Type.NumIn(); j++ {
			in = append(in, canary(method.Type.In(j)))
		}
		out := reflect.ValueOf(db).MethodByName(method.Name).Call(in)
		err, _ := reflect.TypeAssert[error](out[len(out)-1])
		if !errors.Is(err, store.ErrSchema) {
			t.Errorf("%s: %v, want ErrSchema", method.Name, err)
			continue
		}
		for _, secret := range []string{"canary", "SELECT", "INSERT", "UPDATE", "DELETE", "WHERE"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error shows %q: %v", method.Name, secret, err)
			}
		}
	}
}

// canary returns a value whose texts are all "canary".
func canary(typ reflect.Type) reflect.Value {
	v := reflect.New(typ).Elem()
	switch typ.Kind() {
	case reflect.String:
		v.SetString("canary")
	case reflect.Int:
		v.SetInt(1)
	case reflect.Struct:
		for i := range typ.NumField() {
			if typ.Field(i).IsExported() {
				v.Field(i).Set(canary(typ.Field(i).Type))
			}
		}
	case reflect.Slice:
		v.Set(reflect.Append(v, canary(typ.Elem())))
	default:
	}
	return v
}

// TestRefreshesGoFirst lets many writes wait when a refresh comes: it does not wait for them.
func TestRefreshesGoFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "handstamp.db")
	synctest.Test(t, func(t *testing.T) {
		db := migrated(t, path)
		u, err := createUser(t.Context(), db, "a@example.test")
		check(t, err)
		row := session.Session{
			ID:            session.NewID(now()),
			UserID:        u.ID,
			ClientID:      "default",
			Generation:    1,
			IdleExpiresAt: now().Add(time.Hour),
			ExpiresAt:     now().Add(time.Hour),
			RotatedAt:     now(),
			AuthTime:      now(),
			CreatedAt:     now(),
		}
		_, err = db.Start(t.Context(), session.Start{Session: row, BlockUntil: now(), Event: audit.Event{At: now(), UserID: u.ID}})
		check(t, err)

		release := db.HoldWriter(t)
		var writes atomic.Int64
		var group sync.WaitGroup
		for i := range 50 {
			group.Go(func() {
				_, err := db.BeginLogin(t.Context(), user.Try{Email: fmt.Sprintf("%d@example.test", i), At: now()},
					user.Throttle{Burst: 5, Every: time.Minute})
				if err != nil {
					t.Error(err)
				}
				writes.Add(1)
			})
		}
		synctest.Wait()
		for name, refresh := range map[string]func() error{
			"one": func() error {
				r := session.Rotation{ID: row.ID, ClientID: "default", From: 1, To: 2, At: now(), IdleExpiresAt: now()}
				_, err := db.Rotate(t.Context(), []session.Rotation{r})
				return err
			},
			"several": func() error {
				_, err := db.Rotate(t.Context(), make([]session.Rotation, 3))
				return err
			},
			"repeat": func() error {
				_, err := db.Repeat(t.Context(), session.Rotation{ID: row.ID, ClientID: "default", From: 2, At: now()})
				return err
			},
		} {
			group.Go(func() {
				err := refresh()
				if n := writes.Load(); err != nil || n > 2 {
					t.Errorf("%s: %v, after %d other writes", name, err, n)
				}
			})
		}
		synctest.Wait()
		release()
		group.Wait()
		check(t, db.Close())
	})
}
