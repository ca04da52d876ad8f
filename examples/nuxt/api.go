package main

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/handstamp/handstamp/pkg/bff"
)

const (
	longestNote = 500
	mostNotes   = 50
)

// api is the Go half. Its notes are in memory: where an application keeps its data is not the point here.
type api struct {
	bff *bff.BFF

	mu     sync.Mutex
	last   int
	people map[string]*person // by user ID
}

type person struct {
	Name  string
	Notes []note // newest first
}

type note struct {
	ID   int    `json:"id"`
	Text string `json:"text"`
}

func newAPI(b *bff.BFF) *api {
	return &api{bff: b, people: map[string]*person{}}
}

// routes are all addresses of the application. The guards say who may see what; pages are Nuxt's.
func (a *api) routes(pages http.Handler, o options) http.Handler {
	users, admins := a.bff.RequireUser, a.bff.RequireRole("admin")
	mux := http.NewServeMux()
	mux.Handle("/auth/", a.bff.Handler())
	mux.Handle("GET /api/notes", users(http.HandlerFunc(a.notes)))
	mux.Handle("POST /api/notes", users(http.HandlerFunc(a.addNote)))
	mux.Handle("DELETE /api/notes/{id}", users(http.HandlerFunc(a.deleteNote)))
	mux.Handle("GET /api/admin/people", admins(http.HandlerFunc(a.allPeople)))
	mux.Handle("/api/", http.NotFoundHandler())
	mux.Handle("/notes", users(pages)) // a visitor is sent to log in, and comes back
	mux.Handle("/admin", users(pages)) // Nuxt answers with the status that /api/admin/people gives it
	mux.Handle("/", pages)

	all := http.NewServeMux()
	all.Handle("/_nuxt/", pages) // scripts and styles are the same for all, and browsers may keep them
	all.Handle("/", a.bff.Middleware(mux))
	return headers(all, o)
}

// nonceHeader tells Nuxt the nonce of its own scripts: see server/plugins/nonce.ts.
const nonceHeader = "X-Script-Nonce"

// headers are those of every answer. Script without the nonce does not run, so that script which somebody slips into a page is
// dead. The form that logs out leads on to the issuer, which form-action must allow.
func headers(next http.Handler, o options) http.Handler {
	rest := "'; img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self' " + o.issuer
	if o.nuxt != "" {
		rest += "; style-src 'self' 'unsafe-inline'" // Vite's server for developers changes styles by script
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		nonce := rand.Text()
		r.Header.Set(nonceHeader, nonce)
		w.Header().Set("Content-Security-Policy", "default-src 'self'; script-src 'self' 'nonce-"+nonce+rest)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}

// visitor returns who sent the request. The guards have seen that there is a session. The caller holds the lock.
func (a *api) visitor(r *http.Request) *person {
	s, _ := bff.SessionFrom(r.Context())
	p := a.people[s.Claims.Subject]
	if p == nil {
		p = &person{Name: s.Claims.Subject, Notes: []note{}}
		for _, claim := range []string{"name", "email"} {
			var text string
			if ok, err := s.IDClaim(claim, &text); ok && err == nil && text != "" {
				p.Name = text
			}
		}
		a.people[s.Claims.Subject] = p
	}
	return p
}

func (a *api) notes(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	writeJSON(w, a.visitor(r).Notes)
}

// addNote takes a form, which works without script. Middleware has checked its CSRF token.
func (a *api) addNote(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
	text := strings.TrimSpace(r.PostFormValue("text"))
	if text == "" || len(text) > longestNote {
		http.Error(w, "A note has 1 to "+strconv.Itoa(longestNote)+" bytes.", http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last++
	p := a.visitor(r)
	p.Notes = slices.Insert(p.Notes, 0, note{a.last, text})
	p.Notes = p.Notes[:min(len(p.Notes), mostNotes)]
	http.Redirect(w, r, "/notes", http.StatusSeeOther)
}

// deleteNote is for script, with the CSRF token in a header.
func (a *api) deleteNote(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.visitor(r)
	i := slices.IndexFunc(p.Notes, func(n note) bool { return strconv.Itoa(n.ID) == r.PathValue("id") })
	if i < 0 {
		http.Error(w, "No such note of yours.", http.StatusNotFound)
		return
	}
	p.Notes = slices.Delete(p.Notes, i, i+1)
	w.WriteHeader(http.StatusNoContent)
}

// allPeople tells administrators who was here.
func (a *api) allPeople(w http.ResponseWriter, r *http.Request) {
	type row struct {
		Name  string `json:"name"`
		Notes int    `json:"notes"`
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.visitor(r)
	rows := make([]row, 0, len(a.people))
	for _, p := range a.people {
		rows = append(rows, row{p.Name, len(p.Notes)})
	}
	slices.SortFunc(rows, func(x, y row) int { return cmp.Compare(x.Name, y.Name) })
	writeJSON(w, rows)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the caller may be gone
}
