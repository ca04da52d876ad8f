package sessiontest

import (
	"bytes"
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/store/sqlite/sqlitetest"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// bug stands between a manager and its database, and makes the two behave together as they would with a mistake in one of them.
type bug struct {
	store.Store
	db *database

	rotated func(ctx context.Context, r session.Rotation, row *session.Session) error // after one that succeeded
	rotate  func(ctx context.Context, r []session.Rotation) ([]*session.Session, error)
	repeat  func(ctx context.Context, r session.Rotation) (*session.Session, error)
	session func(s *session.Session)
	end     func(ctx context.Context, id session.ID, e session.Ending) (bool, error)
	roles   func(ctx context.Context, userID string, roles []string, e session.Ending) error
}

func (b *bug) Rotate(ctx context.Context, r []session.Rotation) ([]*session.Session, error) {
	if b.rotate != nil {
		return b.rotate(ctx, r)
	}
	rows, err := b.Store.Rotate(ctx, r)
	for i, row := range rows {
		if err == nil && row != nil && b.rotated != nil {
			err = b.rotated(ctx, r[i], row)
		}
	}
	return rows, err
}

func (b *bug) Repeat(ctx context.Context, r session.Rotation) (*session.Session, error) {
	if b.repeat != nil {
		return b.repeat(ctx, r)
	}
	return b.Store.Repeat(ctx, r)
}

func (b *bug) Session(ctx context.Context, id session.ID) (session.Session, error) {
	s, err := b.Store.Session(ctx, id)
	if err == nil && b.session != nil {
		b.session(&s)
	}
	return s, err
}

func (b *bug) EndSession(ctx context.Context, id session.ID, e session.Ending) (bool, error) {
	if b.end != nil {
		return b.end(ctx, id, e)
	}
	return b.Store.EndSession(ctx, id, e)
}

func (b *bug) SetRoles(ctx context.Context, userID string, roles []string, e session.Ending) error {
	if b.roles != nil {
		return b.roles(ctx, userID, roles, e)
	}
	return b.Store.SetRoles(ctx, userID, roles, e)
}

// one rotates one after the other by another way.
func one(rotate func(ctx context.Context, r session.Rotation) (*session.Session, error)) func(context.Context,
	[]session.Rotation) ([]*session.Session, error) {
	return func(ctx context.Context, rotations []session.Rotation) ([]*session.Session, error) {
		rows := make([]*session.Session, len(rotations))
		for i, r := range rotations {
			var err error
			if rows[i], err = rotate(ctx, r); err != nil {
				return nil, err
			}
		}
		return rows, nil
	}
}

// fits reports whether a rotation may go ahead by a row that was read before.
func fits(r session.Rotation, s session.Session) bool {
	return s.Generation == r.From && s.Nonce == r.Nonce && s.ClientID == r.ClientID && s.Alive(r.At)
}

// moved is what a row would be after a rotation.
func moved(r session.Rotation, s session.Session) *session.Session {
	s.Generation, s.RotatedAt, s.LastRequestHash, s.IdleExpiresAt = r.To, r.At, r.RequestHash, r.IdleExpiresAt
	s.IATFloor = max(s.IATFloor, r.At.Unix())
	return &s
}

// overwrite writes the row of a live session after a rotation, whatever the row is by now.
func (b *bug) overwrite(ctx context.Context, r session.Rotation, generation string) error {
	return b.db.exec(ctx, `UPDATE sessions SET revoked_at = NULL, revoke_reason = '', rotated_at = ?, last_request_hash = ?, `+
		`idle_expires_at = min(?, expires_at), iat_floor = max(iat_floor, ?), generation = `+generation+
		` WHERE id = ?`, r.At, r.RequestHash[:], r.IdleExpiresAt, r.At.Unix(), r.To, r.ID)
}

// seeded are the bugs.
var seeded = map[string]func(b *bug){
	"the grace period slides with each repeat": func(b *bug) {
		b.repeat = func(ctx context.Context, r session.Rotation) (*session.Session, error) {
			row, err := b.Store.Repeat(ctx, r)
			if err != nil || row == nil {
				return row, err
			}
			return row, b.db.exec(ctx, `UPDATE sessions SET rotated_at = ? WHERE id = ?`, r.At, r.ID)
		}
	},
	"the successor is made anew instead of derived again": func(b *bug) {
		b.repeat = func(ctx context.Context, r session.Rotation) (*session.Session, error) {
			row, err := b.Store.Repeat(ctx, r)
			if err != nil || row == nil {
				return row, err
			}
			rand.Read(row.Nonce[:])
			return row, b.db.exec(ctx, `UPDATE sessions SET nonce = ? WHERE id = ?`, row.Nonce[:], r.ID)
		}
	},
	"the answer comes before the commit": func(b *bug) {
		var mu sync.Mutex
		var uncommitted []session.Rotation
		b.rotate = func(ctx context.Context, rotations []session.Rotation) ([]*session.Session, error) {
			mu.Lock()
			defer mu.Unlock()
			if _, err := b.Store.Rotate(ctx, uncommitted); err != nil {
				return nil, err
			}
			uncommitted = nil
			return one(func(ctx context.Context, r session.Rotation) (*session.Session, error) {
				s, err := b.Store.Session(ctx, r.ID)
				if err != nil || !fits(r, s) {
					return nil, err
				}
				uncommitted = append(uncommitted, r)
				return moved(r, s), nil
			})(ctx, rotations)
		}
	},
	"the end of a session is rolled back": func(b *bug) {
		b.end = func(ctx context.Context, id session.ID, e session.Ending) (bool, error) {
			if e.Reason == session.ReasonReuse {
				return true, nil
			}
			return b.Store.EndSession(ctx, id, e)
		}
	},
	"whether the session is alive is asked before the write, which saves the row as it was read": func(b *bug) {
		b.rotate = one(func(ctx context.Context, r session.Rotation) (*session.Session, error) {
			s, err := b.Store.Session(ctx, r.ID)
			if err != nil || !fits(r, s) {
				return nil, err
			}
			if err := sleep(ctx, time.Millisecond); err != nil {
				return nil, err
			}
			return moved(r, s), b.overwrite(ctx, r, "?")
		})
	},
	"a stranger ends the session": func(b *bug) {
		b.rotate = one(func(ctx context.Context, r session.Rotation) (*session.Session, error) {
			s, err := b.Store.Session(ctx, r.ID)
			if err == nil && s.ClientID != r.ClientID {
				_, err = b.Store.EndSession(ctx, r.ID, session.Ending{
					At: r.At, Reason: session.ReasonReuse, BlockUntil: r.At.Add(accessTokenLifetime),
					Event: audit.Event{
						At:        r.At,
						Kind:      audit.KindRefreshTokenReuse,
						Actor:     audit.ActorSystem,
						UserID:    s.UserID,
						SessionID: r.ID.String(),
					},
				})
			}
			if err != nil {
				return nil, err
			}
			rows, err := b.Store.Rotate(ctx, []session.Rotation{r})
			if err != nil {
				return nil, err
			}
			return rows[0], nil
		})
	},
	"a token from the future is refused": func(b *bug) {
		b.rotate = func(ctx context.Context, rotations []session.Rotation) ([]*session.Session, error) {
			for _, r := range rotations {
				if r.To > r.From+1 {
					return nil, session.ErrEnded
				}
			}
			return b.Store.Rotate(ctx, rotations)
		}
	},
	"an Idempotency-Key counts after the successor was used": func(b *bug) {
		var mu sync.Mutex
		type made struct {
			id         session.ID
			generation uint32
		}
		by := make(map[made]session.RequestHash)
		b.rotate = one(func(ctx context.Context, r session.Rotation) (*session.Session, error) {
			rows, err := b.Store.Rotate(ctx, []session.Rotation{r})
			if err != nil {
				return nil, err
			}
			mu.Lock()
			defer mu.Unlock()
			if rows[0] != nil {
				by[made{r.ID, r.To}] = r.RequestHash
				return rows[0], nil
			}
			if r.RequestHash == (session.RequestHash{}) || by[made{r.ID, r.To}] != r.RequestHash {
				return nil, nil
			}
			s, err := b.Store.Session(ctx, r.ID)
			return &s, err
		})
	},
	"the keys of earlier requests are not read": func(b *bug) {
		b.session = func(s *session.Session) { s.EarlierRequests = nil }
	},
	"the key of the request before is not kept": func(b *bug) {
		b.rotated = func(ctx context.Context, r session.Rotation, _ *session.Session) error {
			return b.db.exec(ctx, `UPDATE sessions SET earlier_requests = substr(earlier_requests, 17) WHERE id = ?`, r.ID)
		}
	},
	"keys of earlier requests outlive a jump": func(b *bug) {
		b.rotate = one(func(ctx context.Context, r session.Rotation) (*session.Session, error) {
			before, err := b.Store.Session(ctx, r.ID)
			if err != nil {
				return nil, err
			}
			rows, err := b.Store.Rotate(ctx, []session.Rotation{r})
			if err != nil || rows[0] == nil || r.To == r.From+1 || before.EarlierRequests == nil {
				return append(rows, nil)[0], err
			}
			return rows[0], b.db.exec(ctx, `UPDATE sessions SET earlier_requests = ? WHERE id = ?`, before.EarlierRequests, r.ID)
		})
	},
	"a late copy is given the newest token": func(b *bug) {
		b.session = func(s *session.Session) {
			if len(s.EarlierRequests) > 0 {
				s.LastRequestHash, s.Generation = session.RequestHash(s.EarlierRequests[:16]), s.Generation-1
			}
		}
	},
	"a copy that is late once is late for ever": func(b *bug) {
		b.session = func(s *session.Session) { s.EarlierRequests = bytes.Repeat(s.LastRequestHash[:], 4) }
	},
	"the time of a rotation is of the future": func(b *bug) {
		b.rotated = func(ctx context.Context, r session.Rotation, _ *session.Session) error {
			return b.db.exec(ctx, `UPDATE sessions SET rotated_at = ? WHERE id = ?`, r.At.Add(5*time.Minute), r.ID)
		}
	},
	"the grace period counts from the login": func(b *bug) {
		b.session = func(s *session.Session) { s.RotatedAt = s.CreatedAt }
	},
	"the grace period ends a moment early": func(b *bug) {
		b.session = func(s *session.Session) { s.RotatedAt = s.RotatedAt.Add(-time.Microsecond) }
	},
	"the token before is always fine": func(b *bug) {
		b.session = func(s *session.Session) { s.RotatedAt = time.Now() }
	},
	"the absolute end moves": func(b *bug) {
		b.rotated = func(ctx context.Context, r session.Rotation, _ *session.Session) error {
			return b.db.exec(ctx, `UPDATE sessions SET expires_at = ? WHERE id = ?`, r.At.Add(exactRules[0].Lifetime), r.ID)
		}
	},
	"the idle end stands still": func(b *bug) {
		b.rotated = func(ctx context.Context, r session.Rotation, row *session.Session) error {
			return b.db.exec(ctx, `UPDATE sessions SET idle_expires_at = ? WHERE id = ?`, row.CreatedAt.Add(exactRules[0].Idle), r.ID)
		}
	},
	"a repeat moves the idle end": func(b *bug) {
		b.repeat = func(ctx context.Context, r session.Rotation) (*session.Session, error) {
			row, err := b.Store.Repeat(ctx, r)
			if err != nil || row == nil {
				return row, err
			}
			return row, b.db.exec(ctx, `UPDATE sessions SET idle_expires_at = ? WHERE id = ?`, r.IdleExpiresAt, r.ID)
		}
	},
	"a repeat makes one more generation": func(b *bug) {
		b.repeat = func(ctx context.Context, r session.Rotation) (*session.Session, error) {
			r.To = r.From + 1
			rows, err := b.Store.Rotate(ctx, []session.Rotation{r})
			if err != nil {
				return nil, err
			}
			return rows[0], nil
		}
	},
	"one generation is followed by two": func(b *bug) {
		b.rotate = one(func(ctx context.Context, r session.Rotation) (*session.Session, error) {
			s, err := b.Store.Session(ctx, r.ID)
			if err != nil || !fits(r, s) {
				return nil, err
			}
			if err := sleep(ctx, time.Millisecond); err != nil {
				return nil, err
			}
			if err := b.overwrite(ctx, r, "generation + min(1, ?)"); err != nil {
				return nil, err
			}
			s, err = b.Store.Session(ctx, r.ID)
			return &s, err
		})
	},
	"an expired session goes on": func(b *bug) {
		b.rotate = one(func(ctx context.Context, r session.Rotation) (*session.Session, error) {
			s, err := b.Store.Session(ctx, r.ID)
			if err != nil || s.Alive(r.At) || s.Generation != r.From || !s.RevokedAt.IsZero() || s.ClientID != r.ClientID {
				rows, err := b.Store.Rotate(ctx, []session.Rotation{r})
				if err != nil {
					return nil, err
				}
				return rows[0], nil
			}
			s.ExpiresAt = r.IdleExpiresAt
			return moved(r, s), b.overwrite(ctx, r, "?")
		})
	},
	"an unknown outcome is answered as a refusal": func(b *bug) {
		b.rotate = func(ctx context.Context, rotations []session.Rotation) ([]*session.Session, error) {
			rows, err := b.Store.Rotate(ctx, rotations)
			if err != nil {
				return nil, session.ErrEnded
			}
			return rows, nil
		}
	},
	"an unknown outcome is answered as success": func(b *bug) {
		b.rotate = func(ctx context.Context, rotations []session.Rotation) ([]*session.Session, error) {
			rows, err := b.Store.Rotate(ctx, rotations)
			if err == nil {
				return rows, nil
			}
			return one(func(ctx context.Context, r session.Rotation) (*session.Session, error) {
				s, err := b.Store.Session(ctx, r.ID)
				if err != nil || s.ClientID != r.ClientID || s.Generation > r.To {
					return nil, err
				}
				return moved(r, s), nil
			})(ctx, rotations)
		}
	},
	"a logout that failed is acknowledged": func(b *bug) {
		b.end = func(ctx context.Context, id session.ID, e session.Ending) (bool, error) {
			_, _ = b.Store.EndSession(ctx, id, e)
			return true, nil
		}
	},
	"the sid of an ended session is not blocked": func(b *bug) {
		b.end = func(ctx context.Context, id session.ID, e session.Ending) (bool, error) {
			ended, err := b.Store.EndSession(ctx, id, e)
			if err != nil {
				return false, err
			}
			key := verifier.KeyOf(verifier.BlockSID, id.String())
			return ended, b.db.exec(ctx, `DELETE FROM blocklist WHERE key = ?`, key[:])
		}
	},
	"the answers of a batch are mixed up": func(b *bug) {
		b.rotate = func(ctx context.Context, rotations []session.Rotation) ([]*session.Session, error) {
			rows, err := b.Store.Rotate(ctx, rotations)
			slices.Reverse(rows)
			return rows, err
		}
	},
	"a token minted after a change of roles looks older": func(b *bug) {
		b.rotated = func(ctx context.Context, r session.Rotation, row *session.Session) error {
			row.IATFloor = r.At.Unix()
			return nil
		}
	},
	"a change of roles does not reach the session": func(b *bug) {
		b.roles = func(ctx context.Context, userID string, roles []string, e session.Ending) error {
			if err := b.Store.SetRoles(ctx, userID, roles, e); err != nil {
				return err
			}
			return b.db.exec(ctx, `UPDATE sessions SET roles = '["r0"]' WHERE user_id = ?`, userID)
		}
	},
}

// TestSeededBugs demands of the checker that it finds each of these bugs, and nothing where there is none.
func TestSeededBugs(t *testing.T) {
	const patience = 3000
	scripts := func(st *stage) *rapid.Generator[script] {
		return rapid.Custom(func(rt *rapid.T) script { return drawScript(rt, len(st.pauses), allFaults, 50) })
	}
	hunt := func(t *testing.T, histories int, plant func(b *bug)) (after int, found error) {
		t.Helper()
		url := sqlitetest.URL(t)
		synctest.Test(t, func(t *testing.T) {
			db, err := openDatabase(t.Context(), url)
			must(t, err)
			defer func() { must(t, db.close()) }()
			must(t, otherClient(t.Context(), db, exactRules[1].Grace))
			st := exactStage(t.Context(), db, func(db *database, s store.Store) store.Store {
				b := &bug{Store: s, db: db}
				plant(b)
				return b
			})
			for after = 1; after <= histories && found == nil; after++ {
				found = st.play(scripts(st).Example(after))
			}
		})
		return after - 1, found
	}
	t.Run("none", func(t *testing.T) {
		if _, found := hunt(t, 30, func(*bug) {}); found != nil {
			t.Fatal(found)
		}
	})
	for name, plant := range seeded {
		t.Run(name, func(t *testing.T) {
			after, found := hunt(t, patience, plant)
			if found == nil {
				t.Fatalf("not found in %d histories", after)
			}
			how, _, _ := strings.Cut(found.Error(), "\n")
			t.Logf("history %d: %s", after, how)
		})
	}
}
