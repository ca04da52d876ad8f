package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// providerSecret is what the example provider and the service share. Both are on this machine, and nothing else believes them.
const providerSecret = "only for playing"

// exampleProvider is an OAuth 2 server to play with: whoever comes says who they are, and is believed.
type exampleProvider struct {
	callback string

	mu     sync.Mutex
	codes  map[string]login
	tokens map[string]login
}

type login struct {
	Name, Email string
	challenge   string // RFC 7636
}

// settings are the provider in the configuration file of the service.
func (p *exampleProvider) settings(address string) map[string]any {
	return map[string]any{
		"id": "example", "type": "oauth2", "name": "Example ID",
		"client_id": "handstamp", "client_secret": providerSecret, "token_endpoint_auth_method": "client_secret_post",
		"endpoints": map[string]string{
			"authorization": address + "/authorize", "token": address + "/token", "userinfo": address + "/userinfo",
		},
		"claims":      map[string]string{"email_verified": "email_verified"},
		"trust_email": true, "allow_private_network": true,
	}
}

func (p *exampleProvider) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /authorize", p.ask)
	mux.HandleFunc("POST /authorize", p.authorize)
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("GET /userinfo", p.userinfo)
	return mux
}

//nolint:gochecknoglobals // never changes
var askPage = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Example ID</title>
<link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark; }
body { font: 100%/1.5 system-ui, sans-serif; max-width: 22rem; margin: 12vh auto; padding: 1rem; }
h1 { font-size: 1.5rem; }
label { display: block; font-weight: 600; margin-block: 1rem .25rem; }
input, button {
	font: inherit;
	box-sizing: border-box;
	width: 100%;
	min-height: 2.75rem;
	padding: .4rem .75rem;
	border-radius: .5rem;
}
input { border: 1px solid gray; }
button { margin-block-start: 1.5rem; border: 0; font-weight: 600; color: white; background: #5b3fd6; }
</style>
<h1>Example ID</h1>
<p>A provider to play with. It believes what you say.</p>
<form method="post">
<label for="name">Name</label><input id="name" name="name" value="Ann Example" required>
<label for="email">Email</label><input id="email" name="email" type="email" value="ann@example.com" required>
<button>Log in</button>
</form>
</html>
`))

func (p *exampleProvider) ask(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = askPage.Execute(w, nil) // the browser may be gone
}

// authorize sends the browser back with a code, to the one address that is registered.
func (p *exampleProvider) authorize(w http.ResponseWriter, r *http.Request) {
	q, code := r.URL.Query(), rand.Text()
	if q.Get("redirect_uri") != p.callback || q.Get("code_challenge_method") != "S256" {
		http.Error(w, "This is no login of the service.", http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.codes[code] = login{r.PostFormValue("name"), r.PostFormValue("email"), q.Get("code_challenge")}
	http.Redirect(w, r, p.callback+"?"+url.Values{"code": {code}, "state": {q.Get("state")}}.Encode(), http.StatusSeeOther)
}

func (p *exampleProvider) token(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	code := r.PostFormValue("code")
	l, ok := p.codes[code]
	delete(p.codes, code)
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	if !ok || r.PostFormValue("client_secret") != providerSecret || base64.RawURLEncoding.EncodeToString(sum[:]) != l.challenge {
		http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
		return
	}
	token := rand.Text()
	p.tokens[token] = l
	writeJSON(w, map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 60})
}

func (p *exampleProvider) userinfo(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	l, ok := p.tokens[token]
	delete(p.tokens, token) // asked for once a login
	if !ok {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	writeJSON(w, map[string]any{"sub": l.Email, "email": l.Email, "email_verified": true, "name": l.Name})
}
