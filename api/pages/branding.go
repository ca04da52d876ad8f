package pages

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strings"
	"unicode"
)

// Branding is how an operator makes the pages their own. The zero value is Handstamp's own look.
type Branding struct {
	// Name stands at the head of every page and in every title. Default "Handstamp".
	Name string
	// Logo is an image file: SVG, PNG, JPEG or WebP, at most 256 KiB, shown 40 CSS pixels high. LogoDark replaces it in the
	// dark scheme. Without a logo, a monogram of Name is shown.
	Logo, LogoDark []byte
	// Accent is the colour of buttons and links in the light scheme, AccentDark in the dark one, each as "#rrggbb"; one is
	// derived from the other if it is empty. They are moved towards black or white as far as legibility needs (WCAG 2.2
	// success criterion 1.4.3: 4.5 to 1).
	Accent, AccentDark string
	// SupportURL, PrivacyURL and TermsURL are linked at the foot of every page: http, https or mailto (support only).
	SupportURL, PrivacyURL, TermsURL string
	// Scopes are the operator's own, in the order in which the consent page shows them.
	Scopes []Scope
	// AssetsPath is where ServeAsset is mounted. Default "/assets/".
	AssetsPath string
}

// Scope is what a scope of the operator means.
type Scope struct {
	Name string
	// Text says in plain words what a client may do with it. A language file says it in its language, under "scope.NAME". Empty
	// to show the name.
	Text string
}

const (
	defaultName  = "Handstamp"
	largestLogo  = 256 << 10
	defaultPath  = "/assets/"
	svgType      = "image/svg+xml"
	legibleRatio = 4.5
)

// brand is the branding as templates see it: every URL is complete.
type brand struct {
	Name                             string
	Own                              bool // the operator's, not Handstamp's
	Logo, LogoDark                   string
	StyleSheet, Icon                 string
	SupportURL, PrivacyURL, TermsURL string
	Scopes                           []Scope
}

// addBranding checks the branding and adds everything to the assets that the pages load.
func (r *Renderer) addBranding(b Branding) (brand, error) {
	out := brand{
		Name: clean(cmp.Or(b.Name, defaultName)), Own: b.Name != "" && b.Name != defaultName,
		SupportURL: b.SupportURL, PrivacyURL: b.PrivacyURL, TermsURL: b.TermsURL,
		Scopes: b.Scopes,
	}
	prefix := cmp.Or(b.AssetsPath, defaultPath)
	var faults []error
	fault := func(err error) { faults = append(faults, err) }

	if !strings.HasPrefix(prefix, "/") || !strings.HasSuffix(prefix, "/") || !linkable(prefix) {
		fault(fmt.Errorf("assets path %q: want an absolute path that ends in a slash", prefix))
	}
	for name, url := range map[string]string{
		"privacy": b.PrivacyURL,
		"terms":   b.TermsURL,
		"support": strings.TrimPrefix(b.SupportURL, "mailto:"),
	} {
		mail := name == "support" && url != b.SupportURL && strings.Contains(url, "@")
		if url != "" && !linkable(url) && !mail {
			fault(fmt.Errorf("%s URL %q: want http or https", name, url))
		}
	}
	for _, logo := range []struct {
		name string
		body []byte
		url  *string
	}{{"logo", b.Logo, &out.Logo}, {"dark logo", b.LogoDark, &out.LogoDark}} {
		if len(logo.body) == 0 {
			continue
		}
		extension, contentType := imageType(logo.body)
		if contentType == "" || len(logo.body) > largestLogo {
			fault(fmt.Errorf("%s: want an SVG, PNG, JPEG or WebP image of at most %d KiB", logo.name, largestLogo>>10))
			continue
		}
		*logo.url = prefix + r.addAsset(extension, contentType, logo.body)
	}
	for _, s := range b.Scopes {
		if s.Name == "" || strings.ContainsAny(s.Name, " \"\\") {
			fault(fmt.Errorf("scope %q: want SCOPE=TEXT, and a scope without space, quote and backslash", s.Name))
		}
	}
	light, dark, err := accents(b.Accent, b.AccentDark)
	if err != nil {
		fault(err)
	}
	if len(faults) > 0 {
		return brand{}, fmt.Errorf("pages: branding: %w", errors.Join(faults...))
	}

	r.look = newLook(lightPalette(light), darkPalette(dark), b.Logo)
	sheet, err := r.styleSheet(r.look.light, r.look.dark)
	if err != nil {
		return brand{}, err
	}
	out.StyleSheet = prefix + r.addAsset(".css", "text/css; charset=utf-8", sheet)
	if out.Icon = out.Logo; out.Icon == "" {
		out.Icon = prefix + r.addAsset(".svg", svgType, monogram(out, light))
	}
	return out, nil
}

// styleSheet is the palettes, the rules of style.css, and one class for each glyph: a mask, so that a glyph takes the
// colour of the text round it in every scheme.
func (r *Renderer) styleSheet(light, dark palette) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, ":root{color-scheme:light dark;%s}\n@media (prefers-color-scheme:dark){:root{%s}}\n", light, dark)
	rules, err := files.ReadFile("style.css")
	if err != nil {
		return nil, fmt.Errorf("pages: read style sheet: %w", err)
	}
	b.Write(rules)
	glyphs, err := fs.Glob(files, "glyphs/*.svg")
	if err != nil {
		return nil, fmt.Errorf("pages: list glyphs: %w", err)
	}
	for _, glyph := range glyphs {
		body, err := files.ReadFile(glyph)
		if err != nil {
			return nil, fmt.Errorf("pages: read glyph: %w", err)
		}
		name := r.addAsset(".svg", svgType, body)
		class := strings.TrimSuffix(path.Base(glyph), ".svg")
		rule := ".glyph-%[1]s{-webkit-mask-image:url(%[2]s);mask-image:url(%[2]s)}\n"
		if class == "google" { // whose rules allow the mark in its own colours only, on white
			rule = ".glyph-%[1]s{background:#fff url(%[2]s) center / 78%% no-repeat;border-radius:.25rem;forced-color-adjust:none}\n"
		}
		fmt.Fprintf(&b, rule, class, name)
	}
	return b.Bytes(), nil
}

// imageType returns the file name extension and media type of an image, "" if it is none that the pages show.
func imageType(body []byte) (extension, contentType string) {
	switch sniffed := http.DetectContentType(body); sniffed {
	case "image/png":
		return ".png", sniffed
	case "image/jpeg":
		return ".jpg", sniffed
	case "image/webp":
		return ".webp", sniffed
	}
	head := bytes.TrimSpace(body[:min(len(body), 1024)])
	if bytes.HasPrefix(head, []byte("<")) && bytes.Contains(head, []byte("<svg")) {
		return ".svg", svgType
	}
	return "", ""
}

// monogram draws the icon of a browser tab for a brand without a logo.
func monogram(b brand, accent colour) []byte {
	if !b.Own {
		mark, err := files.ReadFile("glyphs/stamp.svg")
		if err == nil {
			return bytes.ReplaceAll(mark, []byte("#000"), []byte(accent.String()))
		}
	}
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="9" `+
		`fill="%s"/>`+
		`<text x="16" y="22.5" text-anchor="middle" font-family="system-ui,sans-serif" font-size="19" font-weight="600" `+
		`fill="#fff">%s</text></svg>`,
		accent, xmlText(initial(b.Name)))
}

// xmlText keeps what needs no escaping; a monogram of anything else is empty.
func xmlText(s string) string {
	if strings.ContainsAny(s, `<>&"'`) {
		return ""
	}
	return s
}

// initial returns the capital that stands for a name: of its first letter or digit.
func initial(name string) string {
	letters := []rune(name)
	if i := slices.IndexFunc(letters, func(c rune) bool { return unicode.IsLetter(c) || unicode.IsDigit(c) }); i >= 0 {
		return string(unicode.ToUpper(letters[i]))
	}
	return ""
}
