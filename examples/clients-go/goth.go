package main

import (
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"sync"

	"github.com/gorilla/sessions"
	"github.com/markbates/goth"
	"github.com/markbates/goth/gothic"
	"github.com/markbates/goth/providers/openidConnect"
)

// useGoth is https://github.com/markbates/goth: the provider for OpenID Connect, by the server's metadata. It sends no PKCE.
func useGoth(s settings, mux *http.ServeMux) error {
	provider, err := openidConnect.New(s.clientID, s.clientSecret, s.base+"/callback",
		s.issuer+"/.well-known/openid-configuration", "openid", "email", "profile")
	if err != nil {
		return err
	}
	goth.UseProviders(provider)
	gothic.Store = sessions.NewCookieStore([]byte(rand.Text()))
	var mu sync.Mutex
	var user goth.User
	named := func(r *http.Request) *http.Request { return gothic.GetContextWithProvider(r, provider.Name()) }
	handle(mux, "/login", func(w http.ResponseWriter, r *http.Request) (string, any, error) {
		to, err := gothic.GetAuthURL(w, named(r))
		return to, nil, err
	})
	handle(mux, "/callback", func(w http.ResponseWriter, r *http.Request) (string, any, error) {
		u, err := gothic.CompleteUserAuth(w, named(r))
		mu.Lock()
		defer mu.Unlock()
		user = u
		return "/me", nil, err
	})
	handle(mux, "/me", func(http.ResponseWriter, *http.Request) (string, any, error) {
		mu.Lock()
		defer mu.Unlock()
		return "", map[string]string{"name": user.Name, "email": user.Email}, nil
	})
	handle(mux, "/refresh", func(http.ResponseWriter, *http.Request) (string, any, error) {
		mu.Lock()
		defer mu.Unlock()
		token, err := provider.RefreshToken(user.RefreshToken)
		if err == nil && (token.AccessToken == "" || token.AccessToken == user.AccessToken) {
			err = errors.New("the refresh gave no new access token")
		}
		if err == nil {
			user.AccessToken, user.RefreshToken = token.AccessToken, token.RefreshToken
		}
		return "/me", nil, err
	})
	handle(mux, "/logout", func(w http.ResponseWriter, r *http.Request) (string, any, error) {
		mu.Lock()
		defer mu.Unlock()
		to := provider.OpenIDConfig.EndSessionEndpoint + "?" + url.Values{
			"id_token_hint":            {user.IDToken},
			"post_logout_redirect_uri": {s.base + "/me"},
		}.Encode()
		user = goth.User{}
		return to, nil, gothic.Logout(w, r)
	})
	mux.HandleFunc("GET /token", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = w.Write([]byte(user.AccessToken))
	})
	return nil
}
