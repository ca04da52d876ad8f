package statuslist

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/token"
)

// facts stand for a database, which the conformance suite tests.
type facts struct {
	revoked         []int64
	least, greatest int64
	err             error
	reads           int
	blocked         []int64
}

func (f *facts) RevokedStatuses(_ context.Context, first, last int64) ([]int64, error) {
	f.reads++
	return slices.DeleteFunc(slices.Clone(f.revoked), func(n int64) bool { return n < first || n > last }), f.err
}

func (f *facts) StatusRange(context.Context) (least, greatest int64, err error) {
	return f.least, f.greatest, f.err
}

func (f *facts) BlockToken(_ context.Context, number int64, _ time.Time, _ blocklist.Entry, _ audit.Event) error {
	f.blocked = append(f.blocked, number)
	return f.err
}

func (f *facts) SweepStatuses(context.Context, time.Time, int) (int, error) { return 0, f.err }

// unsigned makes tokens without a key; that the real ones have a signature is for the tests of the whole service.
type unsigned struct{}

func (unsigned) Sign(_ context.Context, typ token.Type, _ string, claims any) (string, error) {
	payload, err := json.Marshal(claims)
	return string(typ) + "." + base64.RawURLEncoding.EncodeToString(payload) + ".", err
}

const issuer = "https://login.example.test"

func publisher(t *testing.T, f *facts, clients ...Client) *Publisher {
	t.Helper()
	p, err := New(Options{
		Issuer:   issuer,
		Store:    f,
		Minter:   unsigned{},
		Key:      []byte("sixteen bytes..."),
		Clients:  func() []Client { return clients },
		Lifetime: 15 * time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// bitsOf returns the claims of a document and its bits.
func bitsOf(t *testing.T, raw string) (claims, []byte) {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(raw, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var c claims
	if err := json.Unmarshal(payload, &c); err != nil {
		t.Fatal(err)
	}
	return c, inflate(t, c.StatusList.List)
}

func inflate(t *testing.T, lst string) []byte {
	t.Helper()
	compressed, err := base64.RawURLEncoding.Strict().DecodeString(lst)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zlib.NewReader(bytes.NewReader(compressed))
	if err != nil {
		t.Fatal(err)
	}
	bits, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return bits
}

// The example of draft-ietf-oauth-status-list, section 4.1.
func TestBits(t *testing.T) {
	bits := make([]byte, 2)
	for index, status := range []int{1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1} {
		if status == 1 {
			revoke(bits, index)
		}
	}
	if !bytes.Equal(bits, []byte{0xb9, 0xa3}) {
		t.Errorf("% x", bits)
	}
	if got := inflate(t, "eNrbuRgAAhcBXQ"); !bytes.Equal(got, bits) {
		t.Errorf("the draft has % x", got)
	}
	lst, err := encode(bits)
	if err != nil || !bytes.Equal(inflate(t, lst), bits) {
		t.Errorf("%s: %v", lst, err)
	}
}

func TestShuffle(t *testing.T) {
	p := publisher(t, &facts{})
	for _, list := range []int64{0, 1 << 30} {
		seen := make([]bool, Size)
		inOrder := 0
		for n := range int64(Size) {
			index := p.shuffle(list*Size + n)
			if index < 0 || index >= Size || seen[index] {
				t.Fatalf("list %d: number %d has index %d, as another one has", list, n, index)
			}
			seen[index] = true
			if back := p.unshuffle(list, index); back != list*Size+n {
				t.Fatalf("list %d: index %d of number %d is that of %d", list, index, n, back)
			}
			if n > 0 && index == p.shuffle(list*Size+n-1)+1 {
				inOrder++
			}
		}
		if inOrder > 10 {
			t.Errorf("list %d: %d indexes follow their predecessors", list, inOrder)
		}
	}
}

func TestReference(t *testing.T) {
	f := &facts{}
	p := publisher(t, f)
	if got := p.Reference("app", 0); got != (token.Status{}) {
		t.Errorf("a session without a number refers to %+v", got)
	}
	for range 1000 {
		if got := p.OwnReference("app"); !strings.HasSuffix(got.URI, "/0") || got == p.Reference("app", 0) ||
			p.unshuffle(0, got.Index) < 1 {
			t.Fatalf("own reference %+v", got)
		}
	}
	const number = 7*Size + 42
	l := p.Reference("app", number)
	if !strings.HasPrefix(l.URI, issuer+Path+"/") || !strings.HasSuffix(l.URI, "/7") || l.URI == p.Reference("other", number).URI {
		t.Errorf("reference %+v", l)
	}
	for status, want := range map[token.Status]int64{
		l: number,
		{Index: l.Index, URI: "https://elsewhere.example/" + name("app") + "/7"}: 0,
		{Index: Size, URI: l.URI}: 0,
		{Index: -1, URI: l.URI}:   0,
	} {
		if err := p.Revoke(t.Context(), status, time.Now(), blocklist.Entry{}, audit.Event{}); err != nil ||
			f.blocked[len(f.blocked)-1] != want {
			t.Errorf("%+v: %v, %d, want %d", status, err, f.blocked, want)
		}
	}
}

func TestDocument(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, last := int64(3*Size), int64(4*Size-1)
		f := &facts{least: first, greatest: last, revoked: []int64{5, first, first + 77, last}}
		p := publisher(t, f, Client{ID: "app"}, Client{ID: "gone", Disabled: true})
		get := func(client, number string) Document {
			t.Helper()
			d, err := p.Document(t.Context(), name(client), number)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		d := get("app", "3")
		c, bits := bitsOf(t, d.Raw)
		wanted := make([]byte, Size/8)
		for _, n := range f.revoked[1:] {
			l := p.Reference("app", n)
			wanted[l.Index/8] |= 1 << (l.Index % 8)
			if l.URI != c.Subject {
				t.Errorf("sub %s, uri %s", c.Subject, l.URI)
			}
		}
		if !bytes.Equal(bits, wanted) {
			t.Error("other bits are set than those of the revoked numbers")
		}
		if now := time.Now().Unix(); c.Issuer != issuer || c.IssuedAt != now || c.ExpiresAt != now+300 || c.TTL != 30 ||
			c.StatusList.Bits != 1 {
			t.Errorf("claims %+v", c)
		}
		if _, bits := bitsOf(t, get("gone", "3").Raw); bytes.Count(bits, []byte{0xff}) != Size/8 {
			t.Error("a token of a disabled client is not revoked")
		}

		reads := f.reads
		if again := get("app", "3"); again != d || f.reads != reads {
			t.Error("within a second the list is made again")
		}
		time.Sleep(2 * time.Second)
		if again := get("app", "3"); again != d || f.reads != reads+1 {
			t.Error("an unchanged list is signed again")
		}
		f.revoked = append(f.revoked, first+99)
		time.Sleep(2 * time.Second)
		changed := get("app", "3")
		if _, bits := bitsOf(t, changed.Raw); changed.ETag == d.ETag || bits[p.shuffle(first+99)/8]&(1<<(p.shuffle(first+99)%8)) == 0 {
			t.Error("a revocation does not show")
		}
		time.Sleep(time.Minute)
		if again := get("app", "3"); again.ETag == changed.ETag {
			t.Error("an old signature is served")
		}

		for _, number := range []string{"4", "5", "-1", "x", "03", "9999999999999999999999"} {
			if _, err := p.Document(t.Context(), name("app"), number); !errors.Is(err, ErrNotFound) {
				t.Errorf("list %s: %v", number, err)
			}
		}
		if _, err := p.Document(t.Context(), name("nobody"), "0"); !errors.Is(err, ErrNotFound) {
			t.Errorf("list of nobody: %v", err)
		}
		f.greatest++ // the first session of another list
		time.Sleep(2 * time.Second)
		get("app", "4")

		uris, err := p.URIs(t.Context())
		if err != nil || len(uris) != 6 || !slices.Contains(uris, p.Reference("app", last).URI) ||
			!slices.Contains(uris, p.OwnReference("gone").URI) {
			t.Errorf("%q, %v", uris, err)
		}
		f.err = errors.New("down")
		time.Sleep(2 * time.Second)
		if _, err := p.Document(t.Context(), name("app"), "3"); !errors.Is(err, f.err) {
			t.Errorf("a list of which nobody knows whether it is right is served: %v", err)
		}
	})
}
