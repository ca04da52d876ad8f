package verifier

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzVerify holds that nothing panics, and that of all texts only the good token itself is accepted. (The mirrored
// ES256 signature would be too: to find it takes the knowledge of how, which a fuzzer has not.)
func FuzzVerify(f *testing.F) {
	v := local(f)
	good := map[string]bool{}
	for _, s := range signers() {
		raw := s.sign(s.header(), claims(testIssuer))
		good[raw] = true
		f.Add(raw)
		f.Add(raw + "=")
		f.Add(raw[:len(raw)-1])
		f.Add(strings.Replace(raw, ".", "..", 1))
		f.Add(raw[:strings.LastIndexByte(raw, '.')+1])
	}
	f.Add("")
	f.Add("..")
	f.Add("e30.e30.AAAA")
	f.Fuzz(func(t *testing.T, raw string) {
		c, err := v.Verify(t.Context(), raw)
		if (err == nil) != good[raw] || (c == nil) != (err != nil) {
			t.Errorf("Verify(%q) = %v, %v", raw, c, err)
		}
	})
}

// FuzzHeader holds that whatever header is accepted says exactly what encoding/json reads in it, and re-encodes to the same part.
func FuzzHeader(f *testing.F) {
	for _, s := range signers() {
		f.Add(s.header())
	}
	f.Add(`{"typ":"at+jwt","kid":"a\u0062","alg":"x"}`)
	f.Add(`{"alg":"x","kid":"y","typ":"at+jwt","typ":"at+jwt"}`)
	f.Fuzz(func(t *testing.T, header string) {
		h, err := parseHeader(encode([]byte(header)), []string{TypeAccessToken})
		if err != nil {
			return
		}
		var got map[string]string
		if err := json.Unmarshal([]byte(header), &got); err != nil ||
			!reflect.DeepEqual(got, map[string]string{"alg": h.alg, "kid": h.kid, "typ": "at+jwt"}) {
			t.Errorf("parseHeader(%q) = %q, %q, but encoding/json reads %v, %v", header, h.alg, h.kid, got, err)
		}
	})
}

// FuzzPayload holds that an authentic payload never makes anything panic, and that a claim has the value that
// encoding/json reads.
func FuzzPayload(f *testing.F) {
	f.Add(claims(testIssuer))
	f.Add(claims(testIssuer, "cnf", `{"a":[1,{"b":null}]}`))
	f.Add(`{"sub":"\ud83d\ude00\u0000"}`)
	f.Add(strings.Repeat(`{"a":`, 20))
	key := signers()[ES256].key(f)
	f.Fuzz(func(t *testing.T, payload string) {
		members, ok := parseObject(payload, nil)
		if ok != strictly(payload) {
			t.Fatalf("parseObject(%q) = %v", payload, ok)
		}
		for _, m := range members {
			var got any
			if err := json.Unmarshal([]byte(m.value), &got); err != nil {
				t.Fatalf("value %q: %v", m.value, err)
			}
			if s, ok := unquote(m.value); ok && got != s {
				t.Fatalf("unquote(%q) = %q, want %q", m.value, s, got)
			}
			if list, ok := unquoteAll(m.value); ok {
				var want []string
				if err := json.Unmarshal([]byte(m.value), &want); err != nil || len(want) != len(list) {
					t.Fatalf("unquoteAll(%q) = %q, want %q", m.value, list, want)
				}
			}
			if n, ok := integer(m.value); ok && got != float64(n) {
				t.Fatalf("integer(%q) = %d, want %v", m.value, n, got)
			}
		}
		if c, err := parseClaims(payload, key); err == nil && (c.Issuer == "" || c.ExpiresAt.IsZero() || len(c.blockKeys()) < 3) {
			t.Fatalf("parseClaims(%q) = %+v", payload, c)
		}
	})
}

// strictly reports whether text is one JSON object as the reader wants it, by way of encoding/json's tokens.
func strictly(text string) bool {
	if !utf8.ValidString(text) || !json.Valid([]byte(text)) || !strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "{") {
		return false
	}
	type level struct {
		names map[string]bool // nil in an array
		value bool            // a value is next, not a name
	}
	var stack []level
	d := json.NewDecoder(strings.NewReader(text))
	for {
		token, err := d.Token()
		if err != nil {
			break
		}
		top := len(stack) - 1
		if name, ok := token.(string); ok && top >= 0 && stack[top].names != nil && !stack[top].value {
			if stack[top].names[name] {
				return false
			}
			stack[top].names[name], stack[top].value = true, true
			continue
		}
		if top >= 0 {
			stack[top].value = false
		}
		switch token {
		case json.Delim('{'):
			stack = append(stack, level{names: map[string]bool{}})
		case json.Delim('['):
			stack = append(stack, level{})
		case json.Delim('}'), json.Delim(']'):
			stack = stack[:top]
			if top > 0 {
				stack[top-1].value = false
			}
		}
		if len(stack) > maxDepth {
			return false
		}
	}
	return !loneSurrogate(text)
}

// loneSurrogate reports whether text, which is valid JSON, has an escape of half a surrogate pair, which encoding/json replaces.
func loneSurrogate(text string) bool {
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		if text[i+1] != 'u' {
			i++
			continue
		}
		n := escape(text[i:])
		if n == 0 {
			return true
		}
		i += n - 1
	}
	return false
}

// FuzzEvents holds that a stream of nonsense makes nothing panic and is never taken for more than it is.
func FuzzEvents(f *testing.F) {
	f.Add("retry: 1000\n\nevent: entries\nid: 1\ndata: {}\n\n: x\r\n\r\nevent: heartbeat\ndata: " +
		"{\"as_of\":\"2026-01-01T00:00:00Z\"}\n\n")
	f.Add("event: reset\n\n")
	f.Fuzz(func(t *testing.T, stream string) {
		er := eventReader{r: newSmallReader(stream), heard: func() {}}
		total := 0
		for {
			e, err := er.next()
			if err != nil {
				break
			}
			if total += len(e.data) + len(e.name) + len(e.id); total > len(stream) {
				t.Fatalf("%d bytes of events out of %q", total, stream)
			}
		}
	})
}

// FuzzJWKS holds that a set of keys of nonsense makes nothing panic, and that what is accepted is usable.
func FuzzJWKS(f *testing.F) {
	for _, s := range signers() {
		k, _ := NewJWK(s.kid, s.private.Public())
		b, _ := json.Marshal(JWKSet{Keys: []JWK{k}})
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		set, err := parseKeys(body, nil)
		if err != nil {
			return
		}
		for kid, key := range set {
			if kid == "" || key.ID() != kid {
				t.Errorf("kid %q: %+v", kid, key)
			}
			_ = key.verify("a.b", "AAAA")
		}
	})
}
