package password

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const passphrase = "correct horse battery staple"

// foreignHashes are hashes of passphrase made by other programs (argon2-cffi 25, bcrypt 5 for Python, bcryptjs 3 for
// Node), with the cost lowered where the scheme leaves a choice. The $2y$ row is a $2b$ hash under the name that PHP
// gives to the same algorithm.
func foreignHashes() map[string]string {
	return map[string]string{
		"argon2id": "" +
			"$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$gy5SuVm5Z7Vw7keB9se9p87QGcomaseB/S2U1OhTsM0",
		"argon2id, two lanes":       "$argon2id$v=19$m=1024,t=1,p=2$c2FsdHNhbHQ$t5UGPiOMY9kUrgefDfq+JWJKe6tl9Eyb",
		"argon2i":                   "$argon2i$v=19$m=4096,t=3,p=4$MDEyMzQ1Njc4OWFiY2RlZg$RgQ/6SxliyMeOQv5qzWtkY9l1V6zDlAqk+xn5N77Wrk",
		"bcrypt 2a":                 "$2a$10$kgOwy/3FNbgUi5InRHv8IO1Mtp/SSFNkY5.kjZmBXmqfRRfvOgjry",
		"bcrypt 2b":                 "$2b$04$YAINnMMiurvC0f6aM9cSHeOwI.X0c6T6sWDziHt3/MWxh0fon3hlC",
		"bcrypt 2y":                 "$2y$04$YAINnMMiurvC0f6aM9cSHeOwI.X0c6T6sWDziHt3/MWxh0fon3hlC",
		"bcrypt of another encoder": "$2b$05$Ywq8OGDrwFOVJJapMP7Wdu0YnafJW/.slyc2f6Gke9sV5autNe5Ii",
	}
}

// damagedHashes is what a tampered or half-imported users table may hold.
func damagedHashes() []string {
	const (
		salt   = "MDEyMzQ1Njc4OWFiY2RlZg"
		key    = "gy5SuVm5Z7Vw7keB9se9p87QGcomaseB/S2U1OhTsM0"
		bcrypt = "YAINnMMiurvC0f6aM9cSHeOwI.X0c6T6sWDziHt3/MWxh0fon3hlC"
	)
	damaged := []string{
		passphrase, " ", "$", "$$$$$", "x", "\x00", "\xff",
		"$argon2id$", "$argon2id$v=19$m=64,t=1,p=1$" + salt, "$argon2id$v=19$m=64,t=1,p=1$" + salt + "$" + key + "$",
		"$argon2d$v=19$m=64,t=1,p=1$" + salt + "$" + key,
		"$argon2$v=19$m=64,t=1,p=1$" + salt + "$" + key,
		"$argon2id$m=64,t=1,p=1$" + salt + "$" + key,
		"$argon2id$v=16$m=64,t=1,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=64,t=1,p=1$$" + key,
		"$argon2id$v=19$m=64,t=1,p=1$" + salt + "$",
		"$argon2id$v=19$m=64,t=1,p=1$" + salt + "$gy5S",
		"$argon2id$v=19$m=64,t=1,p=1$" + salt + "$" + key + "=",
		"$argon2id$v=19$m=64,t=1,p=1$" + salt + "$" + key[:42] + "1",
		"$argon2id$v=19$m=64,t=1,p=1$" + salt + "$" + strings.Repeat("A", 2000),
		"$argon2id$v=19$m=64,t=1,p=1$" + strings.Repeat("A", 200) + "$" + key,
		"$2$04$" + bcrypt, "$2x$04$" + bcrypt, "$2z$04$" + bcrypt, "$2b$03$" + bcrypt, "$2b$00$" + bcrypt, "$2b$15$" + bcrypt,
		"$2b$31$" + bcrypt, "$2b$99$" + bcrypt, "$2b$+4$" + bcrypt, "$2b$-4$" + bcrypt, "$2b$4$" + bcrypt, "$2b$04$" + bcrypt[1:],
		"$2b$04$" + bcrypt + "A", "$2b$04$" + bcrypt[1:] + "$", "$2b$04$" + bcrypt[1:] + "\x00", "$2b$", "$2", "$2b$04$",
		"$1$salt$qJH7.N4xYta3aEG/dfqo/0", "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "5f4dcc3b5aa765d61d8327deb882cf99",
	}
	for _, cost := range []string{
		"m=64,t=0,p=1", "m=64,t=1,p=0", "m=0,t=1,p=1", "m=4294967295,t=1,p=1", "m=4294967296,t=1,p=1", "m=64,t=4294967295,p=1",
		"m=64,t=1,p=255", "m=64,t=1,p=256", "m=64,t=1,p=17", "m=7,t=1,p=1", "m=262145,t=1,p=1", "m=262144,t=5,p=1", "m=-64,t=1,p=1",
		"m=+64,t=1,p=1",
		"m=064,t=1,p=1", "m=64,t=1", "m=64,t=1,p=1,p=1", "t=1,m=64,p=1", "m=64,t=1,p=1,keyid=AA", "m=64,t=1,p=1,data=AA",
		"m= 64,t=1,p=1", "m=6_4,t=1,p=1", "m=0x40,t=1,p=1", "",
	} {
		damaged = append(damaged, "$argon2id$v=19$"+cost+"$"+salt+"$"+key)
	}
	return damaged
}

func TestParseHash(t *testing.T) {
	for name, text := range foreignHashes() {
		t.Run("ok/"+name, func(t *testing.T) {
			parsed, err := parseHash(text)
			if err != nil {
				t.Fatal(err)
			}
			if parsed.String() != text {
				t.Errorf("re-encoded as %s", parsed)
			}
			if !parsed.matches(passphrase) || parsed.matches(passphrase+"r") || parsed.matches("") {
				t.Error("the password does not match, or another does")
			}
		})
	}
	for i, text := range damagedHashes() {
		t.Run("fail/"+strconv.Itoa(i), func(t *testing.T) {
			parsed, err := parseHash(text)
			if !errors.Is(err, ErrUnknownHash) || parsed != nil {
				t.Errorf("parseHash(%.80q) = %v, %v", text, parsed, err)
			}
			if len(text) > 4 && strings.Contains(err.Error(), text[len(text)-5:]) {
				t.Errorf("the error repeats the hash: %v", err)
			}
		})
	}
}

func TestParamsValidate(t *testing.T) {
	for _, tt := range []struct {
		name   string
		params Params
		ok     bool
	}{
		{"ok/zero", Params{}, true},
		{"ok/least", Params{Memory: 8, Time: 1, Threads: 1}, true},
		{"ok/RFC 9106 second choice", Params{Memory: 64 << 10, Time: 3, Threads: 4}, true},
		{"ok/greatest memory", Params{Memory: 256 << 10, Time: 4, Threads: 1}, true},
		{"fail/memory", Params{Memory: 256<<10 + 1, Time: 1}, false},
		{"fail/memory for the lanes", Params{Memory: 31, Threads: 4}, false},
		{"fail/work", Params{Memory: 256 << 10, Time: 5}, false},
		{"fail/work that overflows", Params{Memory: 1 << 17, Time: 1 << 31}, false},
		{"fail/lanes", Params{Threads: 17}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.params.Validate(); (err == nil) != tt.ok {
				t.Errorf("Validate() = %v", err)
			}
		})
	}
}

// FuzzParseHash holds that nothing panics, that what parses re-encodes to the same text, and that it is within the bounds.
func FuzzParseHash(f *testing.F) {
	for _, text := range foreignHashes() {
		f.Add(text)
	}
	for text := range slices.Values(damagedHashes()) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := parseHash(text)
		if err != nil {
			if !errors.Is(err, ErrUnknownHash) || parsed != nil {
				t.Fatalf("parseHash(%q) = %v, %v", text, parsed, err)
			}
			return
		}
		if parsed.String() != text {
			t.Fatalf("%q re-encoded as %q", text, parsed)
		}
		if a, ok := parsed.(*argon2Hash); ok &&
			(a.Memory > maxMemory || uint64(a.Memory)*uint64(a.Time) > maxWork || a.Threads > maxThreads || a.Time == 0 ||
				a.Threads == 0) {
			t.Fatalf("%q is beyond the bounds", text)
		}
	})
}
