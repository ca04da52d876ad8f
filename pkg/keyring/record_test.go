package keyring

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/verifier"
)

func testSealer(t *testing.T) sealer {
	t.Helper()
	master, err := seal.ParseMasterKey("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		t.Fatal(err)
	}
	return newSealer(master)
}

// A row that a program before pkg/seal has written.
func TestRecordBefore(t *testing.T) {
	t.Parallel()
	decode := func(s string) []byte {
		out, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	record := Record{
		ID: "Trr0l0QKzKZGvAdhT_60Fq1W4OiXPlyaz7z9nE71J8M", Algorithm: verifier.EdDSA,
		Sealed: decode("AXNu585y44D4Air+oqdGsRx5g3RonqZGNBLq3wWivbOJ6rS7tz9/Dk2g9kpH2qutB16zDrKDYRqdH0msyClmnetfXGFYK9MzvBd6R4s="),
		Public: decode("MCowBQYDK2VwAyEAYqKm+i7tnq9orDw55t3MCvGvAhy5/u7J7WflniR4gw4="),
	}
	signer, err := testSealer(t).open(record)
	if err != nil {
		t.Fatal(err)
	}
	if public, err := x509.MarshalPKIXPublicKey(signer.Public()); err != nil || !bytes.Equal(public, record.Public) {
		t.Errorf("another private half: %v", err)
	}
	var other crypto.Signer
	record.ID = "x" + record.ID[1:]
	if other, err = testSealer(t).open(record); !errors.Is(err, ErrSealed) || other != nil {
		t.Errorf("opens in another row: %v", err)
	}
}

func TestKidIsNoFlag(t *testing.T) {
	t.Parallel()
	s := testSealer(t)
	for range 500 { // one kid in 64 would
		record, err := s.newRecord(verifier.EdDSA)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(record.ID, "-") {
			t.Fatalf("`handstamp keys revoke %s` would take the kid for a flag", record.ID)
		}
	}
}
