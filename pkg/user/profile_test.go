package user_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/handstamp/handstamp/pkg/user"
)

func TestChange(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"given_name", " Zoë ", "Zoë"},
		{"family_name", "O'Brien", "O'Brien"},
		{"preferred_username", "zoe", "zoe"},
		{"picture", "https://cdn.example/a.png?x=1", "https://cdn.example/a.png?x=1"},
		{"website", "http://zoe.example", "http://zoe.example"},
		{"locale", "de_AT", "de-AT"},
		{"locale", "pt-br", "pt-BR"},
		{"zoneinfo", "America/Argentina/Buenos_Aires", "America/Argentina/Buenos_Aires"},
		{"zoneinfo", "Etc/GMT+5", "Etc/GMT+5"},
		{"zoneinfo", "UTC", "UTC"},
	} {
		var c user.Change
		if err := c.Set(row.name, row.text); err != nil || c.Profile[row.name] == nil || *c.Profile[row.name] != row.want {
			t.Errorf("ok/%s %q: %v, %v", row.name, row.text, c.Profile, err)
		}
		if err := c.Set(row.name, " "); err != nil || c.Profile[row.name] != nil {
			t.Errorf("ok/%s removed: %v, %v", row.name, c.Profile, err)
		}
	}
	for _, row := range []struct{ name, text string }{
		{"given_name", strings.Repeat("x", 201)},
		{"family_name", "a\x00b"},
		{"preferred_username", "a\nb"},
		{"preferred_username", "somebody@example.com"},
		{"picture", "javascript:alert(1)"},
		{"picture", "data:image/png;base64,AA=="},
		{"picture", "/relative.png"},
		{"picture", "https://user:secret@cdn.example/a.png"},
		{"website", "https://"},
		{"website", "https://x.example/" + strings.Repeat("x", 2048)},
		{"locale", "not a locale"},
		{"zoneinfo", "Vienna"},
		{"zoneinfo", "../../etc/passwd\x00"},
		{"zoneinfo", "Europe/Wien und so"},
		{"email", "a@b.example"},
		{"", "x"},
	} {
		var c user.Change
		if err := c.Set(row.name, row.text); !errors.Is(err, user.ErrInvalidAttribute) || len(c.Profile) > 0 {
			t.Errorf("fail/%s %q: %v, %v", row.name, row.text, c.Profile, err)
		}
	}
}

func TestProfileOf(t *testing.T) {
	claims := map[string]string{"given_name": "Ann", "picture": "javascript:alert(1)", "locale": "en", "zoneinfo": "nowhere"}
	got := user.ProfileOf(func(name string) string { return claims[name] })
	if want := (user.Profile{GivenName: "Ann", Locale: "en"}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
