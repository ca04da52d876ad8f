package pages

import (
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/language"
)

const english = "en"

// Two texts of a language file describe the language itself.
const (
	keyLanguage  = "language.name"      // in its own words
	keyDirection = "language.direction" // ltr or rtl
)

type languages struct {
	byTag   map[string]texts
	tags    []string // as matcher numbers them
	matcher language.Matcher
}

// texts are the texts of one language.
type texts struct {
	tag     string
	catalog map[string]string // complete: what the language lacks is English
	english map[string]string // the built-in one
}

func loadLanguages(extra fs.FS) (*languages, error) {
	catalogs := map[string]map[string]string{}
	if err := readLanguages(files, "languages", catalogs); err != nil {
		return nil, err
	}
	builtIn := maps.Clone(catalogs[english])
	if extra != nil {
		if err := readLanguages(extra, ".", catalogs); err != nil {
			return nil, err
		}
	}
	l := &languages{byTag: map[string]texts{}}
	var parsed []language.Tag
	// English first: the matcher falls back to it.
	for _, name := range append([]string{english}, slices.Sorted(maps.Keys(catalogs))...) {
		if _, done := l.byTag[name]; done {
			continue
		}
		if err := checkCatalog(catalogs[name], builtIn); err != nil {
			return nil, fmt.Errorf("pages: language %s: %w", name, err)
		}
		full := maps.Clone(catalogs[english])
		maps.Copy(full, catalogs[name])
		l.byTag[name] = texts{tag: name, catalog: full, english: builtIn}
		l.tags = append(l.tags, name)
		parsed = append(parsed, language.Make(name))
	}
	l.matcher = language.NewMatcher(parsed)
	return l, nil
}

func readLanguages(from fs.FS, dir string, into map[string]map[string]string) error {
	entries, err := fs.ReadDir(from, dir)
	if err != nil {
		return fmt.Errorf("pages: read languages: %w", err)
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || e.IsDir() {
			continue
		}
		tag, err := language.Parse(name)
		if err != nil {
			return fmt.Errorf("pages: language file %s: its name is no BCP 47 language tag: %w", e.Name(), err)
		}
		raw, err := fs.ReadFile(from, path.Join(dir, e.Name()))
		if err != nil {
			return fmt.Errorf("pages: language file %s: %w", e.Name(), err)
		}
		var catalog map[string]string
		if err := json.Unmarshal(raw, &catalog); err != nil {
			return fmt.Errorf("pages: language file %s: %w", e.Name(), err)
		}
		if into[tag.String()] == nil {
			into[tag.String()] = map[string]string{}
		}
		maps.Copy(into[tag.String()], catalog)
	}
	return nil
}

// checkCatalog finds what would otherwise show on a page: a misspelt key (never shown), or a placeholder that nobody fills
// in. Operators may describe scopes of their own.
func checkCatalog(catalog, reference map[string]string) error {
	var faults []error
	for _, key := range slices.Sorted(maps.Keys(catalog)) {
		text := catalog[key]
		known, ok := reference[key]
		switch {
		case strings.HasPrefix(key, "scope."):
		case !ok:
			faults = append(faults, fmt.Errorf("unknown key %q", key))
		case key == keyDirection && text != "ltr" && text != "rtl":
			faults = append(faults, fmt.Errorf("%s is %q, want ltr or rtl", key, text))
		default:
			for _, p := range placeholders(text) {
				if !slices.Contains(placeholders(known), p) {
					faults = append(faults, fmt.Errorf("%s has no placeholder {%s}", key, p))
				}
			}
		}
	}
	return errors.Join(faults...)
}

func placeholders(text string) []string {
	var found []string
	for {
		_, rest, ok := strings.Cut(text, "{")
		if !ok {
			return found
		}
		name, after, ok := strings.Cut(rest, "}")
		if !ok {
			return found
		}
		found, text = append(found, name), after
	}
}

func (l *languages) texts(tag string) texts {
	if t, ok := l.byTag[tag]; ok {
		return t
	}
	return l.byTag[english]
}

// Language returns the best language there is for a user: first by the ui_locales of the request (OpenID Connect Core 1.0,
// section 3.1.2.1: tags separated by spaces, the preferred one first), then by Accept-Language. It is English if nothing
// fits. Both may be empty, and neither is believed to be well-formed.
func (r *Renderer) Language(uiLocales, acceptLanguage string) string {
	const most = 256 // bytes; the rest of a longer wish list is nobody's preference
	var wanted []language.Tag
	for s := range strings.FieldsSeq(uiLocales[:min(len(uiLocales), most)]) {
		if tag, err := language.Parse(s); err == nil {
			wanted = append(wanted, tag)
		}
	}
	if _, i, confidence := r.languages.matcher.Match(wanted...); confidence > language.No {
		return r.languages.tags[i]
	}
	accepted, _, err := language.ParseAcceptLanguage(acceptLanguage[:min(len(acceptLanguage), most)])
	if err != nil {
		return english
	}
	_, i, _ := r.languages.matcher.Match(accepted...)
	return r.languages.tags[i]
}

// Lang is the value of the attribute lang.
func (t texts) Lang() string { return t.tag }

// Dir is the value of the attribute dir.
func (t texts) Dir() string { return t.catalog[keyDirection] }

// T returns a text with values for its placeholders: name, value, name, value.
func (t texts) T(key string, args ...string) string {
	return fill(t.text(key), args, func(value string) string { return value })
}

// Rich is T with emphasised values, each isolated from the direction of the text round it.
func (t texts) Rich(key string, args ...string) template.HTML {
	strong := func(value string) string {
		return `<strong dir="auto">` + template.HTMLEscapeString(clean(value)) + `</strong>`
	}
	return template.HTML(fill(template.HTMLEscapeString(t.text(key)), args, strong)) //nolint:gosec // text and values are escaped
}

// fill puts values into a text in one pass: a placeholder inside a value stays what it is.
func fill(text string, args []string, show func(string) string) string {
	var pairs []string
	for pair := range slices.Chunk(args, 2) {
		if len(pair) == 2 {
			pairs = append(pairs, "{"+pair[0]+"}", show(pair[1]))
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

func (t texts) text(key string) string {
	if s, ok := t.catalog[key]; ok {
		return s
	}
	return t.catalog[string(Failed)]
}

// Say returns the text of a message; part is "" or which part of a message of several ("title", "text", "advice").
func (t texts) Say(m Message, part string) string {
	key, fallback := string(m.ID), string(FaultInternal)
	if part != "" {
		key, fallback = key+"."+part, fallback+"."+part
	}
	if _, ok := t.catalog[key]; !ok && part != "" {
		key = fallback
	}
	return fill(t.text(key), append(slices.Clone(m.args), "wait", t.wait(m.wait)), clean)
}

// Detail returns a detail for developers in the page's language, if it is one of those that pages show, and as it is if
// not. Those of English are told by their text: "detail.NAME", of which some begin with the name of a parameter.
func (t texts) Detail(s string) string {
	s = clean(s)
	name, rest, _ := strings.Cut(s, " ")
	for key, english := range t.english {
		switch {
		case !strings.HasPrefix(key, "detail."):
		case english == s:
			return t.text(key)
		case english == "{name} "+rest:
			return t.T(key, "name", name)
		}
	}
	return s
}

// wait puts a duration into words, rounded up to what people count in.
func (t texts) wait(d time.Duration) string {
	in := func(unit time.Duration) int { return int((d + unit - 1) / unit) }
	counted := func(key string, n int) string { return t.T(key, "n", strconv.Itoa(n)) }
	switch {
	case d <= time.Second:
		return t.T("wait.second")
	case in(time.Second) < 60:
		return counted("wait.seconds", in(time.Second))
	case in(time.Minute) == 1:
		return t.T("wait.minute")
	case in(time.Minute) <= 120:
		return counted("wait.minutes", in(time.Minute))
	}
	if in(time.Hour) > 72 {
		return counted("wait.days", in(24*time.Hour))
	}
	return counted("wait.hours", in(time.Hour))
}

// Scope returns what a scope means in plain words, "" if nobody has said.
func (t texts) Scope(scope string) string { return t.catalog["scope."+scope] }
