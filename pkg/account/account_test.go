package account

import (
	"strings"
	"testing"

	"github.com/handstamp/handstamp/pkg/user"
)

func TestParseCode(t *testing.T) {
	for text, want := range map[string]string{
		"12345678":        "12345678",
		"1234 5678":       "12345678",
		" 1234-5678 ":     "12345678",
		"1234\u00A05678":  "12345678",
		"１２３４５６７８":        "12345678",
		"١٢٣٤٥٦٧٨":        "12345678",
		"۱۲۳۴۵۶۷۸":        "12345678",
		"1234567":         "",
		"123456789":       "",
		"1234567a":        "",
		"1234\x005678":    "",
		"1234\n5678":      "",
		"":                "",
		"⁵1234567":        "",
		"\u202e12345678":  "",
		"+12345678":       "",
		"1234.5678":       "",
		"12345678\r\nBcc": "",
	} {
		if got := parseCode(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// Two proofs have nothing in common, and what the database knows of a code depends on the flow.
func TestNewProof(t *testing.T) {
	u := user.User{ID: "usr_1", Email: "a@example.test", PasswordHash: "hash"}
	seen := map[string]bool{}
	for range 100 {
		p, s, err := newProof(Reset, u, (user.User{}).CreatedAt)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.token) < 26 || len(s.flow) < 26 || len(s.code) != codeDigits || strings.Trim(string(s.code), "0123456789") != "" {
			t.Fatalf("%d %d %d", len(s.token), len(s.flow), len(s.code))
		}
		if p.Hash != hashOf(s.token) || p.Flow != hashOf(s.flow) || p.CodeHash != codeHash(s.flow, string(s.code)) ||
			p.CodeHash == codeHash(s.token, string(s.code)) {
			t.Error("hashes")
		}
		for _, secret := range []string{string(s.token), string(s.flow)} {
			if seen[secret] {
				t.Error("a secret came twice")
			}
			seen[secret] = true
		}
	}
}

func TestVoid(t *testing.T) {
	u := user.User{ID: "usr_1", Email: "a@example.test", PasswordHash: "hash"}
	p, _, err := newProof(Reset, u, u.CreatedAt)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(f *Found){
		"ok/as it was":                       func(*Found) {},
		"fail/another password":              func(f *Found) { f.User.PasswordHash = "other" },
		"fail/another address":               func(f *Found) { f.User.Email = "b@example.test" },
		"fail/another user":                  func(f *Found) { f.User.ID = "usr_2" },
		"fail/gone":                          func(f *Found) { f.User = user.User{} },
		"fail/a sign-up of no user to reset": func(f *Found) { f.UserID, f.User, f.Data = "", user.User{}, "{}" },
	} {
		f := Found{Proof: p, User: u}
		change(&f)
		if f.void() != strings.HasPrefix(name, "fail/") {
			t.Errorf("%s: %t", name, f.void())
		}
	}
}
