package postgres

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/handstamp/handstamp/pkg/blocklist"
)

// cursor is a place in a history of transactions.
type cursor struct {
	history  history
	snapshot snapshot
}

// history tells a run of transaction numbers from all others. Another cluster counts its own, and so does this one
// after the promotion of a standby or a restore: then it has another timeline.
type history [8]byte

// snapshot says which transactions had ended: those before xmin, and those before xmax that were not running.
type snapshot struct {
	xmin, xmax uint64
	running    []uint64 // ascending, from xmin on and before xmax
}

const (
	cursorVersion = 1
	// maxRunning bounds the length of a cursor. With more transactions than that, all from the oldest on count as running:
	// a follower gets the entries of some of them twice.
	maxRunning = 128
)

// place says where a statement reads: the history, and the snapshot as text.
const place = `SELECT
	substr(sha256(convert_to(
		system_identifier || ' ' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8), 'UTF8')), 1, 8) AS history,
	pg_current_snapshot()::text AS seen
	FROM pg_control_system()`

// changedSince holds for the rows that the transaction in column xid has written unseen by the snapshot in the text $1.
const changedSince = `xid >= pg_snapshot_xmin($1::text::pg_snapshot) AND NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot)`

// startOf is the cursor in a text; of none, a place before everything. blocklist.ErrCursorGone.
func startOf(after string) (cursor, error) {
	if after == "" {
		return cursor{snapshot: snapshot{xmin: 1, xmax: 1}}, nil
	}
	c, ok := parseCursor(after)
	if !ok {
		return cursor{}, blocklist.ErrCursorGone
	}
	return c, nil
}

// follows fails with blocklist.ErrCursorGone if a place does not come after another in one history.
func (c cursor) follows(before cursor) error {
	if before.history != (history{}) && (before.history != c.history || before.snapshot.xmax > c.snapshot.xmax) {
		return blocklist.ErrCursorGone
	}
	return nil
}

// parseSnapshot reads the text form of pg_snapshot, XMIN:XMAX:RUNNING,RUNNING...
func parseSnapshot(text string) (s snapshot, err error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return snapshot{}, errFormat
	}
	numbers := parts[:2]
	if parts[2] != "" {
		numbers = append(numbers, strings.Split(parts[2], ",")...)
	}
	parsed := make([]uint64, len(numbers))
	for i, n := range numbers {
		if parsed[i], err = strconv.ParseUint(n, 10, 63); err != nil {
			return snapshot{}, fmt.Errorf("%w: %w", errFormat, err)
		}
	}
	s = snapshot{xmin: parsed[0], xmax: parsed[1], running: parsed[2:]}
	slices.Sort(s.running)
	if len(s.running) > maxRunning {
		s.xmax, s.running = s.xmin, nil
	}
	return s, nil
}

// String is the text form of pg_snapshot.
func (s snapshot) String() string {
	b := strconv.AppendUint(nil, s.xmin, 10)
	b = append(b, ':')
	b = strconv.AppendUint(b, s.xmax, 10)
	for i, x := range s.running {
		b = append(b, ":,"[min(i, 1)])
		b = strconv.AppendUint(b, x, 10)
	}
	if len(s.running) == 0 {
		b = append(b, ':')
	}
	return string(b)
}

// String is the base64url text of version and history, followed by xmin, the distance to xmax, and the distance of each
// running transaction from the one before it (the first: from xmin) as varints. Most cursors are 24 characters.
func (c cursor) String() string {
	b := append([]byte{cursorVersion}, c.history[:]...)
	b = binary.AppendUvarint(b, c.snapshot.xmin)
	b = binary.AppendUvarint(b, c.snapshot.xmax-c.snapshot.xmin)
	before := c.snapshot.xmin
	for _, x := range c.snapshot.running {
		b = binary.AppendUvarint(b, x-before)
		before = x
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// parseCursor reads what String has written, and nothing else.
func parseCursor(text string) (cursor, bool) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	var c cursor
	if err != nil || len(b) < 1+len(c.history) || b[0] != cursorVersion {
		return cursor{}, false
	}
	b = b[1+copy(c.history[:], b[1:]):]
	var numbers []uint64
	for len(b) > 0 {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > math.MaxInt64 || len(numbers) == 2+maxRunning {
			return cursor{}, false
		}
		numbers, b = append(numbers, n), b[size:]
	}
	if len(numbers) < 2 || numbers[0]+numbers[1] > math.MaxInt64 {
		return cursor{}, false
	}
	s := &c.snapshot
	s.xmin, s.xmax = numbers[0], numbers[0]+numbers[1]
	//nolint:gosec // the lower half, which no transaction has as 0: the server would refuse it
	if uint32(s.xmin) == 0 || uint32(s.xmax) == 0 {
		return cursor{}, false
	}
	before := s.xmin
	for i, distance := range numbers[2:] {
		x := before + distance
		if x >= s.xmax || i > 0 && distance == 0 {
			return cursor{}, false
		}
		s.running, before = append(s.running, x), x
	}
	return c, c.String() == text // there is no second spelling
}
