package session

import (
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"github.com/handstamp/handstamp/pkg/seal"
)

// testMaster derives secrets as a master key does: one per label.
type testMaster string

func (m testMaster) Derive(label seal.Label, n int) []byte {
	sum := sha256.Sum256([]byte(string(m) + string(label)))
	return sum[:n]
}

func newPresented() Presented {
	p := Presented{ID: NewID(time.Now()), Generation: 7}
	rand.Read(p.Nonce[:])
	return p
}

func TestRefreshToken(t *testing.T) {
	c := NewCodec(testMaster("one"))
	p := newPresented()
	raw := c.Format(p)

	t.Run("ok/reads back what was written", func(t *testing.T) {
		got, err := c.Parse(raw)
		if err != nil || got != p {
			t.Fatalf("got %v, %v; want %v", got, err, p)
		}
		if len(raw) != TokenLength || !strings.HasPrefix(raw, TokenPrefix) {
			t.Fatalf("form of %q", raw)
		}
	})
	t.Run("ok/each generation has a token of its own, the same each time", func(t *testing.T) {
		next := p
		next.Generation++
		if first, again := c.Format(next), c.Format(next); first == raw || first != again {
			t.Fatal("successor is not derived from session and generation")
		}
	})
	t.Run("fail/one changed character anywhere", func(t *testing.T) {
		for i := range len(raw) {
			for _, r := range []byte("A_z\n=\x00") {
				if raw[i] == r {
					continue
				}
				if _, err := c.Parse(raw[:i] + string(rune(r)) + raw[i+1:]); err == nil {
					t.Fatalf("accepted with %q at %d", r, i)
				}
			}
		}
	})
	t.Run("fail/other lengths and prefixes", func(t *testing.T) {
		for _, s := range []string{"", TokenPrefix, raw[:len(raw)-1], raw + "A", raw + "\n", "\n" + raw, " " + raw,
			strings.ToUpper(raw), "hsc_" + raw[4:], raw[:20] + "\r\n" + raw[22:]} {
			if _, err := c.Parse(s); err == nil {
				t.Fatalf("accepted %q", s)
			}
		}
	})
	t.Run("fail/another master key", func(t *testing.T) {
		if _, err := NewCodec(testMaster("two")).Parse(raw); err == nil {
			t.Fatal("a token of another service was accepted")
		}
	})
}

// What parses is the one spelling of a token: writing it again gives the same text.
func FuzzRefreshToken(f *testing.F) {
	c := NewCodec(testMaster("fuzz"))
	f.Add(c.Format(newPresented()))
	f.Add("hsr_")
	f.Fuzz(func(t *testing.T, raw string) {
		p, err := c.Parse(raw)
		if err == nil && c.Format(p) != raw {
			t.Fatalf("%q has a second spelling", raw)
		}
	})
}

func BenchmarkRefreshToken(b *testing.B) {
	c := NewCodec(testMaster("bench"))
	p := newPresented()
	raw := c.Format(p)
	b.Run("format", func(b *testing.B) {
		for b.Loop() {
			c.Format(p)
		}
	})
	b.Run("parse", func(b *testing.B) {
		for b.Loop() {
			if _, err := c.Parse(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
}
