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

// PushedRequestLifetime is how long a browser can begin with a pushed request, and visitedLifetime how long it may go on with it
// from each visit: a reload or a second tab begins anew. The request is used up when its code is issued (FAPI 2.0 Security
// Profile, section 5.3.2.2).
const (
	PushedRequestLifetime = 60 * time.Second
	visitedLifetime       = time.Hour
)

// Push answers the pushed authorization request endpoint (RFC 9126): it validates the request as the authorization
// endpoint would and returns the request_uri that stands for it, for one code. Every error is an *Error.
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

// visitPushed returns a pushed request. It counts for the client that pushed it only.
func (s *Server) visitPushed(ctx context.Context, client Client, uri string) (Form, error) {
	now := s.config.Clock.Now()
	pushed, err := s.browser.VisitPushedRequest(ctx, sha256.Sum256([]byte(uri)), now, now.Add(visitedLifetime))
	if errors.Is(err, ErrRequestNotFound) || err == nil && pushed.ClientID != client.ID {
		return nil, unknownRequest()
	}
	if err != nil {
		return nil, err
	}
	values, err := url.ParseQuery(pushed.Parameters)
	return Form(values), err
}

func unknownRequest() *Error {
	return refuse(InvalidRequest, "the request_uri is unknown, used or expired")
}

// pushedURI is the request_uri of a pushed request; empty if the request is none.
func pushedURI(form Form) string {
	if uri := form["request_uri"]; len(uri) == 1 && strings.HasPrefix(uri[0], requestURIPrefix) {
		return uri[0]
	}
	return ""
}

// isPushed notes that a request came by a request_uri, also for the pages that it is carried through.
func (a *Authorization) isPushed(uri string) {
	a.Pushed = sha256.Sum256([]byte(uri))
	a.Parameters += "&" + url.Values{"request_uri": {uri}}.Encode()
}
