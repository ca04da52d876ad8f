package pages

import (
	"bytes"
	"fmt"
	"html/template"
	"strings"
	"time"
)

// Mail is what a mail says, in the look and the languages of the pages. What is empty or zero is left out.
type Mail struct {
	// Name chooses the texts: those of the language files under "mail.NAME".
	Name    string
	Link    string
	Code    string
	Lasts   time.Duration // how long link and code work
	At      time.Time     // when it happened
	IP      string
	Agent   string // the User-Agent header of the device
	Address string // another than the reader's
	Factor  string // what the reader calls it
}

// MailText is a mail that can be sent.
type MailText struct {
	Subject string
	Text    string
	HTML    string
	// Logo is a picture that HTML shows as cid:logo; nil if the operator has none that programs for mail show.
	Logo     []byte
	LogoType string
}

// look is the branding as mails show it. Programs for mail load no style sheet, so that each mail holds the colours itself.
type look struct {
	light, dark palette
	logo        []byte
	logoType    string
}

// newLook keeps a logo only if it is a PNG or JPEG: programs for mail show no SVG, and many no WebP.
func newLook(light, dark palette, logo []byte) look {
	l := look{light: light, dark: dark}
	if _, contentType := imageType(logo); contentType == "image/png" || contentType == "image/jpeg" {
		l.logo, l.logoType = logo, contentType
	}
	return l
}

// mailView is what the template of mails sees.
type mailView struct {
	texts
	Mail

	Brand     brand
	Style     template.CSS // of the dark scheme
	Light     map[string]template.CSS
	Logo      bool
	Title     string
	Paragraph string
	Button    string
	Advice    string
	CodeLead  string
	LastsFor  string
	Facts     []fact
	Foot      string
}

// fact is a line of what has happened.
type fact struct{ Name, Value string }

// Mail puts a mail into a language, which is an answer of [Renderer.Language].
func (r *Renderer) Mail(lang string, m Mail) (MailText, error) {
	t := r.languages.texts(lang)
	key := "mail." + m.Name
	if _, known := t.catalog[key+".subject"]; !known {
		return MailText{}, fmt.Errorf("pages: there is no mail %q", m.Name)
	}
	args := []string{"brand", r.brand.Name, "address", clean(m.Address), "factor", clean(m.Factor)}
	v := mailView{
		texts:     t,
		Mail:      m,
		Brand:     r.brand,
		Logo:      r.look.logo != nil,
		Title:     t.T(key+".subject", args...),
		Paragraph: t.T(key+".text", args...),
		Facts:     t.facts(m),
		Foot:      t.T("mail.foot", args...),
		Style:     darkStyle(r.look.dark),
		Light:     colours(r.look.light),
	}
	if _, has := t.catalog[key+".advice"]; has {
		v.Advice = t.T(key+".advice", args...)
	}
	if m.Link != "" {
		v.Button = t.T(key + ".button")
		v.CodeLead = t.T("mail.code.or")
	} else {
		v.CodeLead = t.T("mail.code")
	}
	if m.Lasts > 0 && (m.Link != "" || m.Code != "") {
		v.LastsFor = t.T("mail.lasts", "wait", t.wait(m.Lasts))
	}
	v.Code = clean(m.Code)
	var html bytes.Buffer
	if err := r.mail.Execute(&html, v); err != nil {
		return MailText{}, fmt.Errorf("pages: render mail %s: %w", m.Name, err)
	}
	out := MailText{Subject: v.Title, Text: v.text(), HTML: html.String()}
	if v.Logo {
		out.Logo, out.LogoType = r.look.logo, r.look.logoType
	}
	return out, nil
}

// text is the mail for those who read no HTML.
func (v mailView) text() string {
	parts := []string{v.Brand.Name, v.Title, v.Paragraph}
	if v.Link != "" {
		parts = append(parts, v.Button+":\n"+v.Link)
	}
	if v.Code != "" {
		parts = append(parts, v.CodeLead+"\n"+v.Code)
	}
	if v.LastsFor != "" {
		parts = append(parts, v.LastsFor)
	}
	var facts []string
	for _, f := range v.Facts {
		facts = append(facts, f.Name+": "+f.Value)
	}
	if facts != nil {
		parts = append(parts, strings.Join(facts, "\n"))
	}
	if v.Advice != "" {
		parts = append(parts, v.Advice)
	}
	foot := []string{"-- ", v.Foot}
	for _, link := range []struct{ key, url string }{
		{"foot.support", v.Brand.SupportURL},
		{"foot.privacy", v.Brand.PrivacyURL},
		{"foot.terms", v.Brand.TermsURL},
	} {
		if link.url != "" {
			foot = append(foot, v.T(link.key)+": "+strings.TrimPrefix(link.url, "mailto:"))
		}
	}
	return strings.Join(append(parts, strings.Join(foot, "\n")), "\n\n") + "\n"
}

// facts are what the reader compares with what they remember. The time reads the same in every language.
func (t texts) facts(m Mail) (facts []fact) {
	if m.At.IsZero() {
		return nil
	}
	facts = append(facts, fact{t.T("mail.when"), m.At.UTC().Format("2006-01-02 15:04") + " UTC"})
	if d := t.device(m.Agent); d != "" {
		facts = append(facts, fact{t.T("mail.device"), d})
	}
	if ip := clean(m.IP); ip != "" {
		facts = append(facts, fact{t.T("mail.ip"), ip})
	}
	return facts
}

// device names the browser and the system of a User-Agent header, if it is one that we know: the header itself is a text that a
// stranger may have chosen.
func (t texts) device(agent string) string {
	browser := firstOf(agent, [][2]string{
		{"EdgA/", "Edge"}, {"EdgiOS/", "Edge"}, {"Edg/", "Edge"}, {"OPR/", "Opera"}, {"SamsungBrowser/", "Samsung Internet"},
		{"FxiOS/", "Firefox"}, {"Firefox/", "Firefox"}, {"CriOS/", "Chrome"}, {"Chrome/", "Chrome"}, {"Safari/", "Safari"},
		{"curl/", "curl"},
	})
	system := firstOf(agent, [][2]string{
		{"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Android", "Android"}, {"Windows", "Windows"}, {"Mac OS X", "macOS"},
		{"CrOS", "ChromeOS"}, {"Linux", "Linux"},
	})
	if browser != "" && system != "" {
		return t.T("mail.on", "browser", browser, "system", system)
	}
	return browser + system
}

func firstOf(agent string, known [][2]string) string {
	for _, k := range known {
		if strings.Contains(agent, k[0]) {
			return k[1]
		}
	}
	return ""
}

// colours are those of a palette that mails use.
func colours(p palette) map[string]template.CSS {
	css := func(c colour) template.CSS { return template.CSS(c.String()) } //nolint:gosec // #rrggbb
	return map[string]template.CSS{
		"page": css(p.page), "card": css(p.card), "text": css(p.text), "muted": css(p.muted), "line": css(p.line),
		"accent": css(p.accent), "on": css(p.onAccent), "tint": css(p.tint),
	}
}

// darkStyle are the rules of the dark scheme. They stand beside the colours of the light one in the elements, which win unless
// a rule is important.
func darkStyle(p palette) template.CSS {
	var b strings.Builder
	for _, rule := range []struct {
		class, property string
		c               colour
	}{
		{"page", "background-color", p.page}, {"card", "background-color", p.card}, {"card", "border-color", p.line},
		{"text", "color", p.text}, {"muted", "color", p.muted}, {"link", "color", p.accent}, {"line", "border-color", p.line},
		{"tint", "background-color", p.tint}, {"solid", "background-color", p.accent}, {"on", "color", p.onAccent},
	} {
		fmt.Fprintf(&b, ".%s{%s:%s!important}", rule.class, rule.property, rule.c)
	}
	return template.CSS(b.String()) //nolint:gosec // words and colours of ours
}
