package postgres

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/handstamp/handstamp/pkg/session"
)

// when is a time as a parameter: NULL for the zero time.
func when(t time.Time) pgtype.Timestamptz {
	return pgtype.Timestamptz{Time: t, Valid: !t.IsZero()}
}

// list is a text array as a parameter: empty rather than NULL.
func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// uuid is a session ID as a parameter.
func uuid(id session.ID) pgtype.UUID { return pgtype.UUID{Bytes: id, Valid: true} }

// ids are the session IDs of a result; nil if there are none.
func ids(uuids []pgtype.UUID) []session.ID {
	var out []session.ID
	for _, u := range uuids {
		out = append(out, u.Bytes)
	}
	return out
}

// seconds rounds up: a block that lasts longer than it must is harmless.
func seconds(t time.Time) int64 {
	s := t.Unix()
	if t.Nanosecond() > 0 {
		s++
	}
	return s
}

// instant scans a timestamp into t, UTC, the zero time for NULL.
type instant struct{ t *time.Time }

// ScanTimestamptz implements pgtype.TimestamptzScanner.
func (i instant) ScanTimestamptz(v pgtype.Timestamptz) error {
	if !v.Valid {
		*i.t = time.Time{}
		return nil
	}
	*i.t = v.Time.UTC()
	return nil
}

// texts scans a text array into s, nil for an empty one.
type texts struct{ s *[]string }

// SetDimensions implements pgtype.ArraySetter.
func (t texts) SetDimensions(dimensions []pgtype.ArrayDimension) error {
	*t.s = nil
	if len(dimensions) == 1 && dimensions[0].Length > 0 {
		*t.s = make([]string, dimensions[0].Length)
	}
	return nil
}

// ScanIndex implements pgtype.ArraySetter.
func (t texts) ScanIndex(i int) any { return &(*t.s)[i] }

// ScanIndexType implements pgtype.ArraySetter.
func (t texts) ScanIndexType() any { return new(string) }

// some is the hash of a secret as a parameter: NULL for none.
func some(h [32]byte) []byte {
	if h == ([32]byte{}) {
		return nil
	}
	return h[:]
}

// digest scans the hash of a secret, zero for NULL.
type digest struct{ h *[32]byte }

// ScanBytes implements pgtype.BytesScanner.
func (d digest) ScanBytes(v []byte) error {
	*d.h = [32]byte{}
	if v != nil && copy(d.h[:], v) != len(d.h) {
		return errFormat
	}
	return nil
}

// sid scans a session ID, zero for NULL.
type sid struct{ id *session.ID }

// ScanUUID implements pgtype.UUIDScanner.
func (s sid) ScanUUID(v pgtype.UUID) error {
	*s.id = v.Bytes
	return nil
}

// existing scans a row into variables and notes that there is one.
func existing(found *bool, targets ...any) func(rows pgx.Rows) error {
	return func(rows pgx.Rows) error {
		*found = true
		return rows.Scan(targets...)
	}
}

// micros is a duration as a parameter: NULL for nil.
func micros(d *time.Duration) *int64 {
	if d == nil {
		return nil
	}
	return new(d.Microseconds())
}

// duration is the inverse of micros.
func duration(n *int64) *time.Duration {
	if n == nil {
		return nil
	}
	return new(time.Duration(*n) * time.Microsecond)
}

// binaryFormat asks for all columns in binary, the form that row reads.
func binaryFormat() pgx.QueryResultFormats { return pgx.QueryResultFormats{pgx.BinaryFormatCode} }

var errFormat = errors.New("a column is not in the expected form")

// row reads a row of binary columns one after the other. Session rows are read this way because they are most of what
// the service does.
type row struct {
	columns [][]byte
	err     error
}

func (r *row) next(length int) []byte {
	if len(r.columns) == 0 || length >= 0 && r.columns[0] != nil && len(r.columns[0]) != length {
		r.err = errFormat
		return nil
	}
	c := r.columns[0]
	r.columns = r.columns[1:]
	return c
}

func (r *row) text() string { return string(r.next(-1)) }

func (r *row) int64() int64 {
	b := r.next(8)
	if b == nil {
		return 0
	}
	return int64(binary.BigEndian.Uint64(b)) //nolint:gosec // two's complement
}

func (r *row) bool() bool {
	b := r.next(1)
	return b != nil && b[0] != 0
}

// bytes16 is zero for NULL.
func (r *row) bytes16() (out [16]byte) {
	copy(out[:], r.next(len(out)))
	return out
}

// epoch is where the timestamps of the protocol begin, 2000-01-01, in Unix microseconds.
const epoch = 946_684_800_000_000

// time is the zero time for NULL.
func (r *row) time() time.Time {
	b := r.next(8)
	if b == nil {
		return time.Time{}
	}
	return time.UnixMicro(int64(binary.BigEndian.Uint64(b)) + epoch).UTC() //nolint:gosec // two's complement
}

// texts reads a one-dimensional array: dimensions, whether there are NULLs, element type, length, lower bound; then each element
// after its length. Nil for an empty array.
func (r *row) texts() []string {
	b := r.next(-1)
	if len(b) < 12 || binary.BigEndian.Uint32(b) == 0 {
		return nil
	}
	if len(b) < 20 || binary.BigEndian.Uint32(b) != 1 {
		r.err = errFormat
		return nil
	}
	n, b := int(binary.BigEndian.Uint32(b[12:])), b[20:]
	if n > len(b)/4 {
		r.err = errFormat
		return nil
	}
	out := make([]string, n)
	for i := range out {
		if len(b) < 4 {
			r.err = errFormat
			return nil
		}
		length := binary.BigEndian.Uint32(b)
		b = b[4:]
		if uint64(length) > uint64(len(b)) { // also NULL, which is the largest length
			r.err = errFormat
			return nil
		}
		out[i], b = string(b[:length]), b[length:]
	}
	return out
}
