package signin

import (
	"testing"

	"github.com/handstamp/handstamp/pkg/seal"
)

// A state of each purpose opens for that one only, and no text that is cut or changed opens at all.
func TestStatesKeepToTheirPurpose(t *testing.T) {
	master, err := seal.ParseMasterKey("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		t.Fatal(err)
	}
	s := NewStates(master)
	states := map[string]any{
		requestPurpose: &requestState{Parameters: "client_id=app", Authenticated: true},
		logoutPurpose:  &logoutState{Parameters: "client_id=app"},
		linkPurpose:    &linkState{UserID: "usr_a", Provider: "google"},
	}
	for of, state := range states {
		sealed := s.seal(of, state)
		for as := range states {
			var into map[string]any
			if got := s.open(as, sealed, &into); got != (of == as) {
				t.Errorf("a state of %q opens for %q: %t", of, as, got)
			}
		}
		var into map[string]any
		for _, text := range []string{"", sealed[:len(sealed)-4], sealed + "AAAA", "A" + sealed[1:] + "=", sealed[4:]} {
			if s.open(of, text, &into) {
				t.Errorf("%q opens", text)
			}
		}
	}
}
