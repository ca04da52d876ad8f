package examples

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/handstamp/handstamp/pkg/verifier"
)

// verdict says who accepts a token in another language: the library as its documentation recommends to use it, and our example.
type verdict struct{ Library, Example bool }

// The Go verifier, jose and PyJWT judge the same tokens.
func TestDifferential(t *testing.T) {
	c := newCorpus(t)
	if len(c.Tokens) < 1000 {
		t.Fatalf("only %d tokens", len(c.Tokens))
	}
	jose := c.judge(t, command(t, "verify-node", installNode(t), "test/judge.mjs"))
	pyjwt := c.judge(t, command(t, "verify-python", installPython(t), "judge.py"))
	judge := c.verifier(t)

	classes, accepted := map[string]bool{}, 0
	lenient := map[string]map[string]int{} // class and who accepts it although Go does not
	for i, s := range c.Tokens {
		classes[s.Class] = true
		_, err := judge.Verify(t.Context(), s.Token)
		if err != nil && !errors.Is(err, verifier.ErrInvalid) {
			t.Fatalf("%s: %v\n%q", s.Class, err, s.Token)
		}
		verdicts := map[string]bool{
			"jose":          jose[i].Library,
			"PyJWT":         pyjwt[i].Library,
			"verify-node":   jose[i].Example,
			"verify-python": pyjwt[i].Example,
		}
		if (err == nil) != s.good {
			t.Errorf("%s: %v; verdicts of the others: %v\n%q", s.Class, err, verdicts, s.Token)
		}
		if err == nil && !jose[i].Library && !pyjwt[i].Library {
			t.Errorf("%s: accepted, which neither jose nor PyJWT does\n%q", s.Class, s.Token)
		}
		if err == nil {
			accepted++
		}
		for who, accepts := range verdicts {
			switch {
			case s.good && !accepts:
				t.Errorf("%s: %s refuses\n%q", s.Class, who, s.Token)
			case !s.good && accepts:
				if lenient[s.Class] == nil {
					lenient[s.Class] = map[string]int{}
				}
				lenient[s.Class][who]++
			}
		}
	}
	t.Logf("%d tokens of %d classes, %d good", len(c.Tokens), len(classes), accepted)
	for _, class := range slices.Sorted(maps.Keys(lenient)) {
		who := strings.Join(slices.Sorted(maps.Keys(lenient[class])), " ")
		t.Logf("stricter: %s: %v", class, lenient[class])
		if want := stricter()[class]; who != want {
			t.Errorf("%s: Go refuses what %s accept; expected of %q", class, who, want)
		}
	}
	for class := range stricter() {
		if lenient[class] == nil {
			t.Errorf("%s: nobody accepts that any more", class)
		}
	}
}

// stricter lists the classes of which others accept tokens, and who does. The issuer would have to sign them, which it
// does not, or they are another spelling of a token that it did sign.
func stricter() map[string]string {
	const (
		libraries = "PyJWT jose"
		node      = "jose verify-node"
		python    = "PyJWT verify-python"
		everybody = "PyJWT jose verify-node verify-python"
	)
	return map[string]string{
		// Exactly alg, kid and typ, each once.
		"header: b64":                  "jose", // ignored unless crit names it
		"header: b64 true":             libraries,
		"header: name in another case": "jose", // which takes the only key of the algorithm if there is no kid
		"header: names a key":          libraries,
		"header: no kid":               "jose",
		"header: not JSON":             everybody, // a byte order mark
		"header: repeated member":      everybody, // the last counts
		"header: too long":             libraries,
		"header: typ as media type":    "jose", // RFC 7515, section 4.1.9, allows it
		"header: unknown member":       libraries,

		// Claims of the types that the standards give them.
		"claim acr: no string":                     everybody,
		"claim amr: no list of strings":            everybody,
		"claim aud: a list with more than strings": everybody,
		"claim auth_time: no time":                 everybody,
		"claim auth_time: no whole number":         everybody,
		"claim auth_time: zero":                    everybody,
		"claim client_id: empty":                   libraries,
		"claim client_id: no string":               libraries,
		"claim exp: beyond 2^53":                   libraries,
		"claim exp: no time":                       "PyJWT", // digits in a string
		// RFC 7519 allows fractions; JavaScript does not tell 1.0 from 1
		"claim exp: no whole number":      "PyJWT jose verify-node",
		"claim iat: in the future":        "jose",
		"claim iat: no time":              libraries,
		"claim iat: no whole number":      "PyJWT jose verify-node",
		"claim iat: zero":                 libraries,
		"claim jti: empty":                libraries,
		"claim jti: no string":            "jose",
		"claim nbf: no time":              libraries,
		"claim nbf: no whole number":      "PyJWT jose verify-node",
		"claim nbf: zero":                 libraries,
		"claim roles: no list of strings": everybody,
		"claim scope: no string":          everybody,
		"claim sid: empty":                libraries,
		"claim sid: no string":            libraries,
		"claim sub: empty":                libraries,
		"claim sub: no string":            "jose",

		// One JSON object with distinct names, in UTF-8.
		"payload: NaN":                      python,
		"payload: UTF-16 or UTF-32":         python,
		"payload: byte order mark":          everybody,
		"payload: lone surrogate":           everybody,
		"payload: nested more than 16 deep": everybody,
		"payload: not UTF-8":                python, // surrogates in three bytes
		"payload: repeated claim":           everybody,
		"payload: too long":                 libraries,

		// One spelling of base64url.
		"spelling: padding in the header, signed":      libraries,
		"spelling: padding in the payload, signed":     libraries,
		"spelling: padding in the signature":           libraries,
		"spelling: unused bits in the header, signed":  node,
		"spelling: unused bits in the payload, signed": node,
		"spelling: unused bits in the signature":       node,
		"spelling: white space in the header, signed":  "jose",
		"spelling: white space in the payload, signed": "jose",
		"spelling: white space in the signature":       "jose",
		"structure":                                    "jose", // white space at the end
	}
}

// judge has a program of another language judge the corpus.
func (c *corpus) judge(t *testing.T, command *exec.Cmd) []verdict {
	t.Helper()
	input, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	command.Stdin = bytes.NewReader(input)
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, stderrOf(err))
	}
	var verdicts []verdict
	if err := json.Unmarshal(out, &verdicts); err != nil || len(verdicts) != len(c.Tokens) {
		t.Fatalf("%s: %d verdicts on %d tokens, %v", command, len(verdicts), len(c.Tokens), err)
	}
	return verdicts
}

// verifier returns the verifier of the corpus.
func (c *corpus) verifier(t *testing.T) *verifier.Verifier {
	t.Helper()
	keys := map[string]*verifier.Key{}
	for _, s := range c.keys {
		key, err := verifier.NewKey(s.kid, s.private.Public())
		if err != nil {
			t.Fatal(err)
		}
		keys[s.kid] = key
	}
	v, err := verifier.New(t.Context(), c.Issuer, verifier.WithAudience(c.Audience), verifier.WithoutFeed(),
		verifier.WithKeys(func(kid string) (*verifier.Key, bool) { key, ok := keys[kid]; return key, ok }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}
