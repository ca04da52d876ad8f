package password

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPolicyCheck(t *testing.T) {
	about := []string{"Alice.Example@mail.test", "Alexandra Müller", "handstamp"}
	for _, tt := range []struct {
		name   string
		policy Policy
		plain  string
		want   error
	}{
		{"ok/eight code points", Policy{}, "kx7 vq2m", nil},
		{"ok/no composition rules", Policy{}, "kqzvwxjy", nil},
		{"ok/spaces at both ends are typed characters", Policy{}, "  kqzv  ", nil},
		{"ok/eight emoji", Policy{}, "🦊🐻🐼🐨🐯🦁🐮🐷", nil},
		{"ok/fifteen code points in sixty bytes", Policy{MinLength: 15}, "𝒶𝒷𝒸𝒹𝑒𝒻𝑔𝒽𝒾𝒿𝓀𝓁𝓂𝓃𝑜", nil},
		{"ok/64 code points", Policy{}, strings.Repeat("correct ", 8), nil},
		{"ok/256 code points of four bytes", Policy{}, strings.Repeat("🦊🐻", 128), nil},
		{"ok/256 code points typed decomposed", Policy{}, strings.Repeat("e\u0301o\u0302", 128), nil},
		{"ok/256 code points in the longest decomposed form", Policy{},
			strings.Repeat("\u03b1\u0314\u0342\u0345\u03b7\u0313\u0300\u0345", 128), nil},
		{"ok/contains a common password", Policy{}, "password kqzv", nil},
		{"ok/contains the address", Policy{}, "alice.example@mail.test kqzv", nil},

		{"fail/empty", Policy{}, "", ErrTooShort},
		{"fail/seven code points", Policy{}, "kx7vq2m", ErrTooShort},
		{"fail/seven code points in 28 bytes", Policy{}, "🦊🐻🐼🐨🐯🦁🐮", ErrTooShort},
		{"fail/eight typed, seven composed", Policy{}, "kx7vq2e\u0301", ErrTooShort},
		{"fail/fourteen where fifteen are asked for", Policy{MinLength: 15}, "kx7vq2m-kx7vq2", ErrTooShort},
		{"fail/257 code points", Policy{}, strings.Repeat("k🦊", 128) + "q", ErrTooLong},
		{"fail/1 MiB", Policy{}, strings.Repeat("kq", 1<<19), ErrTooLong},
		{"fail/NUL", Policy{}, "kx7vq2m-\x00kx7vq2m", ErrMalformed},
		{"fail/invalid UTF-8", Policy{}, "kx7vq2m-\xff", ErrMalformed},
		{"fail/lone surrogate", Policy{}, "kx7vq2m-\xed\xa0\x80", ErrMalformed},
		{"fail/overlong NUL", Policy{}, "kx7vq2m-\xc0\x80", ErrMalformed},
		{"fail/replacement character", Policy{}, "kx7vq2m-\uFFFD", ErrMalformed},
		{"fail/common", Policy{}, "password1", ErrCommon},
		{"fail/common in another case", Policy{}, "PassWord1", ErrCommon},
		{"fail/common with the Kelvin sign", Policy{}, "\u212Aingston", ErrCommon},
		{"fail/common of fifteen", Policy{MinLength: 15}, "1qaz2wsx3edc4rfv", ErrCommon},
		{"fail/one character", Policy{}, strings.Repeat("ä", 40), ErrCommon},
		{"fail/the address", Policy{}, "alice.example@MAIL.test", ErrCommon},
		{"fail/the name in the address", Policy{}, "alice.example", ErrCommon},
		{"fail/the name", Policy{}, "alexandra mu\u0308ller", ErrCommon},
		{"fail/the service", Policy{}, "Handstamp", ErrCommon},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.policy.Check(tt.plain, about...); !errors.Is(err, tt.want) {
				t.Errorf("Check(%.40q) = %v, want %v", tt.plain, err, tt.want)
			}
		})
	}
}

func TestPolicyValidate(t *testing.T) {
	for _, tt := range []struct {
		name   string
		policy Policy
		ok     bool
	}{
		{"ok/zero", Policy{}, true},
		{"ok/15", Policy{MinLength: 15}, true},
		{"ok/64", Policy{MinLength: 64}, true},
		{"fail/7", Policy{MinLength: 7}, false},
		{"fail/65", Policy{MinLength: 65}, false},
		{"fail/negative", Policy{MinLength: -1}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.policy.Validate(); (err == nil) != tt.ok {
				t.Errorf("Validate() = %v", err)
			}
		})
	}
}

func TestCommonListForm(t *testing.T) {
	if len(common) > 400<<10 {
		t.Errorf("common.txt has %d bytes", len(common))
	}
	words := slices.Collect(strings.Lines(common))
	if len(words) < 20_000 {
		t.Fatalf("common.txt has %d entries", len(words))
	}
	previous := ""
	for _, line := range words {
		word, ended := strings.CutSuffix(line, "\n")
		if !ended || word <= previous || fold(word) != word || utf8.RuneCountInString(word) < MinLength {
			t.Errorf("%q after %q: entries must be sorted, folded, at least %d code points, and end with a newline", line, previous,
				MinLength)
		}
		if !isCommon(word) {
			t.Errorf("%q is not found", word)
		}
		for _, near := range []string{word + " ", word[:len(word)-1] + "~", "~" + word} {
			if isCommon(near) {
				t.Errorf("%q is found", near)
			}
		}
		previous = word
	}
	for _, none := range []string{"", "\n", "password\n", "password\npassword1", "\x00", "\xff"} {
		if isCommon(none) {
			t.Errorf("%q is found", none)
		}
	}
}

func BenchmarkPolicyCheck(b *testing.B) {
	for b.Loop() {
		if err := (Policy{}).Check("correct horse battery staple", "alice@mail.test"); err != nil {
			b.Fatal(err)
		}
	}
}
