// Package demo is something to play with: a single-page application on an origin of its own, and an API that it calls.
// The page shows the life of its tokens as it happens.
package demo

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// The page's client keeps its refresh token in a cookie, as a page should. The phone's has it in the body, so that the
// play can lose it, and have it stolen.
const (
	browserID = "demo"
	phoneID   = "demo-phone"
)

//go:embed page
var files embed.FS

// Demo is the page and its API.
type Demo struct {
	issuer string
	page   *template.Template
	tokens *verifier.Verifier
}

// Check is nil for an issuer and addresses to listen on that strangers cannot reach: the page shows tokens.
func Check(issuer string, listen ...string) error {
	u, err := url.Parse(issuer)
	if err != nil {
		return err
	}
	if !onLoopback(u.Hostname()) {
		return fmt.Errorf("the demo is for this machine only, and the issuer is %s: leave out --demo, or --issuer", issuer)
	}
	for _, address := range listen {
		if host, _, err := net.SplitHostPort(address); err != nil || !onLoopback(host) {
			return fmt.Errorf("the demo is for this machine only, and %s is not on loopback: leave out --demo, or listen on 127.0.0.1",
				address)
		}
	}
	return nil
}

func onLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Origin is that of the page on a port beside the issuer. Browsers take both for one site, so that the refresh cookie goes along.
func Origin(issuer string, port string) (string, error) {
	u, err := url.Parse(issuer)
	if err != nil {
		return "", err
	}
	return "http://" + net.JoinHostPort(u.Hostname(), port), nil
}

// New returns the demo of an issuer. The caller closes the verifier of its API.
func New(issuer string, tokens *verifier.Verifier) (*Demo, error) {
	page, err := template.ParseFS(files, "page/index.html")
	if err != nil {
		return nil, err
	}
	return &Demo{issuer: issuer, page: page, tokens: tokens}, nil
}

// Clients are those that the page needs.
func Clients(origin string) []oauth.Client {
	client := oauth.Client{
		Type:         oauth.Public,
		Grants:       []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken},
		RedirectURIs: []string{origin + "/"},
		Origins:      []string{origin},
		Scopes:       []string{"openid", "profile", "email", oauth.ScopeAccount},
	}
	browser, phone := client, client
	browser.ID, browser.Name, browser.RefreshTransport = browserID, "Demo: this browser", oauth.TransportCookie
	phone.ID, phone.Name = phoneID, "Demo: a phone"
	return []oauth.Client{browser, phone}
}

// ClientStore is where clients are registered.
type ClientStore interface {
	Client(ctx context.Context, id string) (oauth.Client, error)
	CreateClient(ctx context.Context, c oauth.Client, e audit.Event) error
	UpdateClient(ctx context.Context, c oauth.Client, since time.Time, e audit.Event) error
}

// Register registers the clients, or brings those of an earlier run up to date.
func Register(ctx context.Context, s ClientStore, clients []oauth.Client, now time.Time) error {
	for _, c := range clients {
		c.CreatedAt, c.UpdatedAt = now, now
		if err := c.Validate(); err != nil {
			return fmt.Errorf("client %s: %w", c.ID, err)
		}
		known, err := s.Client(ctx, c.ID)
		switch {
		case errors.Is(err, oauth.ErrClientNotFound):
			err = s.CreateClient(ctx, c, audit.ClientCreated(now, c.ID, audit.CLI()))
		case err == nil:
			c.CreatedAt = known.CreatedAt
			err = s.UpdateClient(ctx, c, known.UpdatedAt, audit.ClientUpdated(now, c.ID, audit.CLI()))
		}
		if err != nil {
			return fmt.Errorf("register client %s: %w", c.ID, err)
		}
	}
	return nil
}

// ServeHTTP answers with the page, its files, and GET /api/hello.
func (d *Demo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' "+
		d.issuer+"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.WriteHeader(http.StatusMethodNotAllowed)
	case r.URL.Path == "/api/hello":
		d.hello(w, r)
	case r.URL.Path == "/":
		h.Set("Content-Type", "text/html; charset=utf-8")
		_ = d.page.Execute(w, map[string]string{"Issuer": d.issuer, "Browser": browserID, "Phone": phoneID})
	default:
		http.ServeFileFS(w, r, files, "page/"+strings.TrimPrefix(r.URL.Path, "/")) //nolint:gosec // only what is embedded
	}
}

// hello is an API that checks tokens offline, as any other would.
func (d *Demo) hello(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	raw, err := verifier.TokenFrom(r)
	if err == nil {
		var claims *verifier.Claims
		if claims, err = d.tokens.Verify(r.Context(), raw); err == nil {
			_ = json.NewEncoder(w).Encode(map[string]string{"hello": claims.Subject})
			return
		}
	}
	w.WriteHeader(http.StatusUnauthorized)
	_ = json.NewEncoder(w).Encode(map[string]string{"refused": err.Error()})
}
