package verifier

import (
	"errors"
	"fmt"
	"testing"
)

func TestVerifySigned(t *testing.T) {
	v, s := local(t), signers()[ES256]
	header := func(typ string) string { return fmt.Sprintf(`{"alg":"ES256","kid":%q,"typ":%q}`, s.kid, typ) }
	for name, c := range map[string]struct {
		raw, typ string
		want     error
	}{
		"ok/logout token":        {s.sign(header("logout+jwt"), claims(testIssuer)), "logout+jwt", nil},
		"ok/id token":            {s.sign(header("JWT"), claims(testIssuer)), "JWT", nil},
		"fail/another type":      {s.sign(header("JWT"), claims(testIssuer)), "logout+jwt", ErrMalformed},
		"fail/access token":      {s.sign(header("at+jwt"), claims(testIssuer)), "at+jwt", ErrMalformed},
		"fail/access token JWT":  {s.sign(header("JWT"), claims(testIssuer, "token_use", `"access"`)), "JWT", ErrMalformed},
		"fail/another issuer":    {s.sign(header("JWT"), claims("https://other.example")), "JWT", ErrIssuer},
		"fail/no issuer":         {s.sign(header("JWT"), claims(testIssuer, "iss", "")), "JWT", ErrIssuer},
		"fail/another key":       {newSigner(s.kid).sign(header("JWT"), claims(testIssuer)), "JWT", ErrSignature},
		"fail/unknown key":       {s.sign(`{"alg":"ES256","kid":"x","typ":"JWT"}`, claims(testIssuer)), "JWT", ErrUnknownKey},
		"fail/another algorithm": {s.sign(`{"alg":"EdDSA","kid":"key-ec","typ":"JWT"}`, claims(testIssuer)), "JWT", ErrSignature},
		"fail/none":              {encode([]byte(`{"alg":"none","kid":"key-ec","typ":"JWT"}`)) + ".e30.", "JWT", ErrMalformed},
		"fail/repeated name":     {s.sign(header("JWT"), `{"iss":"`+testIssuer+`","sub":"a","sub":"b"}`), "JWT", ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			signed, err := v.VerifySigned(t.Context(), c.raw, c.typ)
			if !errors.Is(err, c.want) || err == nil != (c.want == nil) {
				t.Fatalf("error %v, want %v", err, c.want)
			}
			if err != nil {
				return
			}
			var subject string
			if found, err := signed.Decode("sub", &subject); !found || err != nil || subject != "usr_1" || signed.KeyID != s.kid {
				t.Errorf("%q %v %v", subject, found, err)
			}
		})
	}
}
