// Package pages renders the hosted pages of the authorization server: login, sign-up, second factor, consent, logout,
// the pages behind links in mails, and errors.
//
// A page is a value of one of the types in content.go. A handler fills it in and hands it to [Renderer.Render], which
// chooses the texts of one language, escapes every value (html/template), and writes the headers that the page needs:
//
//	r, err := pages.New(pages.Branding{Name: "Acme"}, nil)
//	lang := r.Language(req.FormValue("ui_locales"), req.Header.Get("Accept-Language"))
//	err = r.Render(w, http.StatusOK, lang, pages.Login{
//		Form:   pages.Form{Action: "/oauth2/login", Hidden: map[string]string{"state": state}, Targets: []string{redirectURI}},
//		Client: pages.Client{Name: "Acme Photos"},
//	})
//
// The pages are plain forms. They work without script: one shows what is typed into a password, one sends [FormPost] by
// itself. They load nothing from elsewhere, and keep their state in hidden inputs. Element IDs are stable and part of
// the contract.
package pages

import (
	"bytes"
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
)

//go:embed templates/*.html mail/mail.html style.css glyphs/*.svg languages/*.json
var files embed.FS

// Page is one hosted page: one of the types of this package.
type Page interface {
	// describe names the template and says what the page's headers and title depend on.
	describe() description
}

type description struct {
	template string
	policy   Policy
	failed   bool    // the title says that something went wrong
	attempt  Message // what was wrong with the last attempt at the form
}

// Renderer turns pages into HTML. It never changes after [New] and may be used by any number of goroutines.
type Renderer struct {
	brand     brand
	templates map[string]*template.Template
	languages *languages
	assets    map[string]asset
	look      look // of mails
	mail      *template.Template
}

// New prepares the pages for an operator's branding. The files NAME.json in extra (which may be nil), NAME being a BCP 47
// language tag, add languages to the built-in English and German or override single texts of these; a text that a file
// lacks is taken from English. The error names every fault of the branding, or the language file that is at fault.
func New(b Branding, extra fs.FS) (*Renderer, error) {
	langs, err := loadLanguages(extra)
	if err != nil {
		return nil, err
	}
	r := &Renderer{languages: langs, assets: map[string]asset{}, templates: map[string]*template.Template{}}
	if r.brand, err = r.addBranding(b); err != nil {
		return nil, err
	}
	if r.mail, err = template.New("mail.html").Option("missingkey=error").ParseFS(files, "mail/mail.html"); err != nil {
		return nil, fmt.Errorf("pages: parse mail: %w", err)
	}
	names, err := fs.Glob(files, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("pages: list templates: %w", err)
	}
	for _, name := range names {
		page := strings.TrimSuffix(path.Base(name), ".html")
		if page == "layout" {
			continue
		}
		t, err := template.New("layout.html").Option("missingkey=error").ParseFS(files, "templates/layout.html", name)
		if err != nil {
			return nil, fmt.Errorf("pages: parse %s: %w", name, err)
		}
		r.templates[page] = t
	}
	return r, nil
}

// BrandName is the name at the head of the pages.
func (r *Renderer) BrandName() string { return r.brand.Name }

// Render writes the page in the given language, which is an answer of [Renderer.Language], with the given status and all
// headers that a hosted page needs (see [SetHeaders]). When it fails before the answer has begun, it has written nothing,
// and the caller can still answer otherwise.
func (r *Renderer) Render(w http.ResponseWriter, status int, lang string, page Page) error {
	d := page.describe()
	var body bytes.Buffer
	v := view{
		Brand:   r.brand,
		Page:    page,
		Problem: d.failed || d.attempt.ID != "",
		attempt: d.attempt,
		texts:   r.languages.texts(lang),
	}
	if err := r.templates[d.template].Execute(&body, v); err != nil {
		return fmt.Errorf("pages: render %s: %w", d.template, err)
	}
	h := w.Header()
	SetHeaders(h, d.policy)
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", v.Lang())
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	w.WriteHeader(status)
	if _, err := body.WriteTo(w); err != nil {
		return fmt.Errorf("pages: write %s: %w", d.template, err)
	}
	return nil
}

// view is what a template sees.
type view struct {
	Brand   brand
	Page    Page
	Problem bool
	attempt Message
	texts
}

// Client returns the name that the page shows for the client: the brand's own if it has none.
func (v view) Client(c Client) string { return clean(cmp.Or(c.Name, v.Brand.Name)) }

// Clean prepares a value that a stranger may have chosen for display.
func (view) Clean(s string) string { return clean(s) }

// Link returns the URL if a page may link to it, else "".
func (view) Link(url string) string {
	if !linkable(url) {
		return ""
	}
	return url
}

// Initial returns the capital that stands for a name in a monogram.
func (view) Initial(name string) string { return initial(name) }

// About reports whether the error message is about the input of that name.
func (v view) About(input string) bool { return v.attempt.about(input) }

// Mail reports whether a page of the type Done asks the user to look into their mail.
func (v view) Mail() bool {
	done, ok := v.Page.(Done)
	return ok && (done.What.ID == CheckMailVerify || done.What.ID == CheckMailReset)
}

// SubmitScript is the script of the page FormPost, the bytes that the policy's hash is of.
func (view) SubmitScript() template.JS { return submitScript }

// RevealScript is the script of pages with a password, the bytes that the policy's hash is of.
func (view) RevealScript() template.JS { return revealScript }

// Scopes returns what the client asks for in the order of the operator: first what everybody knows, then the operator's own
// scopes, then any other.
func (v view) Scopes(asked []string) []string {
	known := []string{"openid", "profile", "email", "offline_access"}
	place := func(scope string) int {
		if at := slices.IndexFunc(v.Brand.Scopes, func(s Scope) bool { return s.Name == scope }); at >= 0 {
			return at
		}
		if at := slices.Index(known, scope); at >= 0 {
			return at - len(known)
		}
		return len(v.Brand.Scopes)
	}
	return slices.SortedStableFunc(slices.Values(asked), func(a, b string) int { return cmp.Compare(place(a), place(b)) })
}

// Scope returns what a scope means in plain words, "" if nobody has said.
func (v view) Scope(scope string) string {
	if text := v.texts.Scope(scope); text != "" {
		return text
	}
	for _, s := range v.Brand.Scopes {
		if s.Name == scope {
			return clean(s.Text)
		}
	}
	return ""
}

// ScopeGlyph returns the name of the glyph for a scope.
func (view) ScopeGlyph(scope string) string {
	switch scope {
	case "openid", "profile", "email", "offline_access":
		return scope
	}
	return "scope"
}
