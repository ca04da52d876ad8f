package pages

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// everyMail returns each mail at its fullest.
func everyMail() map[string]Mail {
	at := time.Date(2026, 11, 28, 14, 12, 0, 0, time.UTC)
	const issuer, agent = "https://login.example.com", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
	token := "?token=hem_3kq5mfgmbz7cbvhxqkxmc4qa"
	told := Mail{At: at, IP: "192.0.2.7", Agent: agent}
	with := func(m Mail, change func(m *Mail)) Mail { change(&m); return m }
	all := map[string]Mail{
		"verify":           {Link: issuer + "/email/verify" + token, Code: "48213097", Lasts: 24 * time.Hour},
		"reset":            {Link: issuer + "/password/reset" + token, Code: "48213097", Lasts: 30 * time.Minute},
		"login_code":       {Code: "48213097", Lasts: 10 * time.Minute},
		"no_account":       {},
		"account_exists":   {},
		"invitation":       {Link: issuer + "/invitation" + token, Lasts: 7 * 24 * time.Hour},
		"password_changed": told,
		"email_changed":    with(told, func(m *Mail) { m.Address = "old@example.com" }),
		"email_changed_old": with(told, func(m *Mail) {
			m.Address, m.Link, m.Lasts = "new@example.com", issuer+"/email/undo"+token, 72*time.Hour
		}),
		"new_device":      told,
		"factor_added":    with(told, func(m *Mail) { m.Factor = "Ada’s phone" }),
		"factor_removed":  with(told, func(m *Mail) { m.Factor = "Ada’s phone" }),
		"account_deleted": told,
		"test":            {},
	}
	for name, m := range all {
		m.Name = name
		all[name] = m
	}
	return all
}

// mailKeys are the texts that mails use.
func mailKeys() []string {
	keys := []string{
		"mail.code", "mail.code.or", "mail.lasts", "mail.link", "mail.when", "mail.device", "mail.ip", "mail.on", "mail.foot",
		"mail.login_code.button", // with a link
	}
	for name, m := range everyMail() {
		keys = append(keys, "mail."+name+".subject", "mail."+name+".text")
		if m.Link != "" {
			keys = append(keys, "mail."+name+".button")
		}
		if name != "test" {
			keys = append(keys, "mail."+name+".advice")
		}
	}
	return keys
}

func mailRenderer(t *testing.T, b Branding) *Renderer {
	t.Helper()
	r, err := New(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var updateMails = flag.Bool("update-mails", false, "write the golden files of mails") //nolint:gochecknoglobals // a flag

// TestMails compares each mail in each built-in language with testdata/mail.
func TestMails(t *testing.T) {
	r := mailRenderer(t, Branding{
		Name:       "Acme",
		Accent:     "#0a58ca",
		SupportURL: "mailto:help@example.com",
		PrivacyURL: "https://example.com/privacy",
	})
	for name, m := range everyMail() {
		for _, lang := range []string{"en", "de"} {
			t.Run("ok/"+name+"/"+lang, func(t *testing.T) {
				got, err := r.Mail(lang, m)
				if err != nil {
					t.Fatal(err)
				}
				for extension, text := range map[string]string{
					".txt":  "Subject: " + got.Subject + "\n\n" + got.Text,
					".html": got.HTML,
				} {
					file := filepath.Join("testdata", "mail", name+"."+lang+extension)
					if *updateMails {
						if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
							t.Fatal(err)
						}
					}
					want, err := os.ReadFile(file)
					if err != nil {
						t.Fatal(err)
					}
					if text != string(want) {
						t.Errorf("%s differs; go test ./api/pages -run TestMails -update-mails writes it anew:\n%s", file, text)
					}
				}
				if strings.Contains(got.Text, "{") {
					t.Error("a placeholder that nobody fills in")
				}
			})
		}
	}
}

// A program for mail loads nothing from elsewhere, and a reader finds links to the issuer and to the operator only.
func TestMailsLoadNothing(t *testing.T) {
	png := []byte("\x89PNG\r\n\x1a\n a picture")
	for brand, b := range map[string]Branding{
		"plain":     {},
		"with logo": {Name: "Acme", Logo: png, TermsURL: "https://example.com/terms"},
		"with svg":  {Name: "Acme", Logo: []byte("<svg xmlns='http://www.w3.org/2000/svg'></svg>")},
	} {
		r := mailRenderer(t, b)
		for name, m := range everyMail() {
			got, err := r.Mail("de", m)
			if err != nil {
				t.Fatal(err)
			}
			if (got.Logo != nil) != (brand == "with logo") || (got.Logo != nil) != strings.Contains(got.HTML, "cid:logo") {
				t.Errorf("%s %s: logo %q", brand, name, got.LogoType)
			}
			tree, err := html.Parse(strings.NewReader(got.HTML))
			if err != nil {
				t.Fatal(err)
			}
			for n := range tree.Descendants() {
				for _, a := range n.Attr {
					switch a.Key {
					case "src", "background", "srcset", "action", "data", "poster":
						if a.Val != "cid:logo" {
							t.Errorf("%s %s: %s=%q", brand, name, a.Key, a.Val)
						}
					case "href":
						if a.Val != m.Link && a.Val != b.TermsURL {
							t.Errorf("%s %s: links to %q", brand, name, a.Val)
						}
					}
				}
			}
			if regexp.MustCompile(`(?i)url\(|@import|<script|<link|<form`).MatchString(got.HTML) {
				t.Errorf("%s %s: it loads or runs something", brand, name)
			}
		}
	}
}

// TestEM11_MailsEscapeWhatUsersChose puts hostile texts where a user's text may stand.
func TestEM11_MailsEscapeWhatUsersChose(t *testing.T) {
	const hostile = "x\r\nBcc: victim@example.com\r\n\r\n<script>alert(1)</script>\u202e{brand} <a href=https://evil.example>"
	r := mailRenderer(t, Branding{Name: "A<b>c & d"})
	for name, m := range everyMail() {
		m.Address, m.Factor, m.Agent, m.IP, m.Code = hostile, hostile, hostile, hostile, hostile
		got, err := r.Mail("en", m)
		if err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(got.Subject, "\r\n\u202e") || strings.Contains(got.Subject, "victim") {
			t.Errorf("%s: subject %q", name, got.Subject)
		}
		if strings.Contains(got.HTML, "<script") || strings.Contains(got.HTML, "<a href=https://evil") ||
			strings.Contains(got.HTML, "A<b>") {
			t.Errorf("%s: not escaped: %s", name, got.HTML)
		}
		if strings.Contains(got.Text, "\r") {
			t.Errorf("%s: text %q", name, got.Text)
		}
	}
}

// The texts of both schemes can be read.
func TestMailsAreLegible(t *testing.T) {
	for _, accent := range []string{"", "#ffff00", "#000000", "#ffffff", "#0a58ca"} {
		r := mailRenderer(t, Branding{Name: "Acme", Accent: accent})
		for scheme, p := range map[string]palette{"light": r.look.light, "dark": r.look.dark} {
			for what, pair := range map[string][2]colour{
				"text": {p.text, p.card}, "muted": {p.muted, p.card}, "foot": {p.muted, p.page}, "link": {p.accent, p.card},
				"button": {p.onAccent, p.accent}, "code": {p.text, p.tint},
			} {
				if ratio := contrast(pair[0], pair[1]); ratio < legibleRatio {
					t.Errorf("%s, %s of accent %q: %.2f to 1", scheme, what, accent, ratio)
				}
			}
		}
	}
}

func TestMailDevice(t *testing.T) {
	english := mailRenderer(t, Branding{}).languages.texts("en")
	for agent, want := range map[string]string{
		"": "",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0": "Edge on Windows",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Mobile/15E148 Safari/604.1":    "Safari on iPhone",
		"Mozilla/5.0 (Linux; Android 16) AppleWebKit/537.36 Chrome/140.0 Mobile Safari/537.36":              "Chrome on Android",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 15_0) Gecko/20100101 Firefox/140.0":                         "Firefox on macOS",
		"curl/8.5":                           "curl",
		"go to https://evil.example at once": "",
	} {
		if got := english.device(agent); got != want {
			t.Errorf("%q: %q, want %q", agent, got, want)
		}
	}
}

func TestUnknownMail(t *testing.T) {
	if _, err := mailRenderer(t, Branding{}).Mail("en", Mail{Name: "spam"}); err == nil {
		t.Error("there is no such mail")
	}
}

// An operator's language file changes and adds mails like pages.
func TestMailsInFurtherLanguages(t *testing.T) {
	names := slices.Sorted(maps.Keys(everyMail()))
	if len(names) != 14 {
		t.Errorf("%d mails", len(names))
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "fr.json"), []byte(`{"language.name": "Français",
		"mail.reset.subject": "Nouveau mot de passe"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := New(Branding{Name: "Acme"}, os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Mail(r.Language("fr-CA", ""), everyMail()["reset"])
	if err != nil || got.Subject != "Nouveau mot de passe" || !strings.Contains(got.Text, "Somebody has asked") {
		t.Errorf("%q, %v\n%s", got.Subject, err, got.Text)
	}
}
