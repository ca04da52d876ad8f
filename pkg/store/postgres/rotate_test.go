package postgres

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store/postgres/pgtest"
)

// noon is the time in these tests.
func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// seed adds n sessions of one user, by SQL because the point is to have many. Session i has ID and nonce i.
func seed(t testing.TB, url string, n int) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context()) //nolint:errcheck // the test has what it wants
	for _, sql := range []string{
		`INSERT INTO users (id, email, email_key, name, password_hash, roles, created_at, updated_at)
			SELECT 'usr_seeded', 'seeded@example.test', 'seeded@example.test', '', 'hash', '{member}', $1, $1 WHERE $2::int > 0`,
		`INSERT INTO sessions (id, user_id, client_id, generation, nonce, rotated_at, last_request_hash, idle_expires_at, expires_at, revoke_reason, scope, audience,
				roles, iat_floor, amr, acr, auth_time, user_agent, ip, created_at)
			SELECT lpad(to_hex(i), 32, '0')::uuid, 'usr_seeded', 'default', 1, decode(lpad(to_hex(i), 32, '0'), 'hex'), $1, NULL, $1::timestamptz + interval '7 days',
				$1::timestamptz + interval '30 days', '', 'openid profile', '{https://api.example.test}', '{member}', 1, '{pwd}', '', $1,
				'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0', '192.0.2.7', $1
			FROM generate_series(0, $2::int - 1) i`,
	} {
		if _, err := c.Exec(t.Context(), sql, noon(), n); err != nil {
			t.Fatal(err)
		}
	}
}

// seeded is the rotation of session i from a generation.
func seeded(i int, from uint32) session.Rotation {
	r := session.Rotation{ClientID: "default", From: from, To: from + 1, At: noon().Add(time.Minute), IdleExpiresAt: noon().Add(8 * 24 * time.Hour), RequestHash: session.RequestHash{1}}
	for b := range 4 {
		r.ID[15-b] = byte(i >> (8 * b))
	}
	r.Nonce = session.Nonce(r.ID)
	return r
}

func BenchmarkRotate(b *testing.B) {
	const sessions = 100_000
	url := pgtest.URL(b)
	db, err := Open(b.Context(), url, Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // the benchmark has what it wants
	if err := db.Migrate(b.Context()); err != nil {
		b.Fatal(err)
	}
	seed(b, url, sessions)

	generation := make([]uint32, sessions)
	for i := range generation {
		generation[i] = 1
	}
	for _, size := range []int{1, 8, 32, 64} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				batch := make([]session.Rotation, size)
				first := rand.IntN(sessions - size)
				for i := range batch {
					n := (first + i*7919) % sessions
					batch[i] = seeded(n, generation[n])
					generation[n]++
				}
				got, err := db.Rotate(b.Context(), batch)
				if err != nil {
					b.Fatal(err)
				}
				for i, s := range got {
					if s == nil {
						b.Fatalf("rotation %d failed", i)
					}
				}
			}
			b.ReportMetric(float64(size*b.N)/b.Elapsed().Seconds(), "rotations/s")
		})
	}
}
