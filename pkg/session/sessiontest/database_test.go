package sessiontest

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/store/postgres"
	"github.com/handstamp/handstamp/pkg/store/sqlite"
)

// accessTokenLifetime is that of the services under test.
const accessTokenLifetime = 15 * time.Minute

// rawConnections is how many connections a test keeps to a database, besides those of the store.
const rawConnections = 2

// database is one that a test may look into and change behind the back of the service.
type database struct {
	store.Store
	url    string
	raw    *sql.DB
	codec  *session.Codec
	master seal.MasterKey
	cursor string // of the blocklist
}

// openDatabase opens and migrates an empty database. The caller closes it.
func openDatabase(ctx context.Context, url string) (*database, error) {
	master, err := seal.ParseMasterKey(servicetest.Master)
	if err != nil {
		return nil, err
	}
	db := &database{url: url, master: master, codec: session.NewCodec(master)}
	if path, ok := strings.CutPrefix(url, sqlite.Prefix); ok {
		if db.Store, err = sqlite.Open(ctx, url); err == nil {
			db.raw, err = sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)&_pragma=synchronous(OFF)")
		}
	} else {
		if db.Store, err = postgres.Open(ctx, url, postgres.Options{}); err == nil {
			db.raw, err = sql.Open("pgx", url)
		}
	}
	if err == nil {
		db.raw.SetMaxOpenConns(rawConnections)
		err = db.Migrate(ctx)
	}
	return db, err
}

func (db *database) close() error {
	if err := db.raw.Close(); err != nil {
		return err
	}
	return db.Close()
}

// exec runs a statement, written for both kinds of databases with ? for parameters. An instant is microseconds in one
// of them and a time in the other.
func (db *database) exec(ctx context.Context, query string, args ...any) error {
	if strings.HasPrefix(db.url, sqlite.Prefix) {
		for i, a := range args {
			switch a := a.(type) {
			case time.Time:
				args[i] = a.UnixMicro()
			case time.Duration:
				args[i] = a.Microseconds()
			case session.ID:
				args[i] = a[:]
			}
		}
	} else {
		for i, a := range args {
			query = strings.Replace(query, "?", "$"+string(rune('1'+i)), 1)
			switch a := a.(type) {
			case time.Duration:
				args[i] = a.String()
			case session.ID:
				args[i] = [16]byte(a)
			}
		}
	}
	_, err := db.raw.ExecContext(ctx, query, args...)
	return err
}

// age lets time pass for the sessions of a user.
func (db *database) age(ctx context.Context, userID string, d time.Duration) error {
	by := "?"
	if !strings.HasPrefix(db.url, sqlite.Prefix) {
		by = "?::text::interval"
	}
	var sets []string
	var args []any
	for _, column := range []string{"created_at", "rotated_at", "idle_expires_at", "expires_at"} {
		sets = append(sets, column+" = "+column+" - "+by)
		args = append(args, d)
	}
	return db.exec(ctx, "UPDATE sessions SET "+strings.Join(sets, ", ")+" WHERE user_id = ?", append(args, userID)...)
}

// rewind writes the part of a state that rotations write.
func (db *database) rewind(h *history, l *life, s State) error {
	hash := session.HashRequest(s.Key)
	request := hash[:]
	if s.Key == "" && !strings.HasPrefix(db.url, sqlite.Prefix) {
		request = nil
	}
	var earlier []byte
	if s.Earlier != [4]string{} {
		for _, key := range s.Earlier {
			hash := session.HashRequest(key)
			earlier = append(earlier, hash[:]...)
		}
	}
	return db.exec(h.ctx, "UPDATE sessions SET generation = ?, last_request_hash = ?, earlier_requests = ?, rotated_at = ?, "+
		"idle_expires_at = ? WHERE id = ?",
		s.Generation, request, earlier, h.clock(s.Made), h.clock(s.IdleEnd), l.id)
}

// clock is what the row holds for an instant.
func (h *history) clock(at time.Duration) time.Time {
	if h.exact {
		return time.UnixMicro(at.Microseconds())
	}
	return time.Now().Add(at - h.now())
}

// otherClient registers the client of the second session.
func otherClient(ctx context.Context, db *database, grace time.Duration) error {
	at := time.Now()
	return db.CreateClient(ctx, oauth.Client{
		ID:           clients[1],
		Name:         "other",
		Type:         oauth.Public,
		Grants:       []string{oauth.GrantRefreshToken},
		RefreshGrace: &grace,
		CreatedAt:    at,
		UpdatedAt:    at,
	}, audit.Event{At: at, Kind: audit.KindClientCreated, Actor: audit.ActorCLI, ClientID: clients[1]})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
