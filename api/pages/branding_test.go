package pages

import (
	"bytes"
	"image"
	"image/png"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func get(r *Renderer, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r.ServeAsset(w, httptest.NewRequest(method, path, nil))
	return w
}

func pngImage(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 2, 2))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestServeAsset(t *testing.T) {
	r := newRenderer(t, Branding{})
	sheet := r.brand.StyleSheet

	t.Run("ok/style sheet for ever", func(t *testing.T) {
		w := get(r, http.MethodGet, sheet)
		h := w.Header()
		if w.Code != http.StatusOK || h.Get("Content-Type") != "text/css; charset=utf-8" ||
			h.Get("Cache-Control") != "public, max-age=31536000, immutable" {
			t.Errorf("%d %v", w.Code, h)
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(h.Get("Content-Security-Policy"), "sandbox") ||
			h.Get("Cross-Origin-Resource-Policy") != "same-origin" {
			t.Errorf("%v", h)
		}
	})
	t.Run("ok/HEAD", func(t *testing.T) {
		w := get(r, http.MethodHead, sheet)
		if w.Code != http.StatusOK || w.Body.Len() != 0 || w.Header().Get("Content-Length") == "0" {
			t.Errorf("%d, %d bytes, %v", w.Code, w.Body.Len(), w.Header())
		}
	})
	t.Run("ok/everything that the pages and the style sheet name", func(t *testing.T) {
		for _, m := range regexp.MustCompile(`url\(([^)]+)\)`).FindAllStringSubmatch(get(r, http.MethodGet, sheet).Body.String(), -1) {
			if w := get(r, http.MethodGet, "/assets/"+m[1]); w.Code != http.StatusOK || w.Header().Get("Content-Type") != "image/svg+xml" {
				t.Errorf("%s: %d", m[1], w.Code)
			}
		}
		if w := get(r, http.MethodGet, r.brand.Icon); w.Code != http.StatusOK {
			t.Errorf("icon: %d", w.Code)
		}
	})
	t.Run("ok/glyphs of every class", func(t *testing.T) {
		css := get(r, http.MethodGet, sheet).Body.String()
		for name, page := range everyPage() {
			for _, n := range elements(parse(t, render(t, r, "en", page).Body.String())) {
				classes, _ := attr(n, "class")
				for class := range strings.FieldsSeq(classes) {
					if strings.HasPrefix(class, "glyph-") && !strings.Contains(css, "."+class+"{") {
						t.Errorf("%s: no rule for %s", name, class)
					}
				}
			}
		}
	})
	for name, path := range map[string]string{
		"unknown":   "/assets/x.css",
		"directory": "/assets/",
		"traversal": "/assets/../style.css",
		"template":  "/assets/login.html",
		"root":      "/",
	} {
		t.Run("fail/"+name, func(t *testing.T) {
			if w := get(r, http.MethodGet, path); w.Code != http.StatusNotFound || w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%d %v", w.Code, w.Header())
			}
		})
	}
	t.Run("fail/POST", func(t *testing.T) {
		if w := get(r, http.MethodPost, sheet); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("%d %v", w.Code, w.Header())
		}
	})
}

func TestBranding(t *testing.T) {
	svg := []byte(`<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`)
	t.Run("ok/logo", func(t *testing.T) {
		r := newRenderer(t, Branding{Name: "Acme <3", Logo: svg, LogoDark: pngImage(t), AssetsPath: "/auth/assets/"})
		body := render(t, r, "en", Login{}).Body.String()
		root := parse(t, body)
		img := elements(root, "img")
		if len(img) != 1 {
			t.Fatal(body)
		}
		src, _ := attr(img[0], "src")
		if alt, _ := attr(img[0], "alt"); alt != "Acme <3" || !strings.HasPrefix(src, "/auth/assets/") {
			t.Errorf("src %q, alt %q", src, alt)
		}
		if w := get(r, http.MethodGet, src); w.Header().Get("Content-Type") != "image/svg+xml" || !bytes.Equal(w.Body.Bytes(), svg) {
			t.Errorf("%v", w.Header())
		}
		if srcset, _ := attr(elements(root, "source")[0],
			"srcset"); get(r, http.MethodGet, srcset).Header().Get("Content-Type") != "image/png" {
			t.Errorf("dark logo %q", srcset)
		}
	})
	t.Run("ok/monogram", func(t *testing.T) {
		r := newRenderer(t, Branding{Name: "«ångström»", Accent: "#ff0000"})
		if body := render(t, r, "en", Login{}).Body.String(); !strings.Contains(body,
			`<span class="tile" aria-hidden="true">Å</span>`) || strings.Contains(body, "impression") {
			t.Error(body)
		}
		if icon := get(r, http.MethodGet, r.brand.Icon).Body.String(); !strings.Contains(icon, ">Å</text>") {
			t.Error(icon)
		}
	})
	fails := map[string]struct {
		branding Branding
		says     string
	}{
		"fail/logo is text":      {Branding{Logo: []byte("hello")}, "logo: want"},
		"fail/logo is HTML":      {Branding{Logo: []byte("<html><body></body></html>")}, "logo: want"},
		"fail/logo too large":    {Branding{Logo: append(pngImage(t), make([]byte, largestLogo)...)}, "logo: want"},
		"fail/colour name":       {Branding{Accent: "red"}, `"red"`},
		"fail/colour injection":  {Branding{Accent: "#fff}*{}"}, "#rrggbb"},
		"fail/dark colour":       {Branding{Accent: "#112233", AccentDark: "#12345g"}, "#12345g"},
		"fail/script as support": {Branding{SupportURL: "javascript:alert(1)"}, "support URL"},
		"fail/mail to nobody":    {Branding{SupportURL: "mailto:nobody"}, "support URL"},
		"fail/mail as terms":     {Branding{TermsURL: "mailto:a@b.example"}, "terms URL"},
		"fail/data as privacy":   {Branding{PrivacyURL: "data:text/html,x"}, "privacy URL"},
		"fail/relative assets":   {Branding{AssetsPath: "assets/"}, "assets path"},
		"fail/assets elsewhere":  {Branding{AssetsPath: "//cdn.example/"}, "assets path"},
	}
	for name, tt := range fails {
		t.Run(name, func(t *testing.T) {
			if _, err := New(tt.branding, nil); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want one that says %q", err, tt.says)
			}
		})
	}
	t.Run("fail/all faults at once", func(t *testing.T) {
		_, err := New(Branding{Logo: []byte("x"), Accent: "x", TermsURL: "x", AssetsPath: "x"}, nil)
		for _, says := range []string{"logo", "colour", "terms", "assets path"} {
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%v does not mention %s", err, says)
			}
		}
	})
}

// properties reads the colours among custom properties.
func properties(declarations string) map[string]colour {
	colours := map[string]colour{}
	for _, m := range regexp.MustCompile(`--([a-z-]+):(#[0-9a-f]{6})`).FindAllStringSubmatch(declarations, -1) {
		if c, err := parseColour(m[2]); err == nil {
			colours[m[1]] = c
		}
	}
	return colours
}

// palettes reads both schemes from the style sheet as served.
func palettes(r *Renderer) (light, dark map[string]colour) {
	first, rest, _ := strings.Cut(get(r, http.MethodGet, r.brand.StyleSheet).Body.String(), "@media (prefers-color-scheme:dark)")
	second, _, _ := strings.Cut(rest, "\n")
	return properties(first), properties(second)
}

// WCAG 2.2: text 4.5 to 1 (success criterion 1.4.3), what one must see to find an input or the focus 3 to 1 (1.4.11).
func checkContrast(t interface {
	Helper()
	Errorf(string, ...any)
}, scheme string, p map[string]colour) {
	t.Helper()
	for _, pair := range []struct {
		ink, ground string
		least       float64
	}{
		{"text", "page", 4.5}, {"text", "card", 4.5}, {"text", "field", 4.5}, {"text", "tint", 4.5}, {"text", "danger-tint", 4.5},
		{"muted", "page", 4.5}, {"muted", "card", 4.5},
		{"accent", "page", 4.5}, {"accent", "card", 4.5}, {"accent", "tint", 4.5}, {"accent-hover", "card", 4.5},
		{"on-accent", "accent", 4.5}, {"on-accent", "accent-hover", 4.5},
		{"danger", "danger-tint", 4.5}, {"danger", "card", 4.5},
		{"field-line", "card", 3}, {"field-line", "field", 3}, {"accent", "field", 3}, {"danger", "field", 3},
	} {
		ink, ok1 := p[pair.ink]
		ground, ok2 := p[pair.ground]
		if !ok1 || !ok2 {
			t.Errorf("%s: --%s or --%s is missing", scheme, pair.ink, pair.ground)
			continue
		}
		if got := contrast(ink, ground); got < pair.least {
			t.Errorf("%s: --%s %v on --%s %v has %.2f to 1, want %.1f", scheme, pair.ink, ink, pair.ground, ground, got, pair.least)
		}
	}
}

func TestContrast(t *testing.T) {
	for name, b := range map[string]Branding{
		"ok/default": {}, "ok/yellow": {Accent: "#ffe600"}, "ok/black": {Accent: "#000000"}, "ok/white": {Accent: "#ffffff"},
		"ok/both": {Accent: "#e4572e", AccentDark: "#ff8a5c"}, "ok/dark only": {AccentDark: "#0000ff"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRenderer(t, b)
			light, dark := palettes(r)
			checkContrast(t, "light", light)
			checkContrast(t, "dark", dark)
		})
	}
	t.Run("ok/legible accents stay as they are", func(t *testing.T) {
		r := newRenderer(t, Branding{Accent: "#0b4f9c", AccentDark: "#8fc1ff"})
		light, dark := palettes(r)
		if light["accent"].String() != "#0b4f9c" || dark["accent"].String() != "#8fc1ff" {
			t.Errorf("%v %v", light["accent"], dark["accent"])
		}
	})
	t.Run("ok/any accent", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			c := colour{rapid.Byte().Draw(t, "r"), rapid.Byte().Draw(t, "g"), rapid.Byte().Draw(t, "b")}
			checkContrast(t, "light", properties(lightPalette(c).String()))
			checkContrast(t, "dark", properties(darkPalette(c).String()))
		})
	})
}

func TestContrastFormula(t *testing.T) {
	tests := map[string]struct {
		a, b string
		want float64
	}{
		"ok/black on white": {"#000000", "#ffffff", 21},
		"ok/same":           {"#123456", "#123456", 1},
		"ok/grey 767676":    {"#767676", "#ffffff", 4.54}, // the lightest grey that passes on white
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a, err1 := parseColour(tt.a)
			b, err2 := parseColour(tt.b)
			if err1 != nil || err2 != nil {
				t.Fatal(err1, err2)
			}
			if got := contrast(a, b); got < tt.want-0.005 || got > tt.want+0.005 {
				t.Errorf("%.3f, want %.2f", got, tt.want)
			}
		})
	}
}

// Colours stand in the palettes only, where the contrast is checked.
func TestStyleSheetKnowsNoColours(t *testing.T) {
	css, err := files.ReadFile("style.css")
	if err != nil {
		t.Fatal(err)
	}
	if m := regexp.MustCompile(`#[0-9a-fA-F]{3,8}\b|hsl\(|oklch\(|rgb\([^0]|:\s*(white|black|red)\b`).FindAll(css, -1); m != nil {
		t.Errorf("%q", m)
	}
	known := properties(lightPalette(colour{}).String())
	for _, m := range regexp.MustCompile(`var\(--([a-z-]+)\)`).FindAllSubmatch(css, -1) {
		if _, ok := known[string(m[1])]; !ok {
			t.Errorf("--%s is in no palette", m[1])
		}
	}
	if bytes.Contains(css, []byte("@import")) || bytes.Contains(css, []byte("url(")) {
		t.Error("the style sheet loads something")
	}
}
