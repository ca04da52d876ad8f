package examples

import (
	"bytes"
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
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"

	"github.com/handstamp/handstamp/pkg/verifier"
)

const (
	corpusIssuer   = "https://issuer.example"
	corpusAudience = "https://api.example"
	corpusMinted   = 1767225600 // 2026
	corpusExpires  = 4102444800 // 2100, so that the corpus is the same on every day
)

// specimen is a token of the corpus.
type specimen struct {
	Class string `json:"class"` // what was done to it
	Token string `json:"token"`
	good  bool   // to be accepted
}

// corpus is tokens and the keys to verify them with. It is the same each time it is made.
type corpus struct {
	Issuer   string          `json:"issuer"`
	Audience string          `json:"audience"`
	JWKS     verifier.JWKSet `json:"jwks"`
	Tokens   []specimen      `json:"tokens"`

	keys   []signer
	random *mathrand.Rand
	turn   int
}

// signer is a private key and what it is published as.
type signer struct {
	alg, kid string
	private  crypto.Signer
	public   verifier.JWK
}

func newCorpus(t *testing.T) *corpus {
	t.Helper()
	cryptotest.SetGlobalRandom(t, 1)
	c := &corpus{
		Issuer:   corpusIssuer,
		Audience: corpusAudience,
		random:   mathrand.New(mathrand.NewPCG(1, 2)),
	} //nolint:gosec // to be repeatable
	for _, private := range privateKeys(t) {
		key, err := verifier.NewJWK("key-"+fmt.Sprint(len(c.keys)), private.Public())
		if err != nil {
			t.Fatal(err)
		}
		c.keys = append(c.keys, signer{key.Alg, key.Kid, private, key})
		c.JWKS.Keys = append(c.JWKS.Keys, key)
	}
	c.goodTokens()
	c.headers()
	c.algorithms()
	c.claims()
	c.payloads()
	c.spellings()
	c.signatures()
	c.damage()
	c.check(t)
	return c
}

func privateKeys(t *testing.T) []crypto.Signer {
	t.Helper()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return []crypto.Signer{ec, ed, rs}
}

// check finds mutations that change nothing.
func (c *corpus) check(t *testing.T) {
	t.Helper()
	good := map[string]bool{}
	for _, s := range c.Tokens {
		if s.good {
			good[s.Token] = true
		}
	}
	for _, s := range c.Tokens {
		if !s.good && good[s.Token] {
			t.Errorf("%s: the token is a good one", s.Class)
		}
	}
}

func (c *corpus) accept(class, token string) {
	c.Tokens = append(c.Tokens, specimen{class, token, true})
}
func (c *corpus) refuse(class, token string) {
	c.Tokens = append(c.Tokens, specimen{class, token, false})
}

// next returns the keys in turn.
func (c *corpus) next() signer {
	c.turn++
	return c.keys[c.turn%len(c.keys)]
}

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func (s signer) header() string {
	return fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":"at+jwt"}`, s.alg, s.kid)
}

// token signs exactly this header and payload.
func (s signer) token(header, payload string) string {
	signed := encode(header) + "." + encode(payload)
	return signed + "." + encode(string(s.sign(signed)))
}

// sign returns the signature of text by the algorithm of the key.
func (s signer) sign(text string) []byte {
	hash := sha256.Sum256([]byte(text))
	var sig []byte
	var err error
	switch private := s.private.(type) {
	case *ecdsa.PrivateKey:
		r, v, failed := ecdsa.Sign(rand.Reader, private, hash[:])
		if failed != nil {
			panic(failed)
		}
		return append(r.FillBytes(make([]byte, 32)), v.FillBytes(make([]byte, 32))...)
	case ed25519.PrivateKey:
		sig = ed25519.Sign(private, []byte(text))
	case *rsa.PrivateKey:
		sig, err = rsa.SignPKCS1v15(nil, private, crypto.SHA256, hash[:])
	}
	if err != nil {
		panic(err)
	}
	return sig
}

// payload returns good claims, changed by pairs of name and JSON value; an empty value removes the claim.
func payload(changes ...string) string {
	names := []string{"iss", "aud", "sub", "jti", "sid", "client_id", "scope", "roles", "iat", "exp", "auth_time", "amr"}
	values := map[string]string{
		"iss": `"` + corpusIssuer + `"`, "aud": `"` + corpusAudience + `"`, "sub": `"usr_1"`, "jti": `"jti_1"`, "sid": `"ses_1"`,
		"client_id": `"default"`, "scope": `"openid read"`, "roles": `["editor"]`, "iat": fmt.Sprint(corpusMinted),
		"exp": fmt.Sprint(corpusExpires), "auth_time": fmt.Sprint(corpusMinted), "amr": `["pwd"]`,
	}
	for i := 0; i < len(changes); i += 2 {
		if _, ok := values[changes[i]]; !ok {
			names = append(names, changes[i])
		}
		values[changes[i]] = changes[i+1]
	}
	var members []string
	for _, name := range names {
		if values[name] != "" {
			members = append(members, fmt.Sprintf("%q:%s", name, values[name]))
		}
	}
	return "{" + strings.Join(members, ",") + "}"
}

func (c *corpus) goodTokens() {
	for _, key := range c.keys {
		for _, p := range []string{
			payload(),
			payload("aud", `["`+corpusAudience+`"]`),
			payload("aud", `["https://other.example","`+corpusAudience+`"]`),
			payload("sid", "", "roles", "", "auth_time", "", "amr", ""),
			payload("scope", `""`, "roles", "[]"),
			payload("nbf", fmt.Sprint(corpusMinted)),
			payload("exp", "9007199254740991"),
			payload("name", `"J\u00f6rg \ud83d\ude00 \u0000"`, "z", `{"a":[1,2.5,-3e-7,true,null,{"b":{}}]}`),
			payload("name", `"`+"Jörg 😀"+`"`),
			payload("SUB", `"usr_2"`, "Exp", "1", "ISS", `"x"`),
			strings.Replace(payload(), `"sub"`, `"\u0073ub"`, 1),
			strings.ReplaceAll(payload(), ",", " ,\r\n\t"),
			" " + payload() + "\n",
			payload("pad", `"`+strings.Repeat("x", 5000)+`"`),
		} {
			c.accept("good", key.token(key.header(), p))
		}
		c.accept("good", key.token(fmt.Sprintf(`{"typ":"at+jwt","kid":%q,"alg":%q}`, key.kid, key.alg), payload()))
		c.accept("good", key.token(fmt.Sprintf("{ \"kid\" : %q,\n\"\\u0061lg\":%q, \"typ\":\"at\\u002bjwt\"} ", key.kid, key.alg),
			payload()))
	}
}

// headers changes the header and signs it.
func (c *corpus) headers() {
	for _, key := range c.keys {
		with := func(more string) string { return strings.TrimSuffix(key.header(), "}") + "," + more + "}" }
		replace := func(old, text string) string { return strings.Replace(key.header(), old, text, 1) }
		jwk, _ := json.Marshal(key.public)
		classes := map[string][]string{
			"header: no typ": {replace(`,"typ":"at+jwt"`, "")},
			"header: other typ": {replace("at+jwt", "JWT"), replace("at+jwt", "jwt"), replace("at+jwt", "logout+jwt"),
				replace("at+jwt", ""), replace("at+jwt", "dpop+jwt"), replace("at+jwt", "blocklist+jwt"), replace("at+jwt", "at+jwt ")},
			"header: typ as media type": {replace("at+jwt", "application/at+jwt"), replace("at+jwt", "AT+JWT"),
				replace("at+jwt", "At+Jwt")},
			"header: typ no string": {replace(`"at+jwt"`, `["at+jwt"]`), replace(`"at+jwt"`, "null"), replace(`"at+jwt"`, "1"),
				replace(`"at+jwt"`, `{}`)},
			"header: crit": {
				with(`"crit":["exp"],"exp":4102444800`), with(`"crit":["exp"]`), with(`"crit":[]`), with(`"crit":null`), with(`"crit":"b64"`),
				with(`"crit":["b64"]`), with(`"crit":["alg"]`), with(`"crit":["x"],"x":1`), with(`"crit":[""]`), with(`"crit":{}`),
			},
			"header: b64":      {with(`"crit":["b64"],"b64":false`), with(`"b64":false`)},
			"header: b64 true": {with(`"crit":["b64"],"b64":true`), with(`"b64":true`)},
			"header: names a key": {with(`"jku":"https://evil.example/jwks.json"`), with(`"x5u":"https://evil.example/x.pem"`),
				with(`"x5c":["MIIB"]`), with(`"x5t":"AAAA"`), with(`"jwk":` + string(jwk))},
			"header: unknown member": {with(`"x":1`), with(`"cty":"JWT"`), with(`"zip":"DEF"`),
				with(`"iss":"` + corpusIssuer + `"`), with(`"nonce":"a"`), with(`"":""`)},
			"header: repeated member": {with(`"alg":"` + key.alg + `"`), with(`"kid":"` + key.kid + `"`), with(`"typ":"at+jwt"`),
				`{"alg":"none",` + key.header()[1:], `{"kid":"key-9",` + key.header()[1:], `{"typ":"JWT",` + key.header()[1:],
				`{"\u0061lg":"none",` + key.header()[1:]},
			"header: name in another case": {replace(`"alg"`, `"ALG"`), replace(`"kid"`, `"Kid"`), replace(`"typ"`, `"TYP"`)},
			"header: no alg":               {replace(fmt.Sprintf(`"alg":%q,`, key.alg), "")},
			"header: alg no string": {replace(fmt.Sprintf("%q", key.alg), "null"), replace(fmt.Sprintf("%q", key.alg), "256"),
				replace(fmt.Sprintf("%q", key.alg), fmt.Sprintf("[%q]", key.alg)), replace(fmt.Sprintf("%q", key.alg), "{}"),
				replace(fmt.Sprintf("%q", key.alg), "true")},
			"header: alg in another spelling": {
				replace(key.alg, strings.ToLower(key.alg)), replace(key.alg, " "+key.alg), replace(key.alg, key.alg+`\u0000`),
				replace(key.alg, key.alg+"\u200b"),
			},
			"header: kid in another spelling": {replace(key.kid, strings.ToUpper(key.kid)), replace(key.kid, key.kid+" "),
				replace(key.kid, key.kid+`\u0000`), replace(key.kid, `\ud800`)},
			"header: no kid": {replace(fmt.Sprintf(`"kid":%q,`, key.kid), "")},
			"header: kid no string": {replace(fmt.Sprintf("%q", key.kid), "null"), replace(fmt.Sprintf("%q", key.kid), "0"),
				replace(fmt.Sprintf("%q", key.kid), fmt.Sprintf("[%q]", key.kid)), replace(fmt.Sprintf("%q", key.kid), "{}"),
				replace(fmt.Sprintf("%q", key.kid), "false")},
			"header: unknown kid": {
				replace(key.kid, "key-9"), replace(key.kid, ""), replace(key.kid, "../../../../dev/null"), replace(key.kid, "' OR 1=1--"),
				replace(key.kid, "__proto__"), replace(key.kid, "toString"),
			},
			"header: not JSON": {
				"", "null", "[]", `"at+jwt"`, "1", "{", key.header() + "}", key.header() + "x", "\ufeff" + key.header(),
				strings.ReplaceAll(key.header(), `"`, "'"),
				strings.TrimSuffix(key.header(), "}") + ",}", key.header() + "\x00", "/**/" + key.header(), with("\"x\":\"\xff\""),
				"[" + key.header() + "]", "\x0b" + key.header(),
			},
			"header: too long": {with(`"x":"` + strings.Repeat("y", 6000) + `"`)},
		}
		for _, class := range slices.Sorted(maps.Keys(classes)) {
			for _, header := range classes[class] {
				c.refuse(class, key.token(header, payload()))
			}
		}
	}
}

// algorithms has a token say that it was signed in another way.
func (c *corpus) algorithms() {
	for _, key := range c.keys {
		header := func(alg string) string { return strings.Replace(key.header(), key.alg, alg, 1) }
		for _, alg := range []string{"none", "None", "NONE", "nOnE", ""} {
			signed := encode(header(alg)) + "." + encode(payload()) + "."
			c.refuse("alg: none", signed)
			c.refuse("alg: none", signed+encode(string(key.sign(signed[:len(signed)-1]))))
		}
		der, err := x509.MarshalPKIXPublicKey(key.private.Public())
		if err != nil {
			panic(err)
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
		jwk, _ := json.Marshal(key.public)
		set, _ := json.Marshal(c.JWKS)
		for _, secret := range [][]byte{text, bytes.TrimSpace(text), der, jwk, set, []byte(key.public.X + key.public.N), {},
			[]byte(key.kid), decode(key.public.X + key.public.N)} {
			for _, h := range []string{"HS256", "HS384", "HS512"} {
				signed := encode(header(h)) + "." + encode(payload())
				mac := hmac.New(sha256.New, secret)
				if h != "HS256" {
					mac = hmac.New(sha512.New, secret)
				}
				mac.Write([]byte(signed))
				c.refuse("alg: HMAC with the public key", signed+"."+encode(string(mac.Sum(nil))))
			}
		}
		for _, alg := range []string{"ES256", "ES384", "ES512", "ES256K", "EdDSA", "Ed25519", "Ed448", "RS256", "RS384", "RS512",
			"PS256", "PS384", "PS512", "HS256", "RSA-OAEP", "dir", "A128KW", "ML-DSA-44"} {
			if alg != key.alg {
				c.refuse("alg: another than the key's", key.token(header(alg), payload()))
			}
		}
		for _, other := range c.keys {
			if other.alg != key.alg {
				c.refuse("kid: of another key", key.token(fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":"at+jwt"}`, key.alg, other.kid), payload()))
				c.refuse("kid: of another key", key.token(fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":"at+jwt"}`, other.alg, other.kid), payload()))
			}
		}
	}
	// One key, one algorithm: these are right signatures of the key, by an algorithm that it is not published for.
	rs := c.keys[2]
	private := rs.private.(*rsa.PrivateKey)
	for _, hash := range []crypto.Hash{crypto.SHA384, crypto.SHA512} {
		signed := encode(strings.Replace(rs.header(), "RS256", fmt.Sprintf("RS%d", hash.Size()*8), 1)) + "." + encode(payload())
		sig, err := rsa.SignPKCS1v15(nil, private, hash, digest(hash, signed))
		if err != nil {
			panic(err)
		}
		c.refuse("alg: another of the same key", signed+"."+encode(string(sig)))
	}
	signed := encode(strings.Replace(rs.header(), "RS256", "PS256", 1)) + "." + encode(payload())
	sig, err := rsa.SignPSS(rand.Reader, private, crypto.SHA256, digest(crypto.SHA256, signed),
		&rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	if err != nil {
		panic(err)
	}
	c.refuse("alg: another of the same key", signed+"."+encode(string(sig)))
	ed := c.keys[1]
	c.refuse("alg: another of the same key", ed.token(strings.Replace(ed.header(), "EdDSA", "Ed25519", 1), payload()))
}

func digest(hash crypto.Hash, text string) []byte {
	h := hash.New()
	h.Write([]byte(text))
	return h.Sum(nil)
}

func decode(s string) []byte {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// claims changes one claim and signs.
func (c *corpus) claims() {
	change := func(class, name string, values ...string) {
		for _, value := range values {
			key := c.next()
			c.refuse("claim "+name+": "+class, key.token(key.header(), payload(name, value)))
		}
	}
	noString := []string{"null", "1", "0", "-1.5", "true", "false", "{}", "[]", `["x"]`, `{"x":"y"}`}
	for _, name := range []string{"iss", "sub", "jti", "client_id"} {
		change("missing", name, "")
		change("no string", name, noString...)
		change("empty", name, `""`)
	}
	change("no string", "sid", noString...)
	change("empty", "sid", `""`)
	change("no string", "scope", noString...)
	change("no string", "acr", noString...)
	change("no list of strings", "roles", "null", "1", `"editor"`, "{}", "[1]", "[null]", `["a",["b"]]`, "[{}]", "true")
	change("no list of strings", "amr", "null", "1", `"pwd"`, "{}", "[1]", "[null]", `["a",["b"]]`)

	change("missing", "aud", "")
	change("no string", "aud", "null", "1", "true", "{}", "[]", "[1]", "[null]", `[["`+corpusAudience+`"]]`,
		`{"`+corpusAudience+`":1}`)
	change("a list with more than strings", "aud", `["`+corpusAudience+`",1]`, `["`+corpusAudience+`",null]`,
		`[["x"],"`+corpusAudience+`"]`, `["`+corpusAudience+`",{}]`, `["`+corpusAudience+`",""]`)
	for _, name := range []string{"iss", "aud"} {
		url := map[string]string{"iss": corpusIssuer, "aud": corpusAudience}[name]
		for _, other := range []string{
			"", url + "/", strings.ToUpper(url), url + " ", " " + url, url[:len(url)-1], url + ".evil.example",
			strings.Replace(url, "https", "http", 1),
			url + `\u0000`, url + "?", "https://evil.example/?" + url, url + "," + url, "*", strings.Replace(url, "e", `\u0435`, 1),
			strings.Replace(url, "https", "HTTPS", 1),
		} {
			change("another", name, `"`+other+`"`)
		}
	}
	change("a list", "iss", `["`+corpusIssuer+`"]`)
	change("another, in a list", "aud", `["https://other.example"]`, `["`+corpusAudience+`/","x"]`, `["","x"]`)

	noTime := []string{
		"null", `"4102444800"`, "true", "false", "{}", "[]", "[4102444800]", `""`, "-1", "-4102444800",
	}
	for _, name := range []string{"exp", "iat"} {
		change("missing", name, "")
		change("no time", name, noTime...)
	}
	for _, name := range []string{"nbf", "auth_time"} {
		change("no time", name, noTime...)
	}
	change("passed", "exp", "1", "1000000000", fmt.Sprint(corpusMinted+1))
	change("not after iat", "exp", fmt.Sprint(corpusMinted), fmt.Sprint(corpusMinted-1), "0")
	change("no whole number", "exp", "4102444800.0", "4102444800.5", "4.1024448e9", "41024448E2")
	change("beyond 2^53", "exp", "9007199254740992", "18446744073709551616", "1e308", "1e400", "9"+strings.Repeat("0", 400))
	change("in the future", "iat", fmt.Sprint(corpusExpires-1), "4000000000")
	change("no whole number", "iat", "1767225600.0", "1767225600.9", "1.7672256e9")
	change("zero", "iat", "0")
	change("in the future", "nbf", fmt.Sprint(corpusExpires-1), "4000000000")
	change("no whole number", "nbf", "1767225600.5", "1.7672256e9")
	change("zero", "nbf", "0")
	change("no whole number", "auth_time", "1767225600.5", "1.7672256e9")
	change("zero", "auth_time", "0")
}

// payloads signs what is not one strict JSON object.
func (c *corpus) payloads() {
	good := payload()
	open := strings.TrimSuffix(good, "}")
	nested := func(depth int) string {
		return payload("x", strings.Repeat("[", depth)+strings.Repeat("]", depth))
	}
	for _, s := range []struct {
		class    string
		payloads []string
	}{
		{"payload: no object", []string{"", "null", "[]", `"x"`, "1", "true", "[" + good + "]", `"` + encode(good) + `"`}},
		{"payload: repeated claim", []string{
			open + `,"sub":"usr_2"}`, open + `,"exp":4102444801}`, open + `,"aud":"` + corpusAudience + `"}`, open + `,"sid":"ses_2"}`,
			`{"sub":"usr_2",` + good[1:], `{"exp":1,` + good[1:], `{"iss":"https://evil.example",` + good[1:],
			`{"aud":"https://evil.example",` + good[1:],
			open + `,"\u0073ub":"usr_2"}`, open + `,"jti":"jti_2"}`, open + `,"x":1,"x":2}`, open + `,"x":{"y":1,"y":2}}`,
		}},
		{"payload: not JSON", []string{
			open, open + ",}", good + "}", good + good, good + "x", good + ",", "x" + good, strings.ReplaceAll(good, `"`, "'"),
			"/**/" + good, good + "//", "#" + good,
			strings.Replace(good, `"sub"`, "sub", 1), strings.Replace(good, ":", "=", 1), strings.Replace(good, ",", ";", 1),
			strings.Replace(good, ",", ",,", 1), "{," + good[1:],
			open + `,"x":tru}`, open + `,"x":True}`, open + `,"x":undefined}`, open + `,"x":01}`, open + `,"x":+1}`, open + `,"x":.5}`,
			open + `,"x":1.}`,
			open + `,"x":0x10}`, open + `,"x":1e}`, open + `,"x":-}`, open + `,"x":"\x"}`, open + `,"x":"\u12"}`, open + "\x0c}",
			"\u00a0" + good,
			open + `,"x":[1,]}`, open + `,"x":{"y"}}`, open + `,"x"}`, open + `,1:2}`, strings.Repeat("{", 50) + strings.Repeat("}", 50),
		}},
		{"payload: NUL after the end", []string{good + "\x00", good + "\x00\x00"}},
		{"payload: NaN", []string{open + `,"x":NaN}`, open + `,"x":Infinity}`, open + `,"x":-Infinity}`}},
		{"payload: byte order mark", []string{"\ufeff" + good}},
		{"payload: control character in a string",
			[]string{open + ",\"x\":\"\n\"}", open + ",\"x\":\"\x00\"}", open + ",\"x\":\"\t\"}", open + ",\"x\":\"\x1f\"}"}},
		{"payload: not UTF-8", []string{open + ",\"x\":\"\xff\"}", open + ",\"x\":\"\xc0\xaf\"}", open + ",\"x\":\"\xed\xa0\x80\"}",
			open + ",\"x\":\"\xf4\x90\x80\x80\"}", open + ",\"x\":\"\xe2\x82\"}", open + ",\"\xff\":1}",
			strings.Replace(good, "usr_1", "usr\xff", 1)}},
		{"payload: UTF-16 or UTF-32", []string{utf16(good, binary.BigEndian), utf16(good, binary.LittleEndian), utf32(good)}},
		{"payload: lone surrogate", []string{open + `,"x":"\ud800"}`, open + `,"x":"\udc00"}`, open + `,"x":"\ud800\u0041"}`,
			open + `,"\ud800":1}`, strings.Replace(good, "usr_1", `\ud83d`, 1), open + `,"x":"\ude00\ud83d"}`}},
		{"payload: nested more than 16 deep", []string{nested(17), nested(100), nested(1000)}},
		{"payload: required claims in another case",
			[]string{strings.Replace(good, `"sub"`, `"Sub"`, 1), strings.Replace(good, `"exp"`, `"EXP"`, 1),
				strings.Replace(good, `"jti"`, `"jti "`, 1)}},
	} {
		for _, p := range s.payloads {
			for range 2 {
				key := c.next()
				c.refuse(s.class, key.token(key.header(), p))
			}
		}
	}
	key := c.next()
	c.refuse("payload: too long", key.token(key.header(), payload("pad", `"`+strings.Repeat("x", 8<<10)+`"`)))
}

func utf16(s string, order binary.AppendByteOrder) string {
	var b []byte
	for _, r := range s {
		b = order.AppendUint16(b, uint16(r)) //nolint:gosec // ASCII
	}
	return string(b)
}

func utf32(s string) string {
	var b []byte
	for _, r := range s {
		b = binary.BigEndian.AppendUint32(b, uint32(r)) //nolint:gosec // ASCII
	}
	return string(b)
}

// spellings writes a good token in another way.
func (c *corpus) spellings() {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for _, key := range c.keys {
		for n := range 4 {
			good := key.token(key.header(), payload("pad", `"`+strings.Repeat("ÿ?", n)+`"`))
			c.accept("good", good)
			parts := strings.Split(good, ".")
			for part, name := range []string{"header", "payload", "signature"} {
				with := func(text string) string {
					p := slices.Clone(parts)
					p[part] = text
					return strings.Join(p, ".")
				}
				// signed signs over the other spelling: an issuer that writes like this.
				signed := func(text string) string {
					p := slices.Clone(parts)
					p[part] = text
					p[2] = encode(string(key.sign(p[0] + "." + p[1])))
					return strings.Join(p, ".")
				}
				other := func(class, text string) {
					if text == parts[part] {
						return
					}
					c.refuse("spelling: "+class+" in the "+name, with(text))
					if part < 2 {
						c.refuse("spelling: "+class+" in the "+name+", signed", signed(text))
					}
				}
				p := parts[part]
				other("padding", p+strings.Repeat("=", (4-len(p)%4)%4))
				other("wrong padding", p+"===")
				other("base64 digits", strings.NewReplacer("-", "+", "_", "/").Replace(p))
				for _, space := range []string{" ", "\n", "\r\n", "\t"} {
					other("white space", p[:len(p)/2]+space+p[len(p)/2:])
					other("white space", p+space)
					other("white space", space+p)
				}
				other("junk", p[:len(p)/2]+"!"+p[len(p)/2:])
				other("junk", p+"\x00")
				other("junk", p+"é")
				other("junk", p+"*")
				if unused := len(p) % 4; unused > 1 { // the last digit has bits that stand for nothing
					last := strings.IndexByte(alphabet, p[len(p)-1])
					other("unused bits", p[:len(p)-1]+string(alphabet[last|1]))
				} else {
					other("a digit too many", p+"A")
				}
			}
			c.structure(good, parts)
		}
	}
}

// structure breaks the three parts of a token.
func (c *corpus) structure(good string, parts []string) {
	join := func(parts ...string) string { return strings.Join(parts, ".") }
	h, p, s := parts[0], parts[1], parts[2]
	flattened, _ := json.Marshal(map[string]string{"protected": h, "payload": p, "signature": s})
	for _, token := range []string{
		"", ".", "..", "...", "....", h, p, s, join(h, p), join(p, s), join(h, p, ""), join("", p, s), join(h, "", s), join(h, s, p),
		join(p, h, s), join(s, p, h),
		join(h, p, s, ""), join("", h, p, s), join(h, p, s, s), join(h, p, "", s), join(h, "", p, s), join(h, "", p, "", s),
		join(good, good), good + good,
		"Bearer " + good, good + " ", " " + good, good + "\n", "\ufeff" + good, good + "\x00", `"` + good + `"`, string(flattened),
		"[" + string(flattened) + "]",
		strings.ReplaceAll(good, ".", ","), strings.ReplaceAll(good, ".", "。"), strings.ToUpper(good), strings.ToLower(good),
		encode(good), good + "~", strings.Repeat(".", 1000), strings.Repeat("a.", 1000), strings.Repeat("A", 9000),
	} {
		c.refuse("structure", token)
	}
	for n := 1; n <= 8; n++ {
		c.refuse("structure: cut", good[:len(good)-n])
		c.refuse("structure: cut", good[n:])
		c.refuse("structure: longer", good+strings.Repeat("A", n))
	}
}

// signatures forges.
func (c *corpus) signatures() {
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	ec, ed, rs := c.keys[0], c.keys[1], c.keys[2]
	forger := signer{ec.alg, ec.kid, stranger, ec.public}
	c.refuse("signature: a stranger's", forger.token(ec.header(), payload()))
	jwk, err := verifier.NewJWK(ec.kid, stranger.Public())
	if err != nil {
		panic(err)
	}
	text, _ := json.Marshal(jwk)
	c.refuse("signature: a stranger's", forger.token(strings.TrimSuffix(ec.header(), "}")+`,"jwk":`+string(text)+"}", payload()))

	order := elliptic.P256().Params().N.Bytes()
	zero, one, all := make([]byte, 32), append(make([]byte, 31), 1), bytes.Repeat([]byte{0xff}, 32)
	signed := encode(ec.header()) + "." + encode(payload())
	good := ec.sign(signed)
	r, s := good[:32], good[32:]
	mirrored := new(big.Int).Sub(elliptic.P256().Params().N, new(big.Int).SetBytes(s)).FillBytes(make([]byte, 32))
	with := func(class string, signatures ...[]byte) {
		for _, sig := range signatures {
			c.refuse("signature: "+class, signed+"."+encode(string(sig)))
		}
	}
	cat := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	with("numbers out of range", cat(zero, zero), cat(zero, s), cat(r, zero), cat(order, s), cat(r, order), cat(order, order),
		cat(all, all), cat(one, one), cat(zero, one), cat(one, zero), cat(s, r))
	with("length", good[:63], good[1:], append(slices.Clone(good), 0), cat([]byte{0}, good), cat(zero, good),
		cat(r, zero[:16], s), r, good[:1], cat(good, good))
	der, err := stranger.Sign(rand.Reader, digest(crypto.SHA256, signed), crypto.SHA256)
	if err != nil {
		panic(err)
	}
	own, err := ec.private.Sign(rand.Reader, digest(crypto.SHA256, signed), crypto.SHA256)
	if err != nil {
		panic(err)
	}
	with("DER", der, own)
	// The one that every verifier of ECDSA accepts: only the holder of the token could make it, and no revocation goes by
	// a token's text.
	c.accept("good: mirrored", signed+"."+encode(string(cat(r, mirrored))))

	signed = encode(ed.header()) + "." + encode(payload())
	good = ed.sign(signed)
	l, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	sum := new(big.Int).Add(l, new(big.Int).SetBytes(reversed(good[32:])))
	with("numbers out of range", cat(good[:32], reversed(sum.FillBytes(make([]byte, 32)))), make([]byte, 64), cat(one, zero),
		cat([]byte{1}, make([]byte, 63)), cat(all, all), cat(good[32:], good[:32]))
	with("length", good[:63], good[1:], append(slices.Clone(good), 0), good[:32], cat(good, good))

	signed = encode(rs.header()) + "." + encode(payload())
	good = rs.sign(signed)
	public := rs.private.Public().(*rsa.PublicKey)
	plus := new(big.Int).Add(public.N, new(big.Int).SetBytes(good)).Bytes()
	with("numbers out of range", make([]byte, 256), append(make([]byte, 255), 1), bytes.Repeat([]byte{0xff}, 256),
		public.N.FillBytes(make([]byte, 256)), plus, new(big.Int).Sub(public.N, big.NewInt(1)).FillBytes(make([]byte, 256)))
	with("length", good[:255], good[1:], append(slices.Clone(good), 0), cat([]byte{0}, good), cat(good, good), good[:128])

	for _, key := range c.keys {
		for _, other := range c.keys {
			one, two := key.token(key.header(), payload()), other.token(other.header(), payload("sub", `"usr_2"`))
			c.refuse("signature: of another token", one[:strings.LastIndex(one, ".")]+two[strings.LastIndex(two, "."):])
		}
	}
}

func reversed(b []byte) []byte {
	b = slices.Clone(b)
	slices.Reverse(b)
	return b
}

// damage changes single bits and bytes, anywhere.
func (c *corpus) damage() {
	for _, key := range c.keys {
		good := key.token(key.header(), payload())
		parts := strings.Split(good, ".")
		for part, name := range []string{"header", "payload", "signature"} {
			raw := decode(parts[part])
			for range 40 {
				damaged := slices.Clone(raw)
				damaged[c.random.IntN(len(damaged))] ^= 1 << c.random.IntN(8)
				p := slices.Clone(parts)
				p[part] = encode(string(damaged))
				c.refuse("damage: a bit of the "+name, strings.Join(p, "."))
			}
		}
		for range 60 {
			b := []byte(good)
			for at := c.random.IntN(len(b)); string(b) == good; {
				b[at] = byte(c.random.IntN(128)) // others would not survive JSON
			}
			if !c.sameText(string(b), good) {
				c.refuse("damage: a byte of the text", string(b))
			}
		}
	}
}

// sameText reports whether only unused bits of a last digit differ: another spelling, which has a class of its own.
func (c *corpus) sameText(a, b string) bool {
	loose := func(s string) string {
		var out []string
		for part := range strings.SplitSeq(s, ".") {
			raw, err := base64.RawURLEncoding.DecodeString(part)
			if err != nil {
				return s
			}
			out = append(out, string(raw))
		}
		return strings.Join(out, "\xff.")
	}
	return loose(a) == loose(b)
}
