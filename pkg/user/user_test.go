package user_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/text/unicode/norm"

	"github.com/handstamp/handstamp/pkg/user"
)

func TestParseEmail(t *testing.T) {
	label := strings.Repeat("d", 60) + "."
	longest := strings.Repeat("l", 64) + "@" + label + label + label + strings.Repeat("d", 254-64-1-3*61)
	for name, test := range map[string]struct {
		text string
		want string // empty: ErrInvalidEmail
	}{
		"ok/plain":                     {"ann@example.test", "ann@example.test"},
		"ok/case is kept":              {"Ann@Example.Test", "Ann@Example.Test"},
		"ok/subaddress":                {"ann+shop@example.test", "ann+shop@example.test"},
		"ok/an apostrophe":             {"o'hara@example.test", "o'hara@example.test"},
		"ok/a host without dots":       {"root@localhost", "root@localhost"},
		"ok/beyond ASCII":              {"änne@bücher.example", "änne@bücher.example"},
		"ok/becomes NFC":               {"a\u0308nne@example.test", "änne@example.test"},
		"ok/64 bytes before the @":     {strings.Repeat("l", 64) + "@example.test", strings.Repeat("l", 64) + "@example.test"},
		"ok/254 bytes":                 {longest, longest},
		"fail/empty":                   {"", ""},
		"fail/no @":                    {"ann.example.test", ""},
		"fail/two @":                   {"ann@bob@example.test", ""},
		"fail/no local part":           {"@example.test", ""},
		"fail/no domain":               {"ann@", ""},
		"fail/65 bytes before the @":   {strings.Repeat("l", 65) + "@example.test", ""},
		"fail/255 bytes":               {longest + "d", ""},
		"fail/display name":            {"Ann <ann@example.test>", ""},
		"fail/angle brackets":          {"<ann@example.test>", ""},
		"fail/comment":                 {"ann(home)@example.test", ""},
		"fail/quoted local part":       {`"ann"@example.test`, ""},
		"fail/escape":                  {`ann\@example.test`, ""},
		"fail/address literal":         {"ann@[192.0.2.1]", ""},
		"fail/IPv6 address literal":    {"ann@[IPv6:2001:db8::1]", ""},
		"fail/list":                    {"ann@example.test,bob@example.test", ""},
		"fail/group":                   {"all:ann@example.test;", ""},
		"ok/space around":              {" ann@example.test\t", "ann@example.test"},
		"ok/dot at the end":            {"ann.@example.test", "ann.@example.test"},
		"ok/two dots":                  {"a..b@docomo.ne.example", "a..b@docomo.ne.example"},
		"ok/dot in front":              {".ann@example.test", ".ann@example.test"},
		"ok/punycode":                  {"ann@xn--bcher-kva.example", "ann@xn--bcher-kva.example"},
		"ok/hyphens of a host":         {"ann@r3---sn.example.test", "ann@r3---sn.example.test"},
		"fail/no punycode":             {"ann@xn--\u00fc.example", ""},
		"fail/punycode of nothing":     {"ann@xn--.example", ""},
		"fail/dot after the domain":    {"ann@example.test.", ""},
		"fail/two dots in the domain":  {"ann@example..test", ""},
		"fail/hyphen before a label":   {"ann@-example.test", ""},
		"fail/hyphen after a label":    {"ann@example-.test", ""},
		"fail/underscore in a label":   {"ann@exam_ple.test", ""},
		"fail/Kelvin sign":             {"\u212aim@example.test", ""},
		"fail/label of 64":             {"ann@" + strings.Repeat("d", 64) + ".test", ""},
		"fail/slash in the domain":     {"ann@example.test/x", ""},
		"fail/joiner in the domain":    {"ann@ex\u00adample.test", ""},
		"fail/space within":            {"ann @example.test", ""},
		"fail/another header":          {"ann@example.test\r\nBcc: bob@example.test", ""},
		"fail/NUL":                     {"ann\x00@example.test", ""},
		"fail/no-break space":          {"ann\u00a0b@example.test", ""},
		"fail/zero width space":        {"ann\u200b@example.test", ""},
		"fail/right-to-left override":  {"ann\u202e@example.test", ""},
		"fail/invalid UTF-8":           {"ann\xff@example.test", ""},
		"fail/what a decoder has lost": {"ann\ufffd@example.test", ""},
		"fail/66 bytes in 33 letters":  {strings.Repeat("é", 33) + "@example.test", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := user.ParseEmail(test.text)
			if wrong := test.want == ""; got != test.want || errors.Is(err, user.ErrInvalidEmail) != wrong || (err != nil) != wrong {
				t.Errorf("%q, %v; want %q", got, err, test.want)
			}
		})
	}
}

// Two users cannot have addresses that differ in case only. That a server may hold such mailboxes apart (RFC 5321, section 2.4)
// makes the rule too strict for uniqueness at worst; the key never proves that two mailboxes are one.
func TestEmailKey(t *testing.T) {
	for name, test := range map[string]struct {
		one, other string
		same       bool
	}{
		"ok/case of the local part":          {"Ann@example.test", "aNN@example.test", true},
		"ok/case of the domain":              {"ann@EXAMPLE.test", "ann@example.TEST", true},
		"ok/case beyond ASCII":               {"ÄNNE@BÜCHER.example", "änne@bücher.example", true},
		"ok/composed and decomposed":         {"änne@example.test", "a\u0308nne@example.test", true},
		"ok/decomposed capital":              {"A\u0308nne@example.test", "änne@example.test", true},
		"ok/marks in either order":           {"α\u0345\u0301@example.test", "ᾴ@example.test", true},
		"ok/sharp s":                         {"strauß@example.test", "STRAUSS@example.test", true},
		"ok/long s":                          {"ſam@example.test", "sam@example.test", true},
		"ok/Kelvin sign":                     {"\u212aim@example.test", "kim@example.test", true},
		"ok/final sigma":                     {"νίκος@example.test", "ΝΊΚΟΣ@example.test", true},
		"ok/domain in punycode":              {"ann@xn--bcher-kva.example", "ann@bücher.example", true},
		"ok/punycode in capitals":            {"ann@XN--BCHER-KVA.example", "ann@BÜCHER.example", true},
		"ok/sharp s in the domain":           {"ann@xn--fuball-cta.example", "ann@fussball.example", true},
		"fail/punycode in the local part":    {"xn--bcher-kva@example.test", "bücher@example.test", false},
		"fail/dots in the local part":        {"a.nn@example.test", "ann@example.test", false},
		"fail/subaddress":                    {"ann+shop@example.test", "ann@example.test", false},
		"fail/accent":                        {"anne@example.test", "änne@example.test", false},
		"fail/another script":                {"аnn@example.test", "ann@example.test", false}, // the first one is Cyrillic
		"fail/full width":                    {"ａnn@example.test", "ann@example.test", false},
		"fail/dotless i":                     {"ım@example.test", "im@example.test", false},
		"fail/another domain":                {"ann@example.test", "ann@example.com", false},
		"fail/the same letters, @ elsewhere": {"ann@b.example.test", "ann.b@example.test", false},
	} {
		t.Run(name, func(t *testing.T) {
			one, other := user.EmailKey(test.one), user.EmailKey(test.other)
			if (one == other) != test.same {
				t.Errorf("keys %q and %q", one, other)
			}
		})
	}
}

// What reads alike need not be the same person's: proof of one address must not log in with another.
func TestSameMailbox(t *testing.T) {
	for name, test := range map[string]struct {
		one, other string
		same       bool
	}{
		"ok/the same":                        {"ann@example.test", "ann@example.test", true},
		"ok/case":                            {"Ann@Example.TEST", "aNN@example.test", true},
		"ok/domain in punycode":              {"ann@xn--bcher-kva.example", "ann@BÜCHER.example", true},
		"ok/domain in full width":            {"ann@ｅxample.test", "ann@example.test", true}, // UTS 46 maps it
		"fail/sharp s in the domain":         {"boss@fußball.example", "boss@fussball.example", false},
		"fail/sharp s in punycode":           {"boss@xn--fuball-cta.example", "boss@fussball.example", false},
		"fail/sharp s":                       {"strauß@example.test", "strauss@example.test", false},
		"fail/long s":                        {"ſam@example.test", "sam@example.test", false},
		"fail/Kelvin sign":                   {"\u212aim@example.test", "kim@example.test", false},
		"fail/ligature":                      {"o\ufb00ice@example.test", "office@example.test", false},
		"fail/case beyond ASCII":             {"Änne@example.test", "änne@example.test", false},
		"fail/final sigma":                   {"νίκος@example.test", "νίκοσ@example.test", false},
		"fail/final sigma in the domain":     {"ann@νίκος.example", "ann@νίκοσ.example", false},
		"fail/another domain":                {"ann@example.test", "ann@example.com", false},
		"fail/no domain":                     {"ann", "ann", false},
		"fail/none":                          {"", "", false},
		"fail/the same letters, @ elsewhere": {"ann@b.example.test", "ann.b@example.test", false},
	} {
		t.Run(name, func(t *testing.T) {
			if user.SameMailbox(test.one, test.other) != test.same || user.SameMailbox(test.other, test.one) != test.same {
				t.Errorf("%q and %q: want %v", test.one, test.other, test.same)
			}
		})
	}
}

// What is stored is parsed again when it comes back in a form: it has to be the same then, and so has its key.
func FuzzParseEmail(f *testing.F) {
	for _, text := range []string{
		"ann@example.test", "Änne@Bücher.example", "a\u0308@b", "\u212a@x", "ᾳ\u0308@x", `"a"@b`, "a@[::1]",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		email, err := user.ParseEmail(text)
		if err != nil {
			if email != "" || !errors.Is(err, user.ErrInvalidEmail) {
				t.Errorf("%q, %v", email, err)
			}
			return
		}
		if again, err := user.ParseEmail(email); err != nil || again != email {
			t.Errorf("%q is %q, %v when it is parsed again", email, again, err)
		}
		if strings.Count(email, "@") != 1 || len(email) > user.MaxEmailLength {
			t.Errorf("%q was accepted", email)
		}
		if key := user.EmailKey(email); key != user.EmailKey(text) || !norm.NFC.IsNormalString(key) {
			t.Errorf("%q has key %q, and as it was typed, %q", email, key, user.EmailKey(text))
		}
	})
}

func TestParseName(t *testing.T) {
	for name, test := range map[string]struct {
		text, want string
		err        error
	}{
		"ok/plain":                {"Ann Bell", "Ann Bell", nil},
		"ok/none":                 {"", "", nil},
		"ok/only space":           {" \t\u3000 ", "", nil},
		"ok/space around":         {"  Ann Bell\n", "Ann Bell", nil},
		"ok/space within":         {"Ann  Bell", "Ann  Bell", nil},
		"ok/becomes NFC":          {"A\u0308nne", "Änne", nil},
		"ok/any script":           {"안나", "안나", nil},
		"ok/joined letters":       {"نام\u200cها", "نام\u200cها", nil},
		"ok/200 letters":          {strings.Repeat("ä", 200), strings.Repeat("ä", 200), nil},
		"ok/200 letters, as NFD":  {strings.Repeat("a\u0308", 200), strings.Repeat("ä", 200), nil},
		"ok/200 letters, trimmed": {" " + strings.Repeat("ä", 200) + " ", strings.Repeat("ä", 200), nil},
		"fail/201 letters":        {strings.Repeat("a", 201), "", user.ErrInvalidName},
		"fail/another line":       {"Ann\nBell", "", user.ErrInvalidName},
		"fail/tab":                {"Ann\tBell", "", user.ErrInvalidName},
		"fail/NUL":                {"Ann\x00", "", user.ErrInvalidName},
		"fail/escape sequence":    {"\x1b[31mAnn", "", user.ErrInvalidName},
		"fail/C1 control":         {"Ann\u0085Bell", "", user.ErrInvalidName},
		"fail/invalid UTF-8":      {"Ann\xff", "", user.ErrInvalidName},
		"fail/turned direction":   {"gpj\u202Eexe.nnA", "", user.ErrInvalidName},
		"fail/isolated direction": {"Ann\u2066Bell", "", user.ErrInvalidName},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := user.ParseName(test.text); got != test.want || !errors.Is(err, test.err) {
				t.Errorf("%q, %v; want %q, %v", got, err, test.want, test.err)
			}
		})
	}
}

func TestParseRoles(t *testing.T) {
	long := strings.Repeat("r", 64)
	for name, test := range map[string]struct {
		roles, want []string
		err         error
	}{
		"ok/none":               {nil, []string{}, nil},
		"ok/in the given order": {[]string{"reader", "admin"}, []string{"reader", "admin"}, nil},
		"ok/repeats go":         {[]string{"admin", "reader", "admin"}, []string{"admin", "reader"}, nil},
		"ok/case counts":        {[]string{"admin", "Admin"}, []string{"admin", "Admin"}, nil},
		"ok/every character":    {[]string{"AZ_az.09:-"}, []string{"AZ_az.09:-"}, nil},
		"ok/64 characters":      {[]string{long}, []string{long}, nil},
		"fail/empty":            {[]string{"admin", ""}, nil, user.ErrInvalidRole},
		"fail/65 characters":    {[]string{long + "r"}, nil, user.ErrInvalidRole},
		"fail/space":            {[]string{"super admin"}, nil, user.ErrInvalidRole},
		"fail/comma":            {[]string{"reader,admin"}, nil, user.ErrInvalidRole},
		"fail/quote":            {[]string{`"admin"`}, nil, user.ErrInvalidRole},
		"fail/beyond ASCII":     {[]string{"аdmin"}, nil, user.ErrInvalidRole}, // the first letter is Cyrillic
		"fail/invalid UTF-8":    {[]string{"admin\xff"}, nil, user.ErrInvalidRole},
		"fail/new line":         {[]string{"admin\n"}, nil, user.ErrInvalidRole},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := user.ParseRoles(test.roles)
			if !slices.Equal(got, test.want) || (got == nil) != (test.want == nil) || !errors.Is(err, test.err) {
				t.Errorf("%#v, %v; want %#v, %v", got, err, test.want, test.err)
			}
		})
	}
}

// Users are listed by ID, so IDs follow the time of their making.
func TestNewID(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	first, second, later := user.NewID(now), user.NewID(now), user.NewID(now.Add(time.Millisecond))
	if first == second {
		t.Errorf("%s twice", first)
	}
	for _, id := range []string{first, second, later} {
		if !strings.HasPrefix(id, user.IDPrefix) {
			t.Errorf("%s does not start with %s", id, user.IDPrefix)
		}
	}
	if later <= first || later <= second {
		t.Errorf("%s is a millisecond later than %s and %s", later, first, second)
	}
}
