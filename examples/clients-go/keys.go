package main

import (
	"context"
	"net/http"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"github.com/lestrrat-go/httprc/v3"
	"github.com/lestrrat-go/jwx/v3/jwk"
	jwxjwt "github.com/lestrrat-go/jwx/v3/jwt"
)

// useKeyfunc is https://github.com/MicahParks/keyfunc: golang-jwt with the keys of a JWKS.
func useKeyfunc(s settings, mux *http.ServeMux) error {
	keys, err := keyfunc.NewDefaultCtx(context.Background(), []string{s.issuer + "/.well-known/jwks.json"})
	if err != nil {
		return err
	}
	hello(mux, func(_ *http.Request, raw string) (string, error) {
		token, err := jwt.Parse(raw, keys.Keyfunc, jwt.WithIssuer(s.issuer), jwt.WithAudience(audience), jwt.WithExpirationRequired(),
			jwt.WithValidMethods([]string{"ES256", "RS256", "EdDSA"}))
		if err != nil {
			return "", err
		}
		return token.Claims.GetSubject()
	})
	return useGoth(s, mux)
}

// useJWX is https://github.com/lestrrat-go/jwx: its cache of keys, as its documentation has it.
func useJWX(s settings, mux *http.ServeMux) error {
	verify, err := jwx(context.Background(), s.issuer, http.DefaultClient)
	if err != nil {
		return err
	}
	hello(mux, func(_ *http.Request, raw string) (string, error) { return verify(raw) })
	return useGoth(s, mux)
}

// jwx returns a function that returns the subject of an access token. It asks for keys until ctx ends, with the library's own
// intervals.
func jwx(ctx context.Context, issuer string, client *http.Client) (func(raw string) (string, error), error) {
	cache, err := jwk.NewCache(ctx, httprc.NewClient())
	if err != nil {
		return nil, err
	}
	address := issuer + "/.well-known/jwks.json"
	if err := cache.Register(ctx, address, jwk.WithHTTPClient(client)); err != nil {
		return nil, err
	}
	keys, err := cache.CachedSet(address)
	if err != nil {
		return nil, err
	}
	return func(raw string) (string, error) {
		token, err := jwxjwt.ParseString(raw, jwxjwt.WithKeySet(keys), jwxjwt.WithIssuer(issuer), jwxjwt.WithAudience(audience))
		if err != nil {
			return "", err
		}
		subject, _ := token.Subject()
		return subject, nil
	}, nil
}
