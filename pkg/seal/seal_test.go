package seal_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/handstamp/handstamp/pkg/seal"
)

func TestSealer(t *testing.T) {
	s := seal.New(masterKey(t, masterText), seal.UpstreamTokens)
	sealed := s.Seal([]byte("canary"), []byte("row"))
	if bytes.Contains(sealed, []byte("canary")) || bytes.Contains(sealed, []byte("row")) {
		t.Error("to be read")
	}
	if bytes.Equal(sealed, s.Seal([]byte("canary"), []byte("row"))) {
		t.Error("the same twice")
	}
	if plain, err := s.Open(sealed, []byte("row")); err != nil || string(plain) != "canary" {
		t.Errorf("%q, %v", plain, err)
	}
	if plain, err := s.Open(s.Seal(nil, nil), nil); err != nil || len(plain) != 0 {
		t.Errorf("nothing: %q, %v", plain, err)
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if plain, err := s.Open(changed, []byte("row")); !errors.Is(err, seal.ErrKey) && !errors.Is(err, seal.ErrForm) || plain != nil {
			t.Errorf("byte %d changed: %q, %v", i, plain, err)
		}
		if plain, err := s.Open(sealed[:i], []byte("row")); !errors.Is(err, seal.ErrKey) && !errors.Is(err, seal.ErrForm) ||
			plain != nil {
			t.Errorf("cut at %d: %q, %v", i, plain, err)
		}
	}
	for name, c := range map[string]struct {
		sealer     seal.Sealer
		sealed     []byte
		associated string
		want       error
	}{
		"other place":     {s, sealed, "wor", seal.ErrKey},
		"no place":        {s, sealed, "", seal.ErrKey},
		"other label":     {seal.New(masterKey(t, masterText), seal.SigningKeys), sealed, "row", seal.ErrKey},
		"other key":       {seal.New(masterKey(t, otherText), seal.UpstreamTokens), sealed, "row", seal.ErrKey},
		"empty":           {s, nil, "row", seal.ErrForm},
		"newer":           {s, append([]byte{9}, sealed[1:]...), "row", seal.ErrForm},
		"older by name":   {s, append([]byte{1}, sealed[1:]...), "row", seal.ErrKey},
		"older by length": {s, append([]byte{1}, sealed[5:]...), "row", seal.ErrKey},
		"bare":            {seal.New(masterKey(t, masterText), seal.SignalAuthorization), sealed, "row", seal.ErrKey},
	} {
		if plain, err := c.sealer.Open(c.sealed, []byte(c.associated)); !errors.Is(err, c.want) || plain != nil {
			t.Errorf("fail/%s: %q, %v", name, plain, err)
		}
	}
}

// The form is fixed: version, key ID, nonce, ciphertext, tag. What was sealed once must open for ever.
func TestForm(t *testing.T) {
	sealed := seal.New(masterKey(t, masterText), seal.UpstreamTokens).Seal([]byte("abc"), nil)
	// HKDF-SHA256 of bytes 0 to 31 with the info handstamp/v1/key-id, computed with OpenSSL as in TestDerive.
	if head := fmt.Sprintf("%x", sealed[:5]); head != "0213697307" || len(sealed) != 5+12+3+16 {
		t.Errorf("head %s, %d bytes", head, len(sealed))
	}
	if plain, err := seal.New(masterKey(t, masterText), seal.UpstreamTokens).Open(decode(t,
		"AhNpcwdoW7MumCNS+wHLto6Ls4qcgVWgpgazWT0LkPT3rbmXwAQ="), []byte("row")); err != nil || string(plain) != "plain" {
		t.Errorf("%q, %v", plain, err)
	}
}

// A change of key: what the old key sealed opens as long as it is there, and the new one seals.
func TestChangeOfKey(t *testing.T) {
	before, during, after := masterKey(t, otherText), masterKey(t, masterText, otherText), masterKey(t, masterText)
	old := seal.New(before, seal.SigningKeys).Seal([]byte("old"), nil)
	if plain, err := seal.New(during, seal.SigningKeys).Open(old, nil); err != nil || string(plain) != "old" {
		t.Errorf("%q, %v", plain, err)
	}
	if _, err := seal.New(after, seal.SigningKeys).Open(old, nil); !errors.Is(err, seal.ErrKey) {
		t.Errorf("without the old key: %v", err)
	}
	fresh := seal.New(during, seal.SigningKeys).Seal([]byte("new"), nil)
	if plain, err := seal.New(after, seal.SigningKeys).Open(fresh, nil); err != nil || string(plain) != "new" {
		t.Errorf("%q, %v", plain, err)
	}
	if _, err := seal.New(before, seal.SigningKeys).Open(fresh, nil); !errors.Is(err, seal.ErrKey) {
		t.Errorf("the second key seals: %v", err)
	}
}

// Values that programs before pkg/seal have sealed under masterText.
func TestFormatsBefore(t *testing.T) {
	keys := map[string]seal.MasterKey{"only key": masterKey(t, masterText), "second key": masterKey(t, otherText, masterText)}
	for name, c := range map[string]struct {
		label      seal.Label
		sealed     string
		associated string
		want       string // how the value begins
	}{
		"signing key": {
			seal.SigningKeys, "AXNu585y44D4Air+oqdGsRx5g3RonqZGNBLq3wWivbOJ6rS7tz9/Dk2g9kpH2qutB16zDrKDYRqdH0msyClmnetfXGFYK9MzvBd6R4s=",
			"Trr0l0QKzKZGvAdhT_60Fq1W4OiXPlyaz7z9nE71J8M\x00EdDSA", "0\x2e\x02\x01\x000\x05",
		},
		"upstream tokens": {
			seal.UpstreamTokens,
			"AVCHvCqbx4KZjGGB77DIMEiog8qfR7GFfh+sppBstC1BPQyPKjpiyvlbCKfNkXtGjf2sOclCDsroeNW3BrZwvU4QVt1A8I2cP+fszqZEqW1yAg==",
			"handstamp upstream tokens\x00up\x00s", `{"a":"access","r":"refresh","e":1900000000,"s":"a b"}`,
		},
		"signal authorization": {
			seal.SignalAuthorization, "JFBlUU7gQy3edAyqXepPT5ouYMVRB0OqZ2kYkhib/ErjEKjdKjQoDf8=", "stm_a", "Bearer secret",
		},
		"signal authorization, nonce like version 1": {
			seal.SignalAuthorization, "AflSIru2pd/iojbjKv3Q31om8TU8RAbpQw6Ri4yK/EtEaqDi7h4Nzjs=", "stm_a", "Bearer secret",
		},
		"signal authorization, nonce like version 2": {
			seal.SignalAuthorization, "AulcwAT6AUqc1RA/bdcnonJf8TmPlEfWQw1dKKMq5YBY6mdBmJuPrWw=", "stm_a", "Bearer secret",
		},
	} {
		for of, master := range keys {
			t.Run("ok/"+name+"/"+of, func(t *testing.T) {
				plain, err := seal.New(master, c.label).Open(decode(t, c.sealed), []byte(c.associated))
				if err != nil || !strings.HasPrefix(string(plain), c.want) {
					t.Errorf("%q, %v", plain, err)
				}
			})
		}
		t.Run("fail/"+name, func(t *testing.T) {
			s := seal.New(masterKey(t, masterText), c.label)
			if _, err := s.Open(decode(t, c.sealed), []byte(c.associated+"x")); !errors.Is(err, seal.ErrKey) {
				t.Errorf("elsewhere: %v", err)
			}
			if _, err := seal.New(masterKey(t, otherText), c.label).Open(decode(t, c.sealed), []byte(c.associated)); !errors.Is(err,
				seal.ErrKey) {
				t.Errorf("under another key: %v", err)
			}
			changed := decode(t, c.sealed)
			changed[len(changed)-1] ^= 1
			if _, err := s.Open(changed, []byte(c.associated)); !errors.Is(err, seal.ErrKey) {
				t.Errorf("altered: %v", err)
			}
		})
	}
	// Labels that came later have had no other form.
	bare := decode(t, "JFBlUU7gQy3edAyqXepPT5ouYMVRB0OqZ2kYkhib/ErjEKjdKjQoDf8=")
	if _, err := seal.New(masterKey(t, masterText), "handstamp/v1/later").Open(bare, []byte("stm_a")); !errors.Is(err,
		seal.ErrForm) {
		t.Errorf("a new label opens an old form: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	s := seal.New(masterKey(f, masterText), seal.SignalAuthorization)
	f.Add(s.Seal([]byte("a"), nil))
	f.Add([]byte{2, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, sealed []byte) {
		if plain, err := s.Open(sealed, []byte("a place of nobody")); err == nil {
			t.Errorf("opened: %q", plain)
		}
	})
}

func decode(t *testing.T, text string) []byte {
	t.Helper()
	out, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
