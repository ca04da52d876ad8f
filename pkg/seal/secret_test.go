package seal_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/handstamp/handstamp/pkg/seal"
)

func TestSecretIsNeverPrinted(t *testing.T) {
	secret := seal.Secret("canary")
	holder := struct{ Secret seal.Secret }{secret}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%08b", "%t"} {
		for _, value := range []any{secret, &secret, holder, []seal.Secret{secret}, map[string]seal.Secret{"a": secret}} {
			fmt.Fprintf(&out, verb+"\n", value)
		}
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("start", "secret", secret, "holder", holder)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("start", "secret", secret, "holder", holder)
	if err := json.NewEncoder(&out).Encode(holder); err != nil {
		t.Fatal(err)
	}
	hex := fmt.Sprintf("%x", "canary")
	if text := strings.ToLower(out.String()); !strings.Contains(text, "[redacted]") || strings.Contains(text, "canary") ||
		strings.Contains(text, hex) {
		t.Error(out.String())
	}
	if got := fmt.Sprint(seal.Secret("")); got != "" {
		t.Errorf("nothing is printed as %q", got)
	}
}
