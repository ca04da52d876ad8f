package bff

import (
	"context"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/handstamp/handstamp/pkg/verifier"
)

// Middleware puts the session of a request into its context, where SessionFrom and the guards find it. It refuses unsafe requests
// (all but GET, HEAD and OPTIONS) that another origin caused, or that have a session without its CSRF token. Wrap the whole
// application in it: without a session it costs nothing.
//
// A page made for one user is not for caches: answers to requests with a session get Cache-Control: no-store, which a handler may
// change.
func (b *BFF) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := b.checkOrigin(r); err != nil {
			b.refuse(w, r, err)
			return
		}
		v := b.visit(w, r)
		if v.session != nil && !safe(r.Method) && !b.isBackchannel(r) {
			if err := checkToken(r, v.session.state); err != nil {
				b.refuse(w, r, err)
				return
			}
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), visitKey{}, v)))
	})
}

// checkOrigin returns ErrCrossOrigin for an unsafe request that another origin caused. A GET that opens a WebSocket is unsafe
// too: no browser asks before it sends one, with cookies, from any page of the same site.
func (b *BFF) checkOrigin(r *http.Request) error {
	if safe(r.Method) && r.Header.Get("Upgrade") != "" {
		r = r.Clone(r.Context())
		r.Method = http.MethodPost
	}
	if b.origins.Check(r) != nil {
		return ErrCrossOrigin
	}
	return nil
}

// visit finds the session of a request and refreshes it where that is due.
func (b *BFF) visit(w http.ResponseWriter, r *http.Request) *visit {
	if v, ok := r.Context().Value(visitKey{}).(*visit); ok && v.bff == b {
		return v // Handler inside of Middleware
	}
	header := w.Header()
	header["Vary"] = append(header["Vary"], "Cookie")
	was, err := b.read(r)
	if err != nil {
		return &visit{bff: b, err: err}
	}
	claims, is, err := b.alive(r.Context(), was)
	if err != nil {
		return &visit{bff: b, err: err}
	}
	if is != was && b.config.Store == nil {
		if err := b.writeSealed(w, r, is); err != nil {
			b.config.Log.ErrorContext(r.Context(), "session does not fit into cookies", "session_id", is.sid, "error", err)
		}
	}
	if len(header["Cache-Control"]) == 0 {
		header["Cache-Control"] = []string{"no-store"}
	}
	return &visit{bff: b, session: &Session{Claims: claims, bff: b, state: is}}
}

// session returns the session of a request inside of Middleware.
func sessionOf(r *http.Request, b *BFF) (*Session, error) {
	v, ok := r.Context().Value(visitKey{}).(*visit)
	switch {
	case !ok || v.bff != b:
		return nil, ErrNoSession // a guard without Middleware around it refuses every request
	case v.session == nil:
		return nil, v.err
	}
	return v.session, nil
}

// RequireUser lets requests with a session pass. A browser that opens a page without one is sent to log in and comes back; any
// other request is answered 401. Like the guards below it goes inside of Middleware.
func (b *BFF) RequireUser(next http.Handler) http.Handler {
	return b.guard(next, func(*Session) error { return nil })
}

// RequireRole lets sessions of users with one of the roles pass; others are refused with 403. A change of roles counts within a
// second.
func (b *BFF) RequireRole(roles ...string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return b.guard(next, func(s *Session) error { return s.Claims.CheckRole(roles...) })
	}
}

// RequireScope lets sessions pass whose access token has all of the scopes; others are refused with 403.
func (b *BFF) RequireScope(scopes ...string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return b.guard(next, func(s *Session) error { return s.Claims.CheckScope(scopes...) })
	}
}

// RequireRecent lets sessions of users pass who authenticated at most maxAge ago. A browser that opens a page is sent to the
// issuer to authenticate again, and comes back with a new session; any other request is answered 401 with the challenge of RFC
// 9470, section 3, upon which script goes to login?prompt=login&return_to=... below the prefix. maxAge is at least a minute, so
// that the user has time to use it.
func (b *BFF) RequireRecent(maxAge time.Duration) func(http.Handler) http.Handler {
	maxAge = max(maxAge, time.Minute)
	return func(next http.Handler) http.Handler {
		return b.guard(next, func(s *Session) error { return s.Claims.CheckAuthTime(maxAge) })
	}
}

// guard lets requests pass whose session check accepts.
func (b *BFF) guard(next http.Handler, check func(*Session) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := sessionOf(r, b)
		if err == nil {
			err = check(s)
		}
		insufficient, _ := errors.AsType[*verifier.InsufficientError](err)
		switch {
		case err == nil:
			next.ServeHTTP(w, r)
		case errors.Is(err, ErrNoSession) && isNavigation(r):
			b.sendToLogin(w, r, nil)
		case insufficient != nil && Status(err) == http.StatusUnauthorized && isNavigation(r): // what another login can mend
			// Both: the issuer checks max_age by its own clock, and another clock here would send the browser round and round.
			b.sendToLogin(w, r, url.Values{"max_age": {seconds(insufficient.MaxAge)}, "prompt": {"login"}})
		default:
			b.refuse(w, r, err)
		}
	})
}

func seconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }

// sendToLogin sends a browser to log in and back to the page that it wanted; after a form, to the page that had the form.
func (b *BFF) sendToLogin(w http.ResponseWriter, r *http.Request, query url.Values) {
	if query == nil {
		query = url.Values{}
	}
	back := r.URL.RequestURI()
	if !safe(r.Method) {
		back = "/"
		if from, err := url.Parse(r.Referer()); err == nil && from.Scheme+"://"+from.Host == b.config.URL {
			back = from.RequestURI()
		}
	}
	if ownPath(back) {
		query.Set("return_to", back)
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, b.config.Prefix+"/login?"+query.Encode(), http.StatusSeeOther)
}

// isNavigation reports whether a browser opens a page, and can be sent elsewhere: script cannot follow to another origin.
func isNavigation(r *http.Request) bool {
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" {
		return mode == "navigate"
	}
	return acceptsHTML(r) && r.Header.Get("X-Requested-With") == "" && r.Header.Get(CSRFHeader) == ""
}

func acceptsHTML(r *http.Request) bool {
	return slices.ContainsFunc(r.Header.Values("Accept"), func(v string) bool { return strings.Contains(v, "text/html") })
}

// refuse answers a request that failed with err.
func (b *BFF) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if b.config.Refuse != nil {
		b.config.Refuse(w, r, err)
		return
	}
	b.WriteError(w, r, err)
}

// WriteError answers a request that failed with err, as New does without Config.Refuse: a small page for browsers, JSON with
// error and error_description for others, and the status that Status says.
func (b *BFF) WriteError(w http.ResponseWriter, r *http.Request, err error) {
	status, h := Status(err), w.Header()
	if status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	insufficient, _ := errors.AsType[*verifier.InsufficientError](err)
	if !isNavigation(r) && (insufficient != nil || status == http.StatusUnauthorized) {
		if insufficient == nil {
			err = verifier.ErrNoToken // 401 has a challenge (RFC 9110, section 11.6.1)
		}
		verifier.WriteError(w, err)
		return
	}
	code, text := explain(err)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if !isNavigation(r) {
		writeJSON(w, status, map[string]string{"error": code, "error_description": text})
		return
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'")
	w.WriteHeader(status)
	_ = errorPage().Execute(w, map[string]any{ // the browser may be gone
		"Text":  text,
		"Again": status == http.StatusBadRequest || status == http.StatusBadGateway || status == http.StatusUnauthorized,
		"Login": b.config.Prefix + "/login",
	})
}

// explain returns a code for programs and a sentence for people.
func explain(err error) (code, text string) {
	refused, _ := errors.AsType[*CallbackError](err)
	switch {
	case refused != nil && refused.Code == "access_denied":
		return refused.Code, "The login was cancelled."
	case errors.Is(err, ErrNoSession):
		return "unauthorized", "Please log in."
	case errors.Is(err, ErrUnavailable):
		return "temporarily_unavailable", "The login cannot be checked at the moment. Please try again."
	case errors.Is(err, ErrCrossOrigin):
		return "cross_origin", "This request came from another site."
	case errors.Is(err, ErrCSRF):
		return "csrf_token", "This form is out of date. Please go back, load the page again and repeat what you did."
	case errors.Is(err, ErrFlow):
		return "login_expired", "This login is not known in this browser, or has taken too long."
	case errors.Is(err, ErrLogoutToken):
		return "invalid_request", "The logout token is not valid."
	case Status(err) == http.StatusForbidden:
		return "forbidden", "You are logged in, but may not do this."
	case Status(err) < http.StatusInternalServerError:
		return "login_failed", "The login did not succeed."
	}
	return "server_error", "Something went wrong here."
}

// errorPage is parsed at each use, which is rare.
func errorPage() *template.Template {
	return template.Must(template.New("error").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Not possible</title>
<style>
:root{color-scheme:light dark}
body{font:1.1rem/1.5 system-ui,sans-serif;margin:15vh auto;max-width:32rem;padding:0 1rem}
</style>
<h1>Not possible</h1>
<p id="error">{{.Text}}</p>
{{if .Again}}<p><a href="{{.Login}}">Log in</a></p>{{end}}
<p><a href="/">Home</a></p>
</html>
`))
}
