package bff

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
)

// Bounds on what the issuer may take and send.
const (
	requestTimeout = 10 * time.Second
	maxMetadata    = 256 << 10
	metadataAge    = time.Hour
)

// issuer speaks to the authorization server.
type issuer struct {
	url    string
	config *Config
	client *http.Client

	mu      sync.Mutex // held while the metadata is fetched
	meta    *metadata  // nil until fetched
	fetched time.Time
}

// metadata is what we need of the authorization server metadata (RFC 8414).
type metadata struct {
	Issuer        string `json:"issuer"`
	Authorization string `json:"authorization_endpoint"`
	Token         string `json:"token_endpoint"`
	Revocation    string `json:"revocation_endpoint"`
	EndSession    string `json:"end_session_endpoint"`
}

func newIssuer(address string, config *Config) *issuer {
	var client http.Client
	if config.HTTPClient != nil {
		client = *config.HTTPClient
	}
	client.Timeout = 0 // each request has its own
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &issuer{url: address, config: config, client: &client}
}

// metadata returns the issuer's metadata, or an error that wraps ErrUnavailable. Old ones are better than none.
func (i *issuer) metadata(ctx context.Context) (*metadata, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.meta != nil && time.Since(i.fetched) < metadataAge {
		return i.meta, nil
	}
	m, err := i.fetch(ctx)
	switch {
	case err == nil:
		i.meta, i.fetched = m, time.Now()
	case i.meta == nil:
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	default:
		i.fetched = time.Now().Add(time.Minute - metadataAge) // not at every request
	}
	return i.meta, nil
}

func (i *issuer) fetch(ctx context.Context) (*metadata, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	u, err := url.Parse(i.url)
	if err != nil {
		return nil, err
	}
	u.Path = "/.well-known/oauth-authorization-server" + strings.TrimSuffix(u.Path, "/") // RFC 8414, section 3.1
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	response, err := i.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("metadata: %s", response.Status)
	}
	var m metadata
	if err := json.NewDecoder(io.LimitReader(response.Body, maxMetadata)).Decode(&m); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	if m.Issuer != i.url { // RFC 8414, section 3.3
		return nil, fmt.Errorf("metadata of %q instead of %q", m.Issuer, i.url)
	}
	if m.Authorization == "" || m.Token == "" {
		return nil, errors.New("metadata without authorization or token endpoint")
	}
	return &m, nil
}

// oauth returns the client's configuration.
func (i *issuer) oauth(m *metadata) *oauth2.Config {
	style := oauth2.AuthStyleInHeader
	if i.config.ClientSecret == "" {
		style = oauth2.AuthStyleInParams
	}
	return &oauth2.Config{
		ClientID:     i.config.ClientID,
		ClientSecret: i.config.ClientSecret,
		Endpoint:     oauth2.Endpoint{AuthURL: m.Authorization, TokenURL: m.Token, AuthStyle: style},
		RedirectURL:  i.config.URL + i.config.Prefix + "/callback",
		Scopes:       i.config.Scope,
	}
}

// tokens are what the token endpoint answers.
type tokens struct {
	access, refresh, id string
}

func tokensOf(t *oauth2.Token) tokens {
	id, _ := t.Extra("id_token").(string)
	return tokens{access: t.AccessToken, refresh: t.RefreshToken, id: id}
}

// exchange redeems a code. The PKCE verifier proves that this login is ours (RFC 7636, section 4.5).
func (i *issuer) exchange(ctx context.Context, code, pkce string) (tokens, error) {
	m, err := i.metadata(ctx)
	if err != nil {
		return tokens{}, err
	}
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, oauth2.HTTPClient, i.client), requestTimeout)
	defer cancel()
	t, err := i.oauth(m).Exchange(ctx, code, oauth2.VerifierOption(pkce))
	if err != nil {
		return tokens{}, refusalOf(err)
	}
	return tokensOf(t), nil
}

// errInvalidGrant is a refresh token that the issuer does not take, and never will again.
var errInvalidGrant = errors.New("bff: invalid_grant")

// refresh redeems a refresh token. All who hold one token send one Idempotency-Key with it, so that the issuer takes them for
// one request and its repeats, whichever process they come from and however late an answer is lost.
func (i *issuer) refresh(ctx context.Context, token string) (tokens, error) {
	m, err := i.metadata(ctx)
	if err != nil {
		return tokens{}, err
	}
	key := base64.RawURLEncoding.EncodeToString(mac([]byte(token), "bff idempotency", ""))
	client := &http.Client{Transport: withHeader{i.transport(), "Idempotency-Key", key}, CheckRedirect: i.client.CheckRedirect}
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, oauth2.HTTPClient, client), requestTimeout)
	defer cancel()
	t, err := i.oauth(m).TokenSource(ctx, &oauth2.Token{RefreshToken: token}).Token()
	if err != nil {
		return tokens{}, refusalOf(err)
	}
	return tokensOf(t), nil
}

// revoke ends the session of a refresh token at the issuer (RFC 7009).
func (i *issuer) revoke(ctx context.Context, token string) error {
	m, err := i.metadata(ctx)
	if err != nil {
		return err
	}
	if m.Revocation == "" {
		return errors.New("bff: the issuer has no revocation endpoint")
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	form := url.Values{"token": {token}, "token_type_hint": {"refresh_token"}}
	if i.config.ClientSecret == "" {
		form.Set("client_id", i.config.ClientID)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, m.Revocation, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if i.config.ClientSecret != "" { // RFC 6749, section 2.3.1
		request.SetBasicAuth(url.QueryEscape(i.config.ClientID), url.QueryEscape(i.config.ClientSecret))
	}
	response, err := i.client.Do(request)
	if err != nil {
		return fmt.Errorf("%w: revoke: %w", ErrUnavailable, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: revoke: %s", ErrUnavailable, response.Status)
	}
	return nil
}

func (i *issuer) transport() http.RoundTripper {
	if i.client.Transport != nil {
		return i.client.Transport
	}
	return http.DefaultTransport
}

// withHeader adds a header field to each request.
type withHeader struct {
	base        http.RoundTripper
	name, value string
}

// RoundTrip implements http.RoundTripper.
func (t withHeader) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(t.name, t.value)
	return t.base.RoundTrip(r)
}

// refusalOf is the error of a token request: invalid_grant is an answer, and anything else may pass. The text of the answer is
// left out: it may be a page of a proxy, or repeat a secret.
func refusalOf(err error) error {
	e, answered := errors.AsType[*oauth2.RetrieveError](err)
	switch {
	case answered && e.ErrorCode == "invalid_grant" && e.Response.StatusCode < http.StatusInternalServerError:
		return errInvalidGrant
	case answered:
		return fmt.Errorf("%w: the token endpoint answered %d %q", ErrUnavailable, e.Response.StatusCode, e.ErrorCode)
	}
	return fmt.Errorf("%w: token endpoint: %w", ErrUnavailable, err)
}
