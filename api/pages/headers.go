package pages

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// submitScript is the script of [FormPost]. (A value named "submit" would hide the form's own method.)
const submitScript = `HTMLFormElement.prototype.submit.call(document.getElementById("form-post"))`

// revealScript shows and hides what is typed into #password. Without script its button stays hidden, and nothing else is missing.
const revealScript = `const show = document.getElementById("show-password"), field = document.getElementById("password");
const set = (shown) => {
	field.type = shown ? "text" : "password";
	show.setAttribute("aria-pressed", shown);
	show.textContent = show.dataset[shown ? "hide" : "show"];
};
show.hidden = false;
show.addEventListener("click", () => { set(field.type === "password"); field.focus(); });
field.form.addEventListener("submit", () => set(false));`

// Policy is what may differ in the headers of two hosted pages. The zero value is the strictest.
type Policy struct {
	// FormTargets are the URLs that a form's answer may redirect to (see Form.Targets). What is no URL that a browser can
	// follow, or runs script, allows nothing.
	FormTargets []string
	// Popup leaves the connection to the window which opened this one. Clients that log in through a popup window wait for
	// it to come back and say so with display=popup (OpenID Connect Core 1.0, section 3.1.2.1); isolation would cut it.
	Popup bool

	// formPost is the policy of [FormPost]: its script, and no form-action. Its one form posts to the client, and where that
	// one redirects to in turn is the client's business.
	formPost bool
	// reveal is set for pages with a password, which carry revealScript.
	reveal bool
}

// SetHeaders sets the security headers of a hosted page. [Renderer.Render] does it for every page; a handler needs it for
// answers without one, such as redirects.
func SetHeaders(h http.Header, p Policy) {
	h.Set("Content-Security-Policy", p.contentSecurity())
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	if p.Popup {
		h.Set("Cross-Origin-Opener-Policy", "unsafe-none")
	}
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	// What a page's address carries (state, a token from a mail) is told to no other site.
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	// For browsers older than frame-ancestors.
	h.Set("X-Frame-Options", "DENY")
}

func (p Policy) contentSecurity() string {
	var b strings.Builder
	b.WriteString("default-src 'none'; style-src 'self'; img-src 'self'; ")
	const end = "frame-ancestors 'none'; base-uri 'none'"
	if p.formPost {
		return b.String() + scriptSource(submitScript) + end
	}
	if p.reveal {
		b.WriteString(scriptSource(revealScript))
	}
	b.WriteString("form-action 'self'")
	var sources []string
	for _, target := range p.FormTargets {
		if s := formSource(target); s != "" && !slices.Contains(sources, s) {
			sources = append(sources, s)
		}
	}
	for _, s := range sources {
		b.WriteString(" " + s)
	}
	return b.String() + "; " + end
}

// scriptSource is the directive that allows one script, by its hash.
func scriptSource(script string) string {
	sum := sha256.Sum256([]byte(script))
	return "script-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; "
}

// formSource returns the narrowest source expression of Content Security Policy Level 3, section 2.3.1, that matches the
// URL: its origin for http and https, the scheme for a private-use one (RFC 8252, section 7.1). "" if there is none.
func formSource(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	switch scheme := strings.ToLower(u.Scheme); scheme {
	case "http", "https":
		host := strings.ToLower(u.Host)
		if strings.HasPrefix(host, "[") {
			return scheme + ":" // the grammar of a host-source has no IPv6 addresses
		}
		if host == "" || strings.ContainsFunc(host, func(c rune) bool { return !hostCharacter(c) }) {
			return ""
		}
		return scheme + "://" + host
	case "", "javascript", "data", "blob", "vbscript", "file", "about", "filesystem", "view-source", "ws", "wss":
		return ""
	default:
		return scheme + ":" // url.Parse lets nothing into a scheme but letters, digits, "+", "-" and "."
	}
}

func hostCharacter(c rune) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '.' || c == '-' || c == ':'
}
