package main

import (
	"context"
	"database/sql"
	_ "embed"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/handstamp/handstamp/pkg/bff"
)

//go:embed pages.html
var pagesHTML string

//go:embed style.css
var styleSheet string

// application is the pages and what they need.
type application struct {
	bff    *bff.BFF
	db     *sql.DB
	issuer string
}

func (a *application) createTables(ctx context.Context) error {
	_, err := a.db.ExecContext(ctx,
		"CREATE TABLE IF NOT EXISTS notes (subject TEXT NOT NULL, text TEXT NOT NULL, at BIGINT NOT NULL)")
	return err
}

// routes are the pages. Everything is inside of Middleware; the guards say who may see what.
func (a *application) routes() http.Handler {
	pages := template.Must(template.New("pages").Parse(pagesHTML))
	users := a.bff.RequireUser
	mux := http.NewServeMux()
	mux.Handle("/auth/", a.bff.Handler())
	mux.HandleFunc("GET /style.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		w.Header().Set("Cache-Control", "public, max-age=3600")
		_, _ = w.Write([]byte(styleSheet)) // the browser may be gone
	})
	mux.Handle("GET /{$}", a.page(pages, "home", nil))
	mux.Handle("GET /notes", users(a.page(pages, "notes", a.notes)))
	mux.Handle("POST /notes", users(a.action("/notes", a.addNote)))
	mux.Handle("GET /devices", users(a.page(pages, "devices", a.devices)))
	mux.Handle("POST /devices/end", users(a.action("/devices", a.endDevice)))
	mux.Handle("POST /devices/end-others", users(a.action("/devices", a.endOthers)))
	mux.Handle("GET /admin", a.bff.RequireRole("admin")(a.page(pages, "admin", nil)))
	mux.Handle("GET /vault", a.bff.RequireRecent(10*time.Minute)(a.page(pages, "vault", nil)))
	return a.headers(a.bff.Middleware(mux))
}

// headers are those of every page. The form that logs out leads on to the issuer, which form-action must allow.
func (a *application) headers(next http.Handler) http.Handler {
	policy := "default-src 'none'; style-src 'self'; img-src data:; form-action 'self' " + a.issuer +
		"; base-uri 'none'; frame-ancestors 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}

// view is what a template is given.
type view struct {
	Page    string
	Session *bff.Session // nil for nobody
	Name    string
	Data    any
}

// Current is the value of aria-current of a link.
func (v view) Current(page string) string {
	if v.Page == page {
		return "page"
	}
	return "false"
}

// page shows a page with what load returns for it.
func (a *application) page(pages *template.Template, name string,
	load func(*http.Request, *bff.Session) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := view{Page: name}
		if s, ok := bff.SessionFrom(r.Context()); ok {
			v.Session, v.Name = s, nameOf(s)
		}
		if load != nil {
			var err error
			if v.Data, err = load(r, v.Session); err != nil {
				a.bff.WriteError(w, r, err)
				return
			}
		}
		var page strings.Builder
		if err := pages.ExecuteTemplate(&page, name, v); err != nil {
			a.bff.WriteError(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(page.String())) // the browser may be gone
	})
}

// nameOf is how a user is greeted: as the ID token has it.
func nameOf(s *bff.Session) string {
	for _, claim := range []string{"name", "email"} {
		var name string
		if ok, err := s.IDClaim(claim, &name); ok && err == nil && name != "" {
			return name
		}
	}
	return s.Claims.Subject
}

// action does what a form asks and goes on to a page. Middleware has checked the CSRF token.
func (a *application) action(next string, do func(*http.Request, *bff.Session) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, _ := bff.SessionFrom(r.Context())
		if err := do(r, s); err != nil {
			a.bff.WriteError(w, r, err)
			return
		}
		http.Redirect(w, r, next, http.StatusSeeOther)
	})
}

type note struct {
	Text string
	At   time.Time
}

func (a *application) notes(r *http.Request, s *bff.Session) (any, error) {
	rows, err := a.db.QueryContext(r.Context(), "SELECT text, at FROM notes WHERE subject = ? ORDER BY at DESC LIMIT 50",
		s.Claims.Subject)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var notes []note
	for rows.Next() {
		var n note
		var at int64
		if err := rows.Scan(&n.Text, &at); err != nil {
			return nil, err
		}
		n.At = time.Unix(at, 0)
		notes = append(notes, n)
	}
	return notes, rows.Err()
}

func (a *application) addNote(r *http.Request, s *bff.Session) error {
	const longest = 500
	text := strings.TrimSpace(r.PostFormValue("text"))
	if text == "" || len(text) > longest {
		return nil // the page says so before it sends it
	}
	_, err := a.db.ExecContext(r.Context(), "INSERT INTO notes (subject, text, at) VALUES (?, ?, ?)", s.Claims.Subject, text,
		time.Now().Unix())
	return err
}

func (a *application) devices(r *http.Request, s *bff.Session) (any, error) {
	return a.bff.Sessions(r.Context(), s.Claims.Subject)
}

func (a *application) endDevice(r *http.Request, s *bff.Session) error {
	return a.bff.End(r.Context(), s.Claims.Subject, r.PostFormValue("handle"))
}

func (a *application) endOthers(r *http.Request, s *bff.Session) error {
	return a.bff.EndAll(r.Context(), s.Claims.Subject, s.Handle())
}
