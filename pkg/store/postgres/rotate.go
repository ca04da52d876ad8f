package postgres

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/handstamp/handstamp/pkg/session"
)

// rotateOne and rotateMany are the same statement. Everything that a rotation depends on stands in the session's row, so that
// a change which commits while the statement waits for the row is taken into account: the condition is checked again on the
// new version of the row. It does not wait for the client's row: disabling a client blocks its tokens.
//
// OFFSET 0 keeps the planner from reading the clients first: rows would then be locked client by client and not in the
// order of the requests.
const (
	rotateOne = `UPDATE sessions s
		SET generation = $5, rotated_at = $6, idle_expires_at = LEAST($7, s.expires_at, ` + parentsIdleEnd + `),
			iat_floor = GREATEST(s.iat_floor, $8),
			last_request_hash = $9, earlier_requests = CASE WHEN $5 = s.generation + 1 THEN ` + earlierRequests + ` END
		FROM clients c
		WHERE s.id = $1 AND s.generation = $4 AND s.nonce = $2 AND s.client_id = $3
			AND s.revoked_at IS NULL AND s.idle_expires_at > $6 AND s.expires_at > $6
			AND c.id = $3 AND c.disabled_at IS NULL
		RETURNING ` + sessionColumns + personColumn

	rotateMany = `UPDATE sessions s
		SET generation = r.successor, rotated_at = r.at, idle_expires_at = LEAST(r.idle_expires_at, s.expires_at, ` +
		parentsIdleEnd + `),
			iat_floor = GREATEST(s.iat_floor, r.iat), last_request_hash = r.request_hash,
			earlier_requests = CASE WHEN r.successor = s.generation + 1 THEN ` + earlierRequests + ` END
		FROM unnest($1::uuid[], $2::bytea[], $3::text[], $4::bigint[], $5::bigint[], $6::timestamptz[], $7::timestamptz[],
			$8::bigint[], $9::bytea[])
			WITH ORDINALITY AS r (id, nonce, client_id, generation, successor, at, idle_expires_at, iat, request_hash, ord),
			LATERAL (SELECT id, disabled_at, refresh_grace, id_token_claims, third_party FROM clients WHERE id = r.client_id OFFSET 0) AS c
		WHERE s.id = r.id AND s.generation = r.generation AND s.nonce = r.nonce AND s.client_id = r.client_id
			AND s.revoked_at IS NULL AND s.idle_expires_at > r.at AND s.expires_at > r.at
			AND c.disabled_at IS NULL
		RETURNING ` + sessionColumns + personColumn + `, r.ord`

	// parentsIdleEnd is beyond what a child may get; NULL, which LEAST leaves out, for every other session.
	parentsIdleEnd = `(SELECT p.idle_expires_at FROM sessions p WHERE p.id = s.parent_id)`

	// earlierRequests puts the request that made the generation before in front of those before it
	// (session.EarlierRequestsSize). The chain breaks where the generation does not move by one.
	earlierRequests = `CASE WHEN COALESCE(s.last_request_hash, s.earlier_requests) IS NOT NULL THEN
			substring(COALESCE(s.last_request_hash, '\x00000000000000000000000000000000'::bytea)
				|| COALESCE(s.earlier_requests, ''::bytea) FROM 1 FOR 64) END`
)

// Rotate implements session.Store.
func (db *DB) Rotate(ctx context.Context, rotations []session.Rotation) ([]*session.Session, error) {
	out := make([]*session.Session, len(rotations))
	if len(rotations) > 1 {
		err := db.rotateMany(ctx, rotations, out)
		if !oneByOne(err) {
			return out, err
		}
		clear(out)
	}
	for i := range rotations {
		s, err := db.presented(ctx, "rotate session", rotateOne, rotationArgs(&rotations[i])...)
		if err != nil {
			return nil, err
		}
		out[i] = s
	}
	return out, nil
}

// oneByOne reports whether the rotations of a failed statement may succeed alone: a statement that needs one row has no lock that
// another one could wait for, and a row that somebody holds on to delays no other.
func oneByOne(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (e.Code == codeDeadlock || e.Code == codeSerialization || e.Code == codeLockNotAvailable)
}

func rotationArgs(r *session.Rotation) []any {
	return []any{
		binaryFormat(), uuid(r.ID), r.Nonce[:], r.ClientID, int64(r.From), int64(r.To),
		when(r.At), when(r.IdleExpiresAt), r.At.Unix(), requestHash(&r.RequestHash),
	}
}

// requestHash is NULL for a request without Idempotency-Key.
func requestHash(h *session.RequestHash) []byte {
	if *h == (session.RequestHash{}) {
		return nil
	}
	return h[:]
}

// rotateMany runs one statement for all rotations. They are sorted, so that statements of several replicas lock
// the rows they share in the same order.
func (db *DB) rotateMany(ctx context.Context, rotations []session.Rotation, out []*session.Session) error {
	n := len(rotations)
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return bytes.Compare(rotations[a].ID[:], rotations[b].ID[:]) })

	var (
		sids                  = make([]pgtype.UUID, n)
		nonces, hashes        = make([][]byte, n), make([][]byte, n)
		clients               = make([]string, n)
		generations, to, iats = make([]int64, n), make([]int64, n), make([]int64, n)
		at, idle              = make([]pgtype.Timestamptz, n), make([]pgtype.Timestamptz, n)
	)
	for i, from := range order {
		r := &rotations[from]
		sids[i], nonces[i], clients[i] = uuid(r.ID), r.Nonce[:], r.ClientID
		generations[i], to[i], iats[i] = int64(r.From), int64(r.To), r.At.Unix()
		at[i], idle[i], hashes[i] = when(r.At), when(r.IdleExpiresAt), requestHash(&r.RequestHash)
	}
	return db.counted(repeat(ctx, db.refreshes, pgconn.SafeToRetry, "rotate sessions", []step{{
		sql:  rotateMany,
		args: []any{binaryFormat(), sids, nonces, clients, generations, to, at, idle, iats, hashes},
		scan: func(rows pgx.Rows) error {
			r := row{columns: rows.RawValues()}
			s := r.session()
			r.person(s)
			ord := r.int64()
			if r.err != nil || ord < 1 || ord > int64(n) {
				return errFormat
			}
			out[order[ord-1]] = s
			return nil
		},
	}}))
}

// Repeat implements session.Store.
func (db *DB) Repeat(ctx context.Context, r session.Rotation) (*session.Session, error) {
	const sql = `UPDATE sessions s
		SET iat_floor = GREATEST(s.iat_floor, $6)
		FROM clients c
		WHERE s.id = $1 AND s.generation = $4 AND s.nonce = $2 AND s.client_id = $3
			AND s.revoked_at IS NULL AND s.idle_expires_at > $5 AND s.expires_at > $5
			AND c.id = $3 AND c.disabled_at IS NULL
		RETURNING ` + sessionColumns + personColumn
	return db.presented(ctx, "repeat refresh token", sql,
		binaryFormat(), uuid(r.ID), r.Nonce[:], r.ClientID, int64(r.From), when(r.At), r.At.Unix())
}

// presented runs a statement that returns a session or none.
func (db *DB) presented(ctx context.Context, doing, sql string, args ...any) (*session.Session, error) {
	var s *session.Session
	err := db.refresh(ctx, doing, one(sql, func(rows pgx.Rows) error {
		r := row{columns: rows.RawValues()}
		s = r.session()
		r.person(s)
		return r.err
	}, args...))
	return s, err
}
