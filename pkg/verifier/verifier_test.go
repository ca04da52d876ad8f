package verifier

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Tokens that another library makes are accepted, and everything in them arrives.
func TestVerifyTokensOfAnotherLibrary(t *testing.T) {
	v := local(t)
	methods := map[string]jwt.SigningMethod{
		ES256: jwt.SigningMethodES256,
		EdDSA: jwt.SigningMethodEdDSA,
		RS256: jwt.SigningMethodRS256,
	}
	for alg, s := range signers() {
		t.Run("ok/"+alg, func(t *testing.T) {
			now := time.Now().Truncate(time.Second)
			token := jwt.NewWithClaims(methods[alg], jwt.MapClaims{
				"iss":       testIssuer,
				"sub":       "usr_ü\n\"",
				"aud":       []string{"https://other.example", testAudience},
				"exp":       now.Unix() + 900,
				"iat":       now.Unix(),
				"nbf":       now.Unix() - 1,
				"jti":       "j",
				"client_id": "app",
				"sid":       "s",
				"scope":     "a b",
				"roles":     []string{"admin"},
				"auth_time": now.Unix() - 5,
				"amr":       []string{"pwd", "otp"}, "acr": "2", "cnf": map[string]any{"jkt": "x", "n": []any{1.5, nil, true}},
			})
			token.Header["kid"], token.Header["typ"] = s.kid, "at+jwt"
			raw, err := token.SignedString(s.private)
			if err != nil {
				t.Fatal(err)
			}
			got, err := v.Verify(t.Context(), raw)
			if err != nil {
				t.Fatal(err)
			}
			want := &Claims{
				Issuer:    testIssuer,
				Subject:   "usr_ü\n\"",
				Audience:  []string{"https://other.example", testAudience},
				ExpiresAt: now.Add(900 * time.Second),
				IssuedAt:  now,
				NotBefore: now.Add(-time.Second),
				ID:        "j",
				ClientID:  "app",
				SessionID: "s",
				Scope:     []string{"a", "b"},
				Roles:     []string{"admin"},
				AuthTime:  now.Add(-5 * time.Second), AMR: []string{"pwd", "otp"}, ACR: "2", KeyID: s.kid, payload: got.payload, key: got.key,
				keys: [4]BlockKey{KeyOf(BlockJTI, "j"), KeyOf(BlockClient, "app"), KeyOf(BlockKID, s.kid), KeyOf(BlockSID, "s")},
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("claims = %+v\nwant     %+v", got, want)
			}
			var cnf struct{ JKT string }
			if ok, err := got.Decode("cnf", &cnf); !ok || err != nil || cnf.JKT != "x" {
				t.Errorf("Decode = %v, %v, %+v", ok, err, cnf)
			}
			if ok, err := got.Decode("CNF", &cnf); ok || err != nil {
				t.Errorf("Decode of a name in other case = %v, %v, want false", ok, err)
			}
		})
	}
}

func TestNewRefusesWrongSettings(t *testing.T) {
	audience := WithAudience(testAudience)
	for name, c := range map[string]struct {
		issuer  string
		options []Option
	}{
		"fail/no audience":           {testIssuer, nil},
		"fail/empty audience":        {testIssuer, []Option{WithAudience("")}},
		"fail/clear text":            {"http://issuer.example", []Option{audience}},
		"fail/lookalike of loopback": {"http://127.0.0.1.example", []Option{audience}},
		"fail/query":                 {"https://issuer.example?x=1", []Option{audience}},
		"fail/fragment":              {"https://issuer.example#x", []Option{audience}},
		"fail/no URL":                {"issuer", []Option{audience}},
		"fail/negative leeway":       {testIssuer, []Option{audience, WithLeeway(-1)}},
		"fail/nil client":            {testIssuer, []Option{audience, WithHTTPClient(nil)}},
		"fail/tiny staleness":        {testIssuer, []Option{audience, WithMaxStaleness(time.Second, FailClosed)}},
		"fail/tiny poll interval":    {testIssuer, []Option{audience, WithPollInterval(time.Millisecond)}},
		"fail/negative cache":        {testIssuer, []Option{audience, WithCache(-1)}},
		"fail/negative lifetime":     {testIssuer, []Option{audience, WithMaxLifetime(-1)}},
	} {
		t.Run(name, func(t *testing.T) {
			if v, err := New(t.Context(), c.issuer, c.options...); err == nil {
				v.Close()
				t.Error("New accepts it")
			}
		})
	}
}

// refused fails the test unless raw is refused with an error that is want, and not with one that tells a stranger more.
func refused(t *testing.T, v *Verifier, raw string, want error) {
	t.Helper()
	claims, err := v.Verify(t.Context(), raw)
	if claims != nil || !errors.Is(err, want) || !errors.Is(err, ErrInvalid) {
		t.Errorf("%s: Verify = %v, %v, want %v", short(raw), claims, err, want)
	}
	if want != ErrExpired && errors.Is(err, ErrExpired) {
		t.Errorf("%s: called expired", short(raw))
	}
}

func TestJWT01_NoAlgorithm(t *testing.T) {
	v, payload := local(t), claims(testIssuer)
	good := signers()[ES256].sign(signers()[ES256].header(), payload)
	junk := good[strings.LastIndexByte(good, '.')+1:]
	w := httptest.NewRecorder()
	WriteError(w, ErrSignature)
	body := w.Body.String()
	for _, alg := range []string{`"none"`, `"None"`, `"NONE"`, `"nOnE"`, `""`, "", `5`, `["ES256"]`, `null`, `{"ES256":1}`,
		`"es256"`, `" ES256"`} {
		header := `{"alg":` + alg + `,"kid":"key-ec","typ":"at+jwt"}`
		if alg == "" {
			header = `{"kid":"key-ec","typ":"at+jwt"}`
		}
		for _, signature := range []string{"", junk, "AAAA"} {
			raw := encode([]byte(header)) + "." + encode([]byte(payload)) + "." + signature
			refused(t, v, raw, ErrInvalid)
			if status, got := ask(t, v, raw); status != http.StatusUnauthorized || got != body {
				t.Errorf("%s: %d %s, want 401 and the same body as any other", alg, status, got)
			}
		}
	}
}

// ask sends raw as a bearer token and returns the answer.
func ask(t *testing.T, v *Verifier, raw string) (int, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer "+raw)
	w := httptest.NewRecorder()
	v.Middleware(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {})).ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestJWT02_AlgorithmConfusion(t *testing.T) {
	v := local(t)
	for _, s := range signers() {
		public := s.private.Public()
		der, _ := x509.MarshalPKIXPublicKey(public)
		text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
		jwk, _ := NewJWK(s.kid, public)
		jwkJSON, _ := json.Marshal(jwk)
		secrets := [][]byte{text, []byte(strings.TrimSpace(string(text))), der, jwkJSON, []byte(jwk.N), []byte(jwk.X), nil}
		if rs, ok := public.(*rsa.PublicKey); ok {
			secrets = append(secrets, rs.N.Bytes(), x509.MarshalPKCS1PublicKey(rs))
		}
		for _, alg := range []string{"HS256", "HS384", "HS512", s.alg} {
			for _, secret := range secrets {
				signed := encode(fmt.Appendf(nil, `{"alg":%q,"kid":%q,"typ":"at+jwt"}`, alg,
					s.kid)) + "." + encode([]byte(claims(testIssuer)))
				mac := hmac.New(sha256.New, secret)
				mac.Write([]byte(signed))
				refused(t, v, signed+"."+encode(mac.Sum(nil)), ErrSignature)
			}
		}
	}
}

func TestJWT03_OneKeyOneAlgorithm(t *testing.T) {
	v, payload := local(t), claims(testIssuer)
	rs, ec, ed := signers()[RS256], signers()[ES256], signers()[EdDSA]
	signed := func(s signer, alg string) string {
		return encode(fmt.Appendf(nil, `{"alg":%q,"kid":%q,"typ":"at+jwt"}`, alg, s.kid)) + "." + encode([]byte(payload))
	}
	for _, alg := range []string{"RS256", "RS384", "RS512", "PS256", "ES256", "EdDSA", "Ed25519"} {
		for _, s := range signers() {
			if alg != s.alg {
				in := signed(s, alg)
				refused(t, v, in+"."+encode(s.signature(in)), ErrSignature)
			}
		}
	}
	in := signed(rs, "PS256")
	sum := sha256.Sum256([]byte(in))
	pss, _ := rsa.SignPSS(rand.Reader, rs.private.(*rsa.PrivateKey), crypto.SHA256, sum[:], nil)
	refused(t, v, in+"."+encode(pss), ErrSignature)
	in = signed(rs, "RS256") // a PSS signature under the name of PKCS #1
	sum = sha256.Sum256([]byte(in))
	pss, _ = rsa.SignPSS(rand.Reader, rs.private.(*rsa.PrivateKey), crypto.SHA256, sum[:], nil)
	refused(t, v, in+"."+encode(pss), ErrSignature)
	in = signed(rs, "RS512")
	long := sha512.Sum512([]byte(in))
	sig, _ := rsa.SignPKCS1v15(rand.Reader, rs.private.(*rsa.PrivateKey), crypto.SHA512, long[:])
	refused(t, v, in+"."+encode(sig), ErrSignature)
	in = signed(ec, "ES384")
	sum384 := sha512.Sum384([]byte(in))
	r, s, _ := ecdsa.Sign(rand.Reader, ec.private.(*ecdsa.PrivateKey), sum384[:])
	refused(t, v, in+"."+encode(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)), ErrSignature)
	in = signed(ed, "EdDSA") // Ed25519ph is another algorithm
	sum512 := sha512.Sum512([]byte(in))
	ph, _ := ed.private.Sign(rand.Reader, sum512[:], &ed25519.Options{Hash: crypto.SHA512})
	refused(t, v, in+"."+encode(ph), ErrSignature)
}

func TestJWT04_StrangeKeyIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigner("k1")
		i := newBubbleIssuer(t, s)
		v := i.follow(t, WithoutFeed())
		kids := []string{
			"../../../../dev/null", "/etc/hostname", "' OR 1=1--", `a\"; DROP TABLE keys`, `\u0000`, `\r\nX: y`, "unknown", "k1 ", "K1",
			`\u006b2`, "", strings.Repeat("k", 700),
		}
		for round := range 3 {
			for _, kid := range kids {
				refused(t, v, s.sign(`{"alg":"ES256","kid":"`+kid+`","typ":"at+jwt"}`, claims(i.url)), ErrInvalid)
			}
			for _, kid := range []string{`5`, `{}`, `["k1"]`, `null`, `true`, `"k1" ,"kid":"k1"`,
				`"` + strings.Repeat("k", 64<<10) + `"`} {
				refused(t, v, s.sign(`{"alg":"ES256","kid":`+kid+`,"typ":"at+jwt"}`, claims(i.url)), ErrMalformed)
			}
			if got, want := i.count(jwksPath), round+2; got != want {
				t.Errorf("%d fetches of the keys after %d pauses of 31 s, want %d", got, round, want)
			}
			time.Sleep(31 * time.Second)
		}
		if _, err := v.Verify(t.Context(), i.mint(s)); err != nil {
			t.Errorf("the good token afterwards: %v", err)
		}
	})
}

func TestJWT05_KeysInTheToken(t *testing.T) {
	var connections atomic.Int32
	listener := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { connections.Add(1) }))
	defer listener.Close()
	v, attacker := local(t), newSigner("key-ec")
	jwk, _ := NewJWK("key-ec", attacker.private.Public())
	jwkJSON, _ := json.Marshal(jwk)
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, attacker.private.Public(), attacker.private)
	if err != nil {
		t.Fatal(err)
	}
	for _, extra := range []string{
		`"jku":"` + listener.URL + `"`, `"x5u":"` + listener.URL + `"`, `"jwk":` + string(jwkJSON),
		`"x5c":["` + base64.StdEncoding.EncodeToString(cert) + `"]`,
	} {
		for _, kid := range []string{`"kid":"key-ec",`, `"kid":"attacker",`, ""} {
			refused(t, v, attacker.sign(`{"alg":"ES256",`+kid+extra+`,"typ":"at+jwt"}`, claims(testIssuer)), ErrMalformed)
		}
	}
	refused(t, v, attacker.sign(attacker.header(), claims(testIssuer)), ErrSignature)
	if n := connections.Load(); n != 0 {
		t.Errorf("%d connections to the attacker's address", n)
	}
}

func TestJWT06_CriticalHeaders(t *testing.T) {
	v, s := local(t), signers()[ES256]
	for _, extra := range []string{`"crit":["exp"]`, `"crit":[]`, `"crit":["b64"],"b64":false`, `"b64":false`,
		`"crit":["absent"]`, `"crit":null`, `"cty":"JWT"`, `"zip":"DEF"`} {
		refused(t, v, s.sign(`{"alg":"ES256","kid":"key-ec","typ":"at+jwt",`+extra+`}`, claims(testIssuer)), ErrMalformed)
	}
	// b64:false with the payload as it is (RFC 7797)
	signed := encode([]byte(`{"alg":"ES256","b64":false,"crit":["b64"],"kid":"key-ec","typ":"at+jwt"}`)) + "." + claims(testIssuer)
	refused(t, v, signed+"."+encode(s.signature(signed)), ErrMalformed)
}

func TestJWT08_Size(t *testing.T) {
	v, s := local(t), signers()[ES256]
	fill := func(size int) string { // a good token of exactly this size
		for n := size*3/4 - 350; ; n-- {
			if raw := s.sign(s.header(), claims(testIssuer, "x", `"`+strings.Repeat("x", n)+`"`)); len(raw) <= size {
				return raw
			}
		}
	}
	if raw := fill(MaxTokenSize); len(raw) < MaxTokenSize-2 {
		t.Fatalf("the filled token has %d bytes", len(raw))
	} else if _, err := v.Verify(t.Context(), raw); err != nil {
		t.Errorf("a token of %d bytes: %v", len(raw), err)
	}
	for name, raw := range map[string]string{
		"a good token over the limit": fill(MaxTokenSize + 4),
		"1 MiB":                       s.sign(s.header(), strings.Repeat("x", 1<<20)),
		"8 MiB of dots":               strings.Repeat(".", 8<<20),
		"8 KiB of dots":               strings.Repeat(".", MaxTokenSize),
		"a million dots":              strings.Repeat("a.", 1_000_000),
		"deep":                        encode([]byte(strings.Repeat("[", 5000))) + ".e30.AAAA",
		"deep header":                 encode([]byte(`{"alg":`+strings.Repeat("[", 700))) + ".e30.AAAA",
		"many keys":                   s.sign(s.header(), manyKeys(100_000)),
	} {
		refused(t, v, raw, ErrMalformed)
		if n := testing.AllocsPerRun(5, func() { _, _ = v.Verify(t.Context(), raw) }); n > 8 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	for _, payload := range []string{
		claims(testIssuer, "exp", "1e308"), claims(testIssuer, "exp", strings.Repeat("9", 4000)),
		claims(testIssuer, "exp", "1"+strings.Repeat("0", 4000)+"e-4000"),
		claims(testIssuer, "x", strings.Repeat("[", maxDepth)+strings.Repeat("]", maxDepth)),
		claims(testIssuer, "x", strings.Repeat(`{"a":`, 500)+"1"+strings.Repeat("}", 500)),
	} {
		refused(t, v, s.sign(s.header(), payload), ErrMalformed)
	}
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"%d":1`, i)
	}
	return "{" + b.String()[1:] + "}"
}

func TestJWT09_PsychicSignatures(t *testing.T) {
	v, s := local(t), signers()[ES256]
	signed := encode([]byte(s.header())) + "." + encode([]byte(claims(testIssuer)))
	good := s.signature(signed)
	if _, err := v.Verify(t.Context(), signed+"."+encode(good)); err != nil {
		t.Fatal(err)
	}
	order := elliptic.P256().Params().N
	pad := func(n *big.Int) []byte { return n.FillBytes(make([]byte, 32)) }
	zero, one, n := pad(big.NewInt(0)), pad(big.NewInt(1)), pad(order)
	plus := new(big.Int).Add(new(big.Int).SetBytes(good[32:]), order) // congruent, if it fits
	der, _ := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(good[:32]), new(big.Int).SetBytes(good[32:])})
	ff := slices.Repeat([]byte{0xff}, 32)
	for name, signature := range map[string][]byte{
		"r=s=0":                slices.Concat(zero, zero),
		"r=0":                  slices.Concat(zero, good[32:]),
		"s=0":                  slices.Concat(good[:32], zero),
		"r=n":                  slices.Concat(n, good[32:]),
		"s=n":                  slices.Concat(good[:32], n),
		"r=s=n":                slices.Concat(n, n),
		"r=s=1":                slices.Concat(one, one),
		"ff":                   slices.Concat(ff, ff),
		"63 bytes":             good[:63],
		"65 bytes":             append(slices.Clone(good), 0),
		"65 bytes, zero first": append([]byte{0}, good...),
		"96 bytes":             slices.Concat(good, zero),
		"DER":                  der,
		"one byte":             {0},
		"s+n":                  slices.Concat(good[:32], plus.Bytes()[:32]),
		"swapped":              slices.Concat(good[32:], good[:32]),
	} {
		t.Run("fail/"+name, func(t *testing.T) { refused(t, v, signed+"."+encode(signature), ErrSignature) })
	}
	refused(t, v, signed+".", ErrMalformed)
	for alg, s := range signers() { // short, long and zero signatures of the other algorithms
		signed := encode([]byte(s.header())) + "." + encode([]byte(claims(testIssuer)))
		good := s.signature(signed)
		for _, signature := range [][]byte{good[1:], good[:len(good)-1], append([]byte{0}, good...), append(slices.Clone(good), 0),
			make([]byte, len(good)), slices.Repeat([]byte{0xff}, len(good))} {
			t.Run("fail/"+alg, func(t *testing.T) { refused(t, v, signed+"."+encode(signature), ErrSignature) })
		}
	}
}

func TestJWT11_ClaimTypes(t *testing.T) {
	v, s := local(t), signers()[EdDSA]
	verify := func(changes ...string) error {
		_, err := v.Verify(t.Context(), s.sign(s.header(), claims(testIssuer, changes...)))
		return err
	}
	texts := []string{`null`, `""`, `5`, `true`, `[]`, `["x"]`, `{}`, `1.5`}
	times := []string{`null`, `"1"`, `"9999999999"`, `1.5`, `-1`, `0`, `-0`, `true`, `[]`, `{}`, `9223372036854775808`,
		`9007199254740992`, `1e10`, `9999999999.0`, `""`}
	lists := []string{`null`, `5`, `{}`, `true`, `[1]`, `["x",null]`, `[["x"]]`, `"x"`}
	bad := map[string][]string{
		"iss":       texts,
		"sub":       texts,
		"jti":       texts,
		"sid":       texts,
		"client_id": texts,
		"acr":       texts,
		"exp":       times,
		"iat":       times,
		"nbf":       times,
		"auth_time": times,
		"roles":     lists, "amr": lists, "scope": {`null`, `5`, `["a"]`, `{}`},
		"aud": {`null`, `""`, `5`, `[]`, `[""]`, `["` + testAudience + `",""]`, `["` + testAudience + `",5]`,
			`[["` + testAudience + `"]]`, `{"a":"` + testAudience + `"}`, `true`},
	}
	for name, values := range bad {
		for _, value := range values {
			t.Run("fail/"+name+"="+value, func(t *testing.T) {
				if err := verify(name, value); !errors.Is(err, ErrMalformed) {
					t.Errorf("Verify = %v, want ErrMalformed", err)
				}
			})
		}
	}
	for _, name := range []string{"iss", "sub", "aud", "exp", "iat", "jti", "client_id"} {
		if err := verify(name, ""); !errors.Is(err, ErrMalformed) {
			t.Errorf("fail/without %s: %v, want ErrMalformed", name, err)
		}
	}
	for _, name := range []string{"sid", "nbf", "auth_time", "scope", "roles", "amr"} {
		if err := verify(name, ""); err != nil {
			t.Errorf("ok/without %s: %v", name, err)
		}
	}
	for _, aud := range []string{`"` + testAudience + `/"`, `"x` + testAudience + `"`,
		`["` + strings.ToUpper(testAudience) + `"]`, `"https://api"`} {
		if err := verify("aud", aud); !errors.Is(err, ErrAudience) {
			t.Errorf("fail/aud %s: %v, want ErrAudience", aud, err)
		}
	}
	for _, iss := range []string{testIssuer + "/", "HTTPS://issuer.example", testIssuer + "x"} {
		if err := verify("iss", string(quoted(iss))); !errors.Is(err, ErrIssuer) {
			t.Errorf("fail/iss %s: %v, want ErrIssuer", iss, err)
		}
	}
	good := claims(testIssuer)
	for name, payload := range map[string]string{
		"repeated sub":       `{"sub":"usr_0",` + good[1:],
		"repeated by escape": `{"s\u0075b":"usr_0",` + good[1:],
		"repeated unknown":   `{"x":1,"x":1,` + good[1:],
		"repeated inside":    claims(testIssuer, "cnf", `{"a":1,"b":{"c":1,"c":2}}`),
		"repeated in a list": claims(testIssuer, "x", `[{"a":1,"a":1}]`),
		"invalid UTF-8":      strings.Replace(good, "usr_1", "usr_\xff", 1),
		"lone surrogate":     strings.Replace(good, "usr_1", `\ud800`, 1),
		"array":              "[" + good + "]",
		"two objects":        good + good,
		"junk behind":        good + "x",
		"comma":              strings.Replace(good, "}", ",}", 1),
		"empty":              "{}",
		"null":               "null",
		"byte order mark":    "\ufeff" + good,
		"control character":  strings.Replace(good, "usr_1", "usr\x01", 1),
		"bad escape":         strings.Replace(good, "usr_1", `\x41`, 1),
		"single quotes":      strings.ReplaceAll(good, `"`, `'`), "comment": good + "//", "NUL behind": good + "\x00",
	} {
		t.Run("fail/"+name, func(t *testing.T) { refused(t, v, s.sign(s.header(), payload), ErrMalformed) })
	}
	c, err := v.Verify(t.Context(), s.sign(s.header(), `{"SUB":"usr_0","Exp":1,`+good[1:])) // other names, which mean nothing
	if err != nil || c.Subject != "usr_1" {
		t.Errorf("ok/names in other case: %v, %v", c, err)
	}
	for name, header := range map[string]string{
		"repeated alg":       `{"alg":"EdDSA","alg":"EdDSA","kid":"key-ed","typ":"at+jwt"}`,
		"repeated by escape": `{"alg":"EdDSA","kid":"key-ed","typ":"at+jwt","\u0061lg":"none"}`,
		"upper case":         `{"ALG":"EdDSA","kid":"key-ed","typ":"at+jwt"}`,
		"array":              `["EdDSA"]`,
		"no typ":             `{"alg":"EdDSA","kid":"key-ed"}`,
	} {
		t.Run("fail/header "+name, func(t *testing.T) { refused(t, v, s.sign(header, good), ErrMalformed) })
	}
}

func TestJWT12_TimeLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now, s := time.Now().Unix(), signers()[ES256]
		for _, c := range []struct {
			name    string
			options []Option
			changes []string
			want    error
		}{
			{"ok/a second before exp", nil, []string{"exp", fmt.Sprint(now + 1)}, nil},
			{"fail/at exp", nil, []string{"exp", fmt.Sprint(now), "iat", fmt.Sprint(now - 900)}, ErrExpired},
			{"fail/after exp", nil, []string{"exp", fmt.Sprint(now - 1), "iat", fmt.Sprint(now - 900)}, ErrExpired},
			{"ok/within leeway", []Option{WithLeeway(10 * time.Second)},
				[]string{"exp", fmt.Sprint(now - 9), "iat", fmt.Sprint(now - 900)}, nil},
			{"fail/at leeway", []Option{WithLeeway(10 * time.Second)},
				[]string{"exp", fmt.Sprint(now - 10), "iat", fmt.Sprint(now - 900)}, ErrExpired},
			{"fail/beyond leeway", []Option{WithLeeway(10 * time.Second)},
				[]string{"exp", fmt.Sprint(now - 11), "iat", fmt.Sprint(now - 900)}, ErrExpired},
			{"ok/iat 30 s ahead", nil, []string{"iat", fmt.Sprint(now + 30)}, nil},
			{"fail/iat 31 s ahead", nil, []string{"iat", fmt.Sprint(now + 31)}, ErrNotYetValid},
			{"ok/iat within a larger leeway", []Option{WithLeeway(time.Minute)}, []string{"iat", fmt.Sprint(now + 60)}, nil},
			{"fail/iat beyond a larger leeway", []Option{WithLeeway(time.Minute)}, []string{"iat", fmt.Sprint(now + 61)}, ErrNotYetValid},
			{"ok/nbf now", nil, []string{"nbf", fmt.Sprint(now)}, nil},
			{"ok/nbf 30 s ahead", nil, []string{"nbf", fmt.Sprint(now + 30)}, nil},
			{"fail/nbf 31 s ahead", nil, []string{"nbf", fmt.Sprint(now + 31)}, ErrNotYetValid},
			{"ok/longest life", []Option{WithMaxLifetime(15 * time.Minute)}, []string{"exp", fmt.Sprint(now + 900)}, nil},
			{"fail/a second longer", []Option{WithMaxLifetime(15 * time.Minute)}, []string{"exp", fmt.Sprint(now + 901)}, ErrLifetime},
			{"fail/exp at iat", nil, []string{"iat", fmt.Sprint(now + 5), "exp", fmt.Sprint(now + 5)}, ErrMalformed},
			{"fail/exp before iat", nil, []string{"iat", fmt.Sprint(now + 6), "exp", fmt.Sprint(now + 5)}, ErrMalformed},
		} {
			v := local(t, c.options...)
			raw := s.sign(s.header(), claims(testIssuer, c.changes...))
			if _, err := v.Verify(t.Context(), raw); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", c.name, err, c.want)
			}
			// A stranger learns nothing about times from a token that he made up.
			refused(t, v, newSigner(s.kid).sign(s.header(), claims(testIssuer, c.changes...)), ErrSignature)
		}
	})
}

func TestJWT13_OtherKindsOfTokens(t *testing.T) {
	v, s := local(t), signers()[ES256]
	for _, typ := range []string{`"JWT"`, `"jwt"`, `"AT+JWT"`, `"application/at+jwt"`, `"at+jwt "`, `"logout+jwt"`,
		`"blocklist+jwt"`, `"dpop+jwt"`, `"secevent+jwt"`, `"client-authentication+jwt"`, `""`, `null`, `["at+jwt"]`} {
		refused(t, v, s.sign(`{"alg":"ES256","kid":"key-ec","typ":`+typ+`}`, claims(testIssuer)), ErrMalformed)
	}
	// the same key, another environment
	for _, issuer := range []string{"https://staging.issuer.example", "https://issuer.example/tenant"} {
		refused(t, v, s.sign(s.header(), claims(issuer)), ErrIssuer)
	}
	refused(t, v, s.sign(s.header(), claims(testIssuer, "aud", `"https://billing.example"`)), ErrAudience)
}

// An ID token and an access token of the type JWT have the same header.
func TestJWT13_AccessTokensOfTypeJWT(t *testing.T) {
	s := signers()[ES256]
	plain := strings.Replace(s.header(), "at+jwt", "JWT", 1)
	access := s.sign(plain, claims(testIssuer, "token_use", `"access"`))
	both, only := local(t, WithTokenType(TypeAccessToken, TypeJWT)), local(t, WithTokenType(TypeJWT))
	for name, v := range map[string]*Verifier{"both": both, "only": only} {
		for range 2 { // the second time the header is known
			if c, err := v.Verify(t.Context(), access); err != nil || c.Subject != "usr_1" {
				t.Errorf("%s: %v, %v", name, c, err)
			}
			for _, use := range []string{"", `"id"`, `"ACCESS"`, `["access"]`, "null"} {
				refused(t, v, s.sign(plain, claims(testIssuer, "token_use", use)), ErrMalformed)
			}
		}
		for _, typ := range []string{`"jwt"`, `"at+JWT"`, `"logout+jwt"`, `""`} {
			refused(t, v, s.sign(`{"alg":"ES256","kid":"key-ec","typ":`+typ+`}`, claims(testIssuer, "token_use", `"access"`)),
				ErrMalformed)
		}
	}
	if _, err := both.Verify(t.Context(), s.sign(s.header(), claims(testIssuer))); err != nil {
		t.Errorf("at+jwt: %v", err)
	}
	refused(t, only, s.sign(s.header(), claims(testIssuer)), ErrMalformed)
	refused(t, local(t), access, ErrMalformed)
	for _, types := range [][]string{{}, {""}, {"at+JWT"}, {TypeJWT, "logout+jwt"}} {
		if _, err := New(t.Context(), testIssuer, WithAudience(testAudience), WithoutFeed(), WithTokenType(types...)); err == nil {
			t.Errorf("types %q are accepted", types)
		}
	}
}

func TestJWT15_Spelling(t *testing.T) {
	v := local(t)
	for alg, s := range signers() {
		raw := s.sign(s.header(), claims(testIssuer))
		parts := strings.Split(raw, ".")
		spellings := []string{
			"", ".", "..", "...", raw + "A", raw + "AAAA", raw + ".", raw + ".x", raw + ".x.y", "." + raw, raw + "=", raw + "==",
			raw + "\n", " " + raw, raw + " ",
			raw + "%", raw + "\x00", parts[0] + "." + parts[1], parts[0] + ".." + parts[2], "." + parts[1] + "." + parts[2],
			parts[0] + "=." + parts[1] + "." + parts[2],
			parts[0] + "." + parts[1] + "." + parts[2][:10] + "\n" + parts[2][10:],
			parts[0] + "." + parts[1] + "." + parts[2][:10] + "\r\n" + parts[2][10:],
			parts[0] + "\n." + parts[1] + "." + parts[2], strings.Join([]string{parts[0], parts[1], parts[2], parts[0], parts[1]}, "."),
			"Bearer " + raw,
			s.sign(s.header(), raw), encode([]byte(raw)), `{"protected":"` + parts[0] + `"}`,
			strings.ReplaceAll(strings.ReplaceAll(raw, "-", "+"), "_", "/") + "+",
		}
		for n := 1; n < 12; n++ {
			spellings = append(spellings, raw[:len(raw)-n])
		}
		for _, spelling := range spellings {
			refused(t, v, spelling, ErrInvalid)
		}
		// Every other last character of each part, and every single flipped character of the signature.
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		for i, part := range parts {
			for _, c := range []byte(alphabet) {
				if c != part[len(part)-1] {
					other := slices.Clone(parts)
					other[i] = part[:len(part)-1] + string(c)
					refused(t, v, strings.Join(other, "."), ErrInvalid)
				}
			}
		}
		if _, err := v.Verify(t.Context(), raw); err != nil {
			t.Errorf("%s: the original: %v", alg, err)
		}
	}
}

// The claims of a forged token are not read: whatever they say, the answer is the same.
func TestForgedClaimsAreNotRead(t *testing.T) {
	v, forger := local(t), newSigner("key-ec")
	for _, payload := range []string{claims(testIssuer, "exp", "1", "iat", "0"), claims("https://other.example"),
		claims(testIssuer, "aud", `"x"`), "not JSON", "{}", claims(testIssuer, "exp", "1e308")} {
		if _, err := v.Verify(t.Context(), forger.sign(forger.header(), payload)); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v, want ErrSignature", short(payload), err)
		}
	}
}

func TestCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := NewBlockSet()
		keys := map[string]*Key{}
		a, b := newSigner("a"), newSigner("b")
		keys["a"], keys["b"] = a.key(t), b.key(t)
		var cached []bool
		v := local(t, WithCache(4), WithHooks(Hooks{Verified: func(_ error, _ time.Duration, c bool) { cached = append(cached, c) }}),
			WithKeys(func(kid string) (*Key, bool) { k, ok := keys[kid]; return k, ok }),
			WithBlocklist(func(_ context.Context, k []BlockKey, iat int64) (bool, error) { return set.Blocked(k, iat), nil }))
		mint := func(s signer, jti string) string { return s.sign(s.header(), claims(testIssuer, "jti", `"`+jti+`"`)) }
		expect := func(step, raw string, wantErr error, wantCached bool) {
			t.Helper()
			_, err := v.Verify(t.Context(), raw)
			if !errors.Is(err, wantErr) || cached[len(cached)-1] != wantCached {
				t.Errorf("%s: %v, cached %v; want %v, %v", step, err, cached[len(cached)-1], wantErr, wantCached)
			}
		}
		one, two := mint(a, "one"), mint(b, "two")
		expect("new", one, nil, false)
		expect("again", one, nil, true)
		expect("another spelling", one+"A", ErrInvalid, false)
		set.Add(Entry{KeyOf(BlockJTI, "one"), uint32(time.Now().Unix()), 1 << 31})
		expect("revoked", one, ErrBlocked, true)
		expect("new", two, nil, false)
		keys["b"] = newSigner("b").key(t)
		expect("another key under its kid", two, ErrSignature, false)
		delete(keys, "b")
		expect("its key gone", two, ErrUnknownKey, false)
		three := mint(a, "three")
		expect("new", three, nil, false)
		for n := range 100 {
			expect("new", mint(a, fmt.Sprint(n)), nil, false)
		}
		if n := len(v.cache.young) + len(v.cache.old); n > 4 {
			t.Errorf("%d tokens remembered, want at most 4", n)
		}
		expect("forgotten", three, nil, false)
		time.Sleep(900 * time.Second)
		expect("expired", three, ErrExpired, true)
		expect("and dropped", three, ErrExpired, false)
	})
}

func TestBlocklistInProcess(t *testing.T) {
	set, s := NewBlockSet(), signers()[ES256]
	var down error
	v := local(t, WithBlocklist(func(_ context.Context, k []BlockKey, iat int64) (bool, error) { return set.Blocked(k, iat), down }))
	now := uint32(time.Now().Unix())
	raw := s.sign(s.header(), claims(testIssuer))
	if _, err := v.Verify(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	for kind, value := range map[BlockKind]string{BlockJTI: "jti_1", BlockSID: "ses_1", BlockClient: "default", BlockKID: s.kid} {
		set = NewBlockSet()
		set.Add(Entry{KeyOf(kind, value), now - 1, now + 900})
		if _, err := v.Verify(t.Context(), raw); err != nil {
			t.Errorf("ok/%s blocked up to the second before: %v", kind, err)
		}
		set.Add(Entry{KeyOf(kind, value), now + 5, now + 900})
		refused(t, v, raw, ErrBlocked)
	}
	set = NewBlockSet()
	set.Add(Entry{BlockKey{}, now + 5, now + 900})
	set.Add(Entry{KeyOf(BlockSID, ""), now + 5, now + 900}) // a token without a session is not in every session
	if _, err := v.Verify(t.Context(), s.sign(s.header(), claims(testIssuer, "sid", ""))); err != nil {
		t.Errorf("ok/no sid: %v", err)
	}
	down = errors.New("no idea")
	if _, err := v.Verify(t.Context(), raw); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrInvalid) {
		t.Errorf("fail/blocklist down: %v, want ErrUnavailable", err)
	}
}
