package factor

import (
	"bytes"
	"errors"
	"image/png"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"
	"github.com/pquerna/otp/hotp"

	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/user"
)

func master(t *testing.T) seal.MasterKey {
	t.Helper()
	key, err := seal.ParseMasterKey("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func codeAt(t *testing.T, secret seal.Secret, step int64) string {
	t.Helper()
	code, err := hotp.GenerateCode(string(secret), uint64(step)) //nolint:gosec // not negative
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func TestMF04_Steps(t *testing.T) {
	secret, at := newSecret(), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	now := stepAt(at)
	for name, c := range map[string]struct {
		offset, last int64 // to the step of now
		want         bool
	}{
		"ok/of now":                         {0, -9, true},
		"ok/of the next":                    {1, -9, true},
		"ok/of the one before":              {-1, -9, true},
		"ok/of now, the one before is used": {0, -1, true},
		"fail/two after":                    {2, -9, false},
		"fail/two before":                   {-2, -9, false},
		"fail/of now, used":                 {0, 0, false},
		"fail/of the one before, used":      {-1, -1, false},
		"fail/an older than a used one":     {-1, 0, false},
		"fail/of now, the clock went back":  {0, 5, false},
	} {
		t.Run(name, func(t *testing.T) {
			step, ok := match(secret, codeAt(t, secret, now+c.offset), at, now+c.last)
			if ok != c.want || ok && step != now+c.offset {
				t.Errorf("step %d %v, want %d %v", step-now, ok, c.offset, c.want)
			}
		})
	}
}

// RFC 6238, appendix B, as six digits.
func TestVectors(t *testing.T) {
	const secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
	for at, code := range map[int64]string{
		59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130",
	} {
		if step, ok := match(secret, code, time.Unix(at, 0), -1); !ok || step != at/30 {
			t.Errorf("at %d: step %d, %v", at, step, ok)
		}
	}
}

func TestPlain(t *testing.T) {
	for name, c := range map[string]struct {
		typed          string
		totp, recovery bool
	}{
		"ok/digits":                         {"123456", true, false},
		"ok/with a space":                   {" 123 456 ", true, false},
		"ok/with a hyphen":                  {"123-456", true, false},
		"ok/Arabic digits":                  {"\u0661\u0662\u0663\u0664\u0665\u0666", true, false},
		"ok/full width":                     {"\uff11\uff12\uff13\uff14\uff15\uff16", true, false},
		"ok/a recovery code":                {"abcd-efgh-ijkl-mn23", false, true},
		"ok/a recovery code in capitals":    {"ABCD EFGH IJKL MN23", false, true},
		"fail/nothing":                      {"", false, false},
		"fail/five digits":                  {"12345", false, false},
		"fail/seven digits":                 {"1234567", false, false},
		"fail/a letter":                     {"12345a", false, false},
		"fail/NUL":                          {"12345\x00", false, false},
		"fail/a digit of another kind":      {"12345\u2466", false, false},
		"fail/no base32":                    {"abcd-efgh-ijkl-mn21", false, false},
		"fail/a recovery code too short":    {"abcd-efgh-ijkl-mn2", false, false},
		"fail/more than anybody would type": {strings.Repeat(" ", 200) + "123456", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			if p := plain(c.typed); isTOTP(p) != c.totp || isRecovery(p) != c.recovery {
				t.Errorf("%q: totp %v, recovery %v", p, isTOTP(p), isRecovery(p))
			}
		})
	}
}

// The QR code is read by another library than the one that drew it.
func TestPicture(t *testing.T) {
	secret := newSecret()
	uri := keyURI("Müller & Söhne: Test", "ann+shop@example.com", secret)
	picture, err := draw(uri)
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(picture.PNG))
	if err != nil {
		t.Fatal(err)
	}
	bitmap, err := gozxing.NewBinaryBitmapFromImage(img)
	if err != nil {
		t.Fatal(err)
	}
	read, err := qrcode.NewQRCodeReader().Decode(bitmap, nil)
	if err != nil {
		t.Fatal(err)
	}
	if read.GetText() != uri {
		t.Errorf("the picture says %q, want %q", read.GetText(), uri)
	}
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{
		"secret": {string(secret)}, "issuer": {"Müller & Söhne: Test"}, "algorithm": {"SHA1"}, "digits": {"6"}, "period": {"30"},
	}
	if u.Scheme != "otpauth" || u.Host != "totp" || u.Path != "/Müller & Söhne: Test:ann+shop@example.com" ||
		u.Query().Encode() != want.Encode() {
		t.Errorf("URI %s", uri)
	}
	if !strings.Contains(picture.SVG, "<svg") || strings.Contains(picture.SVG, "<script") {
		t.Errorf("SVG %.200s", picture.SVG)
	}
}

func TestRecoveryCodes(t *testing.T) {
	codes, hashes := newRecoveryCodes("usr_ann")
	if len(codes) != RecoveryCodes || len(hashes) != RecoveryCodes {
		t.Fatalf("%d codes, %d hashes", len(codes), len(hashes))
	}
	for i, c := range codes {
		if !isRecovery(plain(string(c))) || hashRecovery("usr_ann", plain(string(c))) != hashes[i] {
			t.Errorf("code %d is not that of its hash", i)
		}
		if hashRecovery("usr_bob", plain(string(c))) == hashes[i] {
			t.Error("a hash is not bound to its user")
		}
		if slices.Contains(hashes[i+1:], hashes[i]) {
			t.Error("a code is there twice")
		}
	}
}

func TestLogins(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	logins := NewLogins(master(t))
	l := Login{UserID: "usr_ann", Credential: user.CredentialOf("hash"), AMR: []string{"pwd"}, AuthTime: at, ClientID: "shop"}
	token := logins.Begin(ForAPI, l, at)
	read, err := logins.Open(ForAPI, string(token), at.Add(LoginLifetime-time.Second))
	if err != nil || read.UserID != l.UserID || !read.Stands("hash") || read.Stands("another") || !read.ByPassword() ||
		!slices.Equal(read.With(MethodTOTP), []string{"pwd", "otp", "mfa"}) ||
		!slices.Equal(read.With(MethodRecovery), []string{"pwd", "mfa"}) {
		t.Errorf("%+v, %v", read, err)
	}
	other, err := logins.Open(ForAPI, string(logins.Begin(ForAPI, l, at)), at)
	if err != nil || other.hash() == read.hash() {
		t.Errorf("two logins have one hash: %v", err)
	}
	changed := []byte(token)
	changed[len(changed)/2] ^= 1
	for name, c := range map[string]struct {
		place Place
		token string
		at    time.Time
	}{
		"fail/over":          {ForAPI, string(token), at.Add(LoginLifetime)},
		"fail/of a page":     {ForPage, string(token), at},
		"fail/changed":       {ForAPI, string(changed), at},
		"fail/nothing":       {ForAPI, "", at},
		"fail/not base64url": {ForAPI, "%", at},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := logins.Open(c.place, c.token, c.at); !errors.Is(err, ErrLogin) {
				t.Error(err)
			}
		})
	}
}

func TestParseName(t *testing.T) {
	for name, ok := range map[string]bool{
		"Phone": true, " Phone ": true, "電話": true, "": false, "  ": false, "a\nb": false, strings.Repeat("é", 100): true,
		strings.Repeat("a", 101): false, "\xff": false,
	} {
		if _, err := ParseName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}
