package statuslist

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"sync"
	"time"

	"github.com/handstamp/handstamp/pkg/token"
)

const (
	// freshFor is how long a list is served before the database is asked again.
	freshFor = time.Second
	// listLifetime is how long a resource server may keep a list, and so how late it may hear of a revocation.
	listLifetime = 30 * time.Second
	// cacheFor is how long a cache on the way may. The resource server's own time comes on top of it.
	cacheFor = 10 * time.Second
	// believeFor is how long a list may be believed when no newer one can be had.
	believeFor = 5 * time.Minute
	// maxLists is how many lists are kept in memory.
	maxLists = 512
)

// Document is a list as served.
type Document struct {
	Raw    string // a JWT of type statuslist+jwt
	ETag   string // of Raw, with its quotes
	MaxAge time.Duration
}

// lists are those that were made lately.
type lists struct {
	mu       sync.Mutex
	known    map[listKey]*list
	clients  map[string]Client // by name
	readAt   time.Time         // when clients were read
	least    int64             // numbers that are in use
	greatest int64
	rangeAt  time.Time // when these were read
}

type listKey struct {
	name   string
	number int64
}

type list struct {
	mu        sync.Mutex
	document  Document
	content   [sha256.Size]byte
	checkedAt time.Time
	signedAt  time.Time
}

// Document returns a list by the client's name and the number in its address. ErrNotFound; any other error is a failure
// of the storage or the keys.
func (p *Publisher) Document(ctx context.Context, name, number string) (Document, error) {
	n, ok := parseList(number)
	if !ok {
		return Document{}, ErrNotFound
	}
	client, ok := p.client(name)
	if !ok {
		return Document{}, ErrNotFound
	}
	if n > 0 {
		_, greatest, err := p.inUse(ctx, n*Size)
		if err != nil {
			return Document{}, err
		}
		if n > greatest/Size {
			return Document{}, ErrNotFound
		}
	}
	l := p.lists.list(listKey{name, n})
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := p.Clock.Now(); now.Sub(l.checkedAt) >= freshFor {
		if err := p.refresh(ctx, l, client, n, now); err != nil {
			return Document{}, err
		}
	}
	return l.document, nil
}

// URIs are the addresses of all lists that a token may refer to (draft-ietf-oauth-status-list, section 9).
func (p *Publisher) URIs(ctx context.Context) ([]string, error) {
	least, greatest, err := p.inUse(ctx, -1)
	if err != nil {
		return nil, err
	}
	var uris []string
	for _, client := range p.Clients() {
		name := name(client.ID)
		uris = append(uris, p.uri(name, 0))
		for n := max(1, least/Size); n <= greatest/Size; n++ {
			uris = append(uris, p.uri(name, n))
		}
	}
	return uris, nil
}

func (l *lists) list(key listKey) *list {
	l.mu.Lock()
	defer l.mu.Unlock()
	found, ok := l.known[key]
	if !ok {
		if len(l.known) >= maxLists {
			clear(l.known)
		}
		found = &list{}
		l.known[key] = found
	}
	return found
}

// client finds a client by the name of its lists.
func (p *Publisher) client(byName string) (Client, bool) {
	l := &p.lists
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := p.Clock.Now(); now.Sub(l.readAt) >= freshFor {
		l.clients, l.readAt = map[string]Client{}, now
		for _, c := range p.Clients() {
			l.clients[name(c.ID)] = c
		}
	}
	c, ok := l.clients[byName]
	return c, ok
}

// inUse returns the numbers in use. What was read a moment ago will do if it is known to go as far as wanted.
func (p *Publisher) inUse(ctx context.Context, wanted int64) (least, greatest int64, err error) {
	l := &p.lists
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := p.Clock.Now(); now.Sub(l.rangeAt) >= freshFor && (wanted < 0 || wanted > l.greatest) {
		if least, greatest, err = p.Store.StatusRange(ctx); err != nil {
			return 0, 0, fmt.Errorf("read range of status numbers: %w", err)
		}
		l.least, l.greatest, l.rangeAt = least, greatest, now
	}
	return l.least, l.greatest, nil
}

// refresh asks the database, and signs the list anew if it has changed or its last signature is getting old.
func (p *Publisher) refresh(ctx context.Context, l *list, client Client, number int64, now time.Time) error {
	bits := make([]byte, Size/8)
	if client.Disabled {
		for i := range bits {
			bits[i] = 0xff
		}
	} else {
		revoked, err := p.Store.RevokedStatuses(ctx, number*Size, (number+1)*Size-1)
		if err != nil {
			return fmt.Errorf("read revoked statuses: %w", err)
		}
		for _, n := range revoked {
			revoke(bits, p.shuffle(n))
		}
	}
	content := sha256.Sum256(bits)
	if content != l.content || now.Sub(l.signedAt) >= listLifetime {
		raw, err := p.sign(ctx, name(client.ID), number, bits, now)
		if err != nil {
			return err
		}
		sum := sha256.Sum256([]byte(raw))
		l.content, l.signedAt = content, now
		l.document = Document{Raw: raw, ETag: `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`, MaxAge: cacheFor}
	}
	l.checkedAt = now
	return nil
}

// revoke sets the bit of an index. The first is the least significant one of the first byte
// (draft-ietf-oauth-status-list, section 4.1).
func revoke(bits []byte, index int) { bits[index>>3] |= 1 << (index & 7) }

// encode compresses bits and writes them as text (draft-ietf-oauth-status-list, section 4.2).
func encode(bits []byte) (string, error) {
	var compressed bytes.Buffer
	w, err := zlib.NewWriterLevel(&compressed, zlib.BestCompression)
	if err == nil {
		_, err = w.Write(bits)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return "", fmt.Errorf("compress status list: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(compressed.Bytes()), nil
}

// claims are draft-ietf-oauth-status-list, section 5.1. iss is none of them; it is there for libraries that want one.
type claims struct {
	Issuer     string `json:"iss"`
	Subject    string `json:"sub"`
	IssuedAt   int64  `json:"iat"`
	ExpiresAt  int64  `json:"exp"`
	TTL        int64  `json:"ttl"`
	StatusList struct {
		Bits        int    `json:"bits"`
		List        string `json:"lst"`
		Aggregation string `json:"aggregation_uri"`
	} `json:"status_list"`
}

func (p *Publisher) sign(ctx context.Context, name string, number int64, bits []byte, now time.Time) (string, error) {
	encoded, err := encode(bits)
	if err != nil {
		return "", err
	}
	believe := min(believeFor, p.Lifetime) // for longer the key might not be published
	c := claims{
		Issuer:    p.Issuer,
		Subject:   p.uri(name, number),
		IssuedAt:  now.Unix(),
		ExpiresAt: now.Add(believe).Unix(),
		TTL:       int64(min(listLifetime, believe) / time.Second),
	}
	c.StatusList.Bits, c.StatusList.List, c.StatusList.Aggregation = 1, encoded, p.Issuer+Path
	return p.Minter.Sign(ctx, token.TypeStatusList, "", c)
}
