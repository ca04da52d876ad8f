package keyring

import (
	"strings"
	"testing"

	"github.com/handstamp/handstamp/pkg/verifier"
)

func TestKidIsNoFlag(t *testing.T) {
	t.Parallel()
	master, err := ParseMasterKey("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSealer(master)
	if err != nil {
		t.Fatal(err)
	}
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
