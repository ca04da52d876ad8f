package oauth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/url"
	"strings"
	"time"
)

// requestURIPrefix starts the request_uri of a pushed request (RFC 9126, section 2.2).
const requestURIPrefix = "urn:ietf:params:oauth:request_uri:"

// PushedRequestLifetime is how long a pushed request can be used.
const PushedRequestLifetime = 60 * time.Second

// Push answers the pushed authorization request endpoint (RFC 9126): it validates the request as the authorization
// endpoint would and returns the request_uri that stands for it, for one use. Every error is an *Error.
func (s *Server) Push(ctx context.Context, r Request) (requestURI string, err error) {
	uri, err := s.push(ctx, r)
	if err != nil {
		return "", AsError(err)
	}
	return uri, nil
}

func (s *Server) push(ctx context.Context, r Request) (string, error) {
	client, err := s.authenticate(ctx, r)
	if err != nil {
		return "", err
	}
	if s.config.Pushes != nil {
		if wait := s.config.Pushes(client, r.Origin.IP); wait > 0 {
			return "", &Error{Code: TemporarilyUnavailable, Description: "too many requests are pushed", RetryAfter: wait}
		}
	}
	form := Form{}
	for name, values := range r.Form {
		if name != "client_secret" {
			form[name] = values
		}
	}
	form["client_id"] = []string{client.ID}
	if len(form["request_uri"]) > 0 {
		return "", refuse(InvalidRequest, "request_uri cannot be pushed")
	}
	a, err := s.Authorize(ctx, form)
	if err != nil {
		if refusal, ok := errors.AsType[*AuthorizationError](err); ok {
			return "", refusal.Refusal
		}
		return "", err
	}
	uri := requestURIPrefix + rand.Text()
	return uri, s.browser.SavePushedRequest(ctx, PushedRequest{
		Hash:       sha256.Sum256([]byte(uri)),
		ClientID:   client.ID,
		Parameters: a.Parameters,
		ExpiresAt:  s.config.Clock.Now().Add(PushedRequestLifetime),
	})
}

// takePushed uses up a pushed request. It counts for the client that pushed it only.
func (s *Server) takePushed(ctx context.Context, client Client, uri string) (Form, error) {
	pushed, err := s.browser.TakePushedRequest(ctx, sha256.Sum256([]byte(uri)), s.config.Clock.Now())
	if errors.Is(err, ErrRequestNotFound) || err == nil && pushed.ClientID != client.ID ||
		strings.TrimPrefix(uri, requestURIPrefix) == "" {
		return nil, refuse(InvalidRequest, "the request_uri is unknown, used or expired")
	}
	if err != nil {
		return nil, err
	}
	values, err := url.ParseQuery(pushed.Parameters)
	return Form(values), err
}
