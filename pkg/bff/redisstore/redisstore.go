// Package redisstore keeps the sessions of package bff in Redis 7, Valkey or later ones, where they expire by themselves. It is a
// module of its own, so that no other application gets its dependency.
//
//	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
//	store := redisstore.New(client)
//
// A session is a hash; each user and each session ID of the issuer has a key that names the hashes. Scripts change them together,
// so that no reader sees half of a change. All keys have one hash tag, and stand in one slot of a cluster.
//
// The server must keep what it acknowledges: sessions that a restart or a failover loses are logins that end. Use appendonly, and
// maxmemory-policy noeviction.
package redisstore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/handstamp/handstamp/pkg/bff"
)

// DefaultPrefix is what all keys begin with.
const DefaultPrefix = "{bff}:"

// Store implements bff.Store.
type Store struct {
	client  redis.UniversalClient
	prefix  string
	scripts scripts
}

// scripts run on the server, each as one step.
type scripts struct {
	create, swap, end, trim *redis.Script
}

// Option changes how New makes a Store.
type Option func(*Store)

// WithPrefix sets what all keys begin with, for several applications in one database. In a cluster it must have a hash tag, as in
// "{orders}:".
func WithPrefix(prefix string) Option { return func(s *Store) { s.prefix = prefix } }

// New returns the Store in the database that client is connected to. The caller closes the client.
func New(client redis.UniversalClient, options ...Option) *Store {
	s := &Store{client: client, prefix: DefaultPrefix, scripts: scripts{
		create: redis.NewScript(createScript),
		swap:   redis.NewScript(swapScript),
		end:    redis.NewScript(removeScript + endScript),
		trim:   redis.NewScript(removeScript + trimScript),
	}}
	for _, option := range options {
		option(s)
	}
	return s
}

// The keys: a session is prefix + "session:" + ID; the sorted set prefix + "subject:" + subject has the IDs by time of
// creation, and the set prefix + "sid:" + session ID has the one ID or more. Sets live as long as the longest of their
// sessions; an ID in them whose session has expired is left out where it is met.
const (
	// KEYS: session, subject, sid. ARGV: ID, version, subject, session ID, data, created, expires (microseconds both).
	createScript = `
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'subject', ARGV[3], 'session_id', ARGV[4], 'data', ARGV[5], 'created_at', ARGV[6],
	'expires_at', ARGV[7])
local at = math.ceil(tonumber(ARGV[7]) / 1000)
redis.call('PEXPIREAT', KEYS[1], string.format('%d', at))
redis.call('ZADD', KEYS[2], ARGV[6], ARGV[1])
redis.call('SADD', KEYS[3], ARGV[1])
for i = 2, 3 do
	if redis.call('PTTL', KEYS[i]) < 0 then redis.call('PEXPIREAT', KEYS[i], string.format('%d', at))
	else redis.call('PEXPIREAT', KEYS[i], string.format('%d', at), 'GT') end
end
return 1`

	// KEYS: session, subject, sid. ARGV: version, data, expires. The answer is -1 for no session and 0 for another version.
	swapScript = `
local version = redis.call('HGET', KEYS[1], 'version')
if not version then return -1 end
if tonumber(version) ~= tonumber(ARGV[1]) - 1 then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'data', ARGV[2], 'expires_at', ARGV[3])
local at = string.format('%d', math.ceil(tonumber(ARGV[3]) / 1000))
redis.call('PEXPIREAT', KEYS[1], at)
redis.call('PEXPIREAT', KEYS[2], at, 'GT')
redis.call('PEXPIREAT', KEYS[3], at, 'GT')
return 1`

	// remove removes a session and returns it, or nil.
	removeScript = `
local function remove(prefix, id)
	local key = prefix .. 'session:' .. id
	local f = redis.call('HMGET', key, 'version', 'subject', 'session_id', 'data', 'created_at', 'expires_at')
	if not f[1] then return nil end
	redis.call('DEL', key)
	redis.call('ZREM', prefix .. 'subject:' .. f[2], id)
	redis.call('SREM', prefix .. 'sid:' .. f[3], id)
	return {id, f[1], f[2], f[3], f[4], f[5], f[6]}
end
`

	// KEYS: what names the IDs. ARGV: prefix, kind, ID.
	endScript = `
local ids
if ARGV[2] == 'id' then ids = {ARGV[3]}
elseif ARGV[2] == 'subject' then ids = redis.call('ZRANGE', KEYS[1], 0, -1)
else ids = redis.call('SMEMBERS', KEYS[1]) end
local removed = {}
for _, id in ipairs(ids) do
	local record = remove(ARGV[1], id)
	if record then table.insert(removed, record) end
end
if ARGV[2] ~= 'id' then redis.call('DEL', KEYS[1]) end
return removed`

	// KEYS: subject. ARGV: prefix, how many to keep.
	trimScript = `
local kept, removed = 0, {}
for _, id in ipairs(redis.call('ZREVRANGE', KEYS[1], 0, -1)) do
	if redis.call('EXISTS', ARGV[1] .. 'session:' .. id) == 0 then redis.call('ZREM', KEYS[1], id)
	elseif kept < tonumber(ARGV[2]) then kept = kept + 1
	else table.insert(removed, remove(ARGV[1], id)) end
end
return removed`
)

func (s *Store) sessionKey(id bff.ID) string      { return s.prefix + "session:" + digits(id) }
func (s *Store) subjectKey(subject string) string { return s.prefix + "subject:" + subject }
func (s *Store) sidKey(sid string) string         { return s.prefix + "sid:" + sid }

func digits(id bff.ID) string { return hex.EncodeToString(id[:]) }

func wrapped(what string, err error) error {
	if err != nil {
		return fmt.Errorf("redisstore: %s: %w", what, err)
	}
	return nil
}

// Create implements bff.Store.
func (s *Store) Create(ctx context.Context, r bff.Record) error {
	made, err := s.scripts.create.Run(ctx, s.client,
		[]string{s.sessionKey(r.ID), s.subjectKey(r.Subject), s.sidKey(r.SessionID)},
		digits(r.ID), r.Version, r.Subject, r.SessionID, r.Data, r.CreatedAt.UnixMicro(), r.ExpiresAt.UnixMicro()).Int()
	if err == nil && made == 0 {
		err = bff.ErrConflict
	}
	return wrapped("create", err)
}

// Load implements bff.Store.
func (s *Store) Load(ctx context.Context, id bff.ID) (bff.Record, error) {
	fields, err := s.client.HMGet(ctx, s.sessionKey(id),
		"version", "subject", "session_id", "data", "created_at", "expires_at").Result()
	if err != nil {
		return bff.Record{}, wrapped("load", err)
	}
	if fields[0] == nil {
		return bff.Record{}, bff.ErrNotFound
	}
	r, err := record(append([]any{digits(id)}, fields...))
	return r, wrapped("load", err)
}

// Swap implements bff.Store.
func (s *Store) Swap(ctx context.Context, r bff.Record) error {
	done, err := s.scripts.swap.Run(ctx, s.client,
		[]string{s.sessionKey(r.ID), s.subjectKey(r.Subject), s.sidKey(r.SessionID)},
		r.Version, r.Data, r.ExpiresAt.UnixMicro()).Int()
	switch {
	case err != nil:
		return wrapped("swap", err)
	case done < 0:
		return bff.ErrNotFound
	case done == 0:
		return bff.ErrConflict
	}
	return nil
}

// End implements bff.Store.
func (s *Store) End(ctx context.Context, m bff.Match) ([]bff.Record, error) {
	key, kind, id := s.sidKey(m.SessionID), "sid", ""
	switch {
	case m.ID != bff.ID{}:
		key, kind, id = s.sessionKey(m.ID), "id", digits(m.ID)
	case m.Subject != "":
		key, kind = s.subjectKey(m.Subject), "subject"
	case m.SessionID == "":
		return nil, nil
	}
	return records("end", s.scripts.end.Run(ctx, s.client, []string{key}, s.prefix, kind, id))
}

// List implements bff.Store.
func (s *Store) List(ctx context.Context, subject string) ([]bff.Record, error) {
	ids, err := s.client.ZRevRange(ctx, s.subjectKey(subject), 0, -1).Result()
	if err != nil {
		return nil, wrapped("list", err)
	}
	var list []bff.Record
	for _, text := range ids {
		id, err := parseID(text)
		if err != nil {
			return nil, wrapped("list", err)
		}
		r, err := s.Load(ctx, id)
		if errors.Is(err, bff.ErrNotFound) {
			continue // it has expired
		}
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}

// Trim implements bff.Store.
func (s *Store) Trim(ctx context.Context, subject string, keep int) ([]bff.Record, error) {
	return records("trim", s.scripts.trim.Run(ctx, s.client, []string{s.subjectKey(subject)}, s.prefix, keep))
}

// Once implements bff.Store.
func (s *Store) Once(ctx context.Context, id bff.ID, expiresAt time.Time) (bool, error) {
	args := redis.SetArgs{Mode: "NX", ExpireAt: expiresAt.Add(time.Second)} // whole seconds on the wire
	err := s.client.SetArgs(ctx, s.prefix+"once:"+digits(id), "1", args).Err()
	if errors.Is(err, redis.Nil) {
		return false, nil
	}
	return err == nil, wrapped("once", err)
}

// Sweep implements bff.Store: the server removes what has expired.
func (s *Store) Sweep(context.Context, time.Time, int) (int, error) { return 0, nil }

// records reads what a script has removed.
func records(what string, answer *redis.Cmd) ([]bff.Record, error) {
	rows, err := answer.Slice()
	if err != nil {
		return nil, wrapped(what, err)
	}
	var list []bff.Record
	for _, row := range rows {
		fields, ok := row.([]any)
		if !ok {
			return nil, wrapped(what, errors.New("not a record"))
		}
		r, err := record(fields)
		if err != nil {
			return nil, wrapped(what, err)
		}
		list = append(list, r)
	}
	return list, nil
}

// record reads ID, version, subject, session ID, data and the two times.
func record(fields []any) (r bff.Record, err error) {
	const count = 7
	var texts [count]string
	if len(fields) != count {
		return bff.Record{}, errors.New("not a record")
	}
	for i, field := range fields {
		text, ok := field.(string)
		if !ok {
			return bff.Record{}, fmt.Errorf("field %d is missing", i)
		}
		texts[i] = text
	}
	if r.ID, err = parseID(texts[0]); err != nil {
		return bff.Record{}, err
	}
	var numbers [3]int64
	for i, text := range []string{texts[1], texts[5], texts[6]} {
		if numbers[i], err = strconv.ParseInt(text, 10, 64); err != nil {
			return bff.Record{}, err
		}
	}
	r.Version, r.Subject, r.SessionID, r.Data = numbers[0], texts[2], texts[3], []byte(texts[4])
	r.CreatedAt, r.ExpiresAt = time.UnixMicro(numbers[1]), time.UnixMicro(numbers[2])
	return r, nil
}

func parseID(text string) (id bff.ID, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(id) {
		return bff.ID{}, errors.New("not an ID")
	}
	return bff.ID(b), nil
}
