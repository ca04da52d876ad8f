// Package statuslist publishes which access tokens are revoked as status lists (draft-ietf-oauth-status-list), for
// resource servers that support this form and not the blocklist.
//
// A status list has one bit for each number. The tokens of a session share one number, which the session's row gets at
// login. The transaction that ends the session, or changes the claims of its tokens, also revokes the number; after a
// change the session gets another number. So a refresh writes nothing for this. A number is never given twice. A list
// is a range of Size numbers. It keeps a number as revoked only until the last token with it has expired.
//
// Each client has lists of its own name over the same numbers. So disabling a client with any number of sessions is one
// decision: its lists say that every number is revoked.
package statuslist

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/clock"
	"github.com/handstamp/handstamp/pkg/token"
)

const (
	halfBits = 10
	half     = 1<<halfBits - 1
	// Size is how many numbers one list covers.
	Size = 1 << (2 * halfBits)
)

// Path is where lists are served, below the issuer.
const Path = "/v1/status-lists"

// ErrNotFound says that there is no such list.
var ErrNotFound = errors.New("status list not found")

// Store is what the feature needs of a database. The store methods that end sessions or change roles revoke numbers.
type Store interface {
	// RevokedStatuses lists the revoked numbers from first to last, in order.
	RevokedStatuses(ctx context.Context, first, last int64) ([]int64, error)
	// StatusRange returns the least and the greatest number that a session has or that is revoked, those of clients' own
	// tokens left out; zeros if there is none.
	StatusRange(ctx context.Context) (least, greatest int64, err error)
	// BlockToken is [blocklist.Store.Block] for a token that carries a number and was minted at iat: the number is revoked too, and
	// a session that has it gets another one.
	BlockToken(ctx context.Context, number int64, iat time.Time, entry blocklist.Entry, e audit.Event) error
	// SweepStatuses removes at most limit numbers whose newest token was minted before a time, and says how many.
	SweepStatuses(ctx context.Context, before time.Time, limit int) (int, error)
}

// Client is what decides on a client's lists.
type Client struct {
	ID       string
	Disabled bool
}

// Minter signs lists; a *token.Minter.
type Minter interface {
	Sign(ctx context.Context, typ token.Type, algorithm string, claims any) (string, error)
}

// Options are what a publisher is made of.
type Options struct {
	Issuer   string
	Store    Store
	Minter   Minter
	Key      []byte          // 16 secret bytes, the same on every replica
	Clients  func() []Client // all of them, as of less than a second ago
	Lifetime time.Duration   // the longest life of an access token
	Clock    *clock.Clock    // nil for the machine's
}

// Publisher makes lists, and the references to them that tokens carry. It is safe for use by several goroutines.
type Publisher struct {
	Options
	block cipher.Block
	lists lists
}

// New returns a publisher.
func New(o Options) (*Publisher, error) {
	block, err := aes.NewCipher(o.Key)
	if err != nil {
		return nil, fmt.Errorf("key of status lists: %w", err)
	}
	return &Publisher{Options: o, block: block, lists: lists{known: map[listKey]*list{}}}, nil
}

// Reference is what a token of a session says; nothing for a session without a number.
func (p *Publisher) Reference(clientID string, number int64) token.Status {
	if number == 0 {
		return token.Status{}
	}
	return token.Status{Index: p.shuffle(number), URI: p.uri(name(clientID), number/Size)}
}

// OwnReference is the status claim of a client's own token. There is no row to keep a number in, so OwnReference draws one
// from the first list. In one case in a million another client's token has the same number and is revoked with it; that
// client then gets another token.
func (p *Publisher) OwnReference(clientID string) token.Status {
	var random [4]byte
	_, _ = rand.Read(random[:])                                                               // never fails
	return p.Reference(clientID, 1+int64(binary.NativeEndian.Uint32(random[:]))*(Size-1)>>32) // zero is no number
}

// Revoke revokes one token that carries a reference: by itself on the blocklist, and with what shares its number in the list.
func (p *Publisher) Revoke(ctx context.Context, status token.Status, iat time.Time, entry blocklist.Entry, e audit.Event) error {
	_, list, ok := p.parse(status.URI)
	if !ok || status.Index < 0 || status.Index >= Size {
		return p.Store.BlockToken(ctx, 0, iat, entry, e) // of another issuer's making, perhaps from before a move
	}
	return p.Store.BlockToken(ctx, p.unshuffle(list, status.Index), iat, entry, e)
}

// uri names a list. The client's name is a hash, because the addresses of all lists are public.
func (p *Publisher) uri(name string, list int64) string {
	return p.Issuer + Path + "/" + name + "/" + strconv.FormatInt(list, 10)
}

func name(clientID string) string {
	sum := sha256.Sum256([]byte("status-list\x00" + clientID))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

func (p *Publisher) parse(uri string) (name string, list int64, ok bool) {
	rest, ok := strings.CutPrefix(uri, p.Issuer+Path+"/")
	name, number, ok2 := strings.Cut(rest, "/")
	list, ok3 := parseList(number)
	return name, list, ok && ok2 && ok3
}

func parseList(s string) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 40)
	return int64(n), err == nil && strconv.FormatUint(n, 10) == s
}

// shuffle gives the index of a number within its list, and unshuffle the number of an index. Indexes in a row would
// tell a holder of two tokens how many logins there were in between (draft-ietf-oauth-status-list, section 12.5). This
// is a Feistel network over the low bits of the number.
func (p *Publisher) shuffle(number int64) int {
	list, n := uint64(number/Size), uint32(number%Size) //nolint:gosec // not negative
	left, right := n>>halfBits, n&half
	for i := range byte(rounds) {
		left, right = right, left^p.round(i, list, right)
	}
	return int(left<<halfBits | right)
}

func (p *Publisher) unshuffle(list int64, index int) int64 {
	left, right := uint32(index)>>halfBits, uint32(index)&half //nolint:gosec // below Size
	for i := range byte(rounds) {
		left, right = right^p.round(rounds-1-i, uint64(list), left), left //nolint:gosec // not negative
	}
	return list*Size + int64(left<<halfBits|right)
}

const rounds = 6

func (p *Publisher) round(i byte, list uint64, value uint32) uint32 {
	var b [aes.BlockSize]byte
	b[0] = i
	binary.BigEndian.PutUint64(b[1:], list)
	binary.BigEndian.PutUint32(b[9:], value)
	p.block.Encrypt(b[:], b[:])
	return binary.BigEndian.Uint32(b[:]) & half
}
