//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"time"
)

// app is one process of the app. This file is what an app for a phone has to do.
type app struct {
	issuer   string
	keyChain keyChain
}

// errLoggedOut says that the server has ended the session: the person has to log in again.
var errLoggedOut = errors.New("logged out")

// run refreshes without a pause until ctx ends, as if every access token had run out.
func (a *app) run(ctx context.Context) error {
	const shortest, longest = time.Millisecond, time.Second
	for pause := shortest; ctx.Err() == nil; {
		switch _, err := a.refresh(ctx); {
		case err == nil:
			pause = shortest
		case errors.Is(err, errLoggedOut):
			return err
		default: // nothing is known, so the same request again
			time.Sleep(pause)
			pause = min(2*pause, longest)
		}
	}
	return nil
}

// refresh trades the refresh token in the key chain for a new one, stores that, and returns the access token that came with it.
// After any error but errLoggedOut it is called again: that sends the same request, however long ago the first one was.
func (a *app) refresh(ctx context.Context) (accessToken string, err error) {
	// The key is written down before the request is sent. Whoever refreshes this token, also after a crash, sends this key.
	var used entry
	err = a.keyChain.change(func(e *entry) {
		if e.Key == "" {
			e.Key = newKey()
		}
		used = *e
	})
	if err != nil {
		return "", err
	}
	got, err := a.post(ctx, used)
	if errors.Is(err, errLoggedOut) {
		// The other process was faster, and this request was a late copy of its own: the token that counts is another one now.
		now, readErr := a.keyChain.read()
		if readErr == nil && now.RefreshToken != used.RefreshToken {
			return "", errors.New("overtaken by the other process")
		}
		return "", err
	}
	if err != nil {
		return "", err
	}
	// Only who finds the token as it was stores the next one: another process may have gone on meanwhile.
	err = a.keyChain.change(func(e *entry) {
		if e.RefreshToken == used.RefreshToken {
			*e = entry{RefreshToken: got.RefreshToken}
		}
	})
	return got.AccessToken, err
}

// post sends the refresh. Only invalid_grant means that the session is over; whatever else fails says nothing about it.
func (a *app) post(ctx context.Context, e entry) (tokens, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	// The phone may have stopped this process for hours since it read the key chain, while the other one went on. Then the token is
	// so old that only a thief would use it. So it looks again when there is a connection, at the last moment.
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		if now, err := a.keyChain.read(); err != nil || now.RefreshToken != e.RefreshToken {
			cancel()
		}
	}})
	form := url.Values{"grant_type": {"refresh_token"}, "client_id": {"default"}, "refresh_token": {e.RefreshToken}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.issuer+"/oauth2/token", strings.NewReader(form.Encode()))
	if err != nil {
		return tokens{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Idempotency-Key", e.Key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return tokens{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return tokens{}, err
	}
	var answer struct {
		tokens
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return tokens{}, fmt.Errorf("%s: %w", resp.Status, err)
	}
	switch {
	case resp.StatusCode == http.StatusOK && answer.RefreshToken != "":
		return answer.tokens, nil
	case answer.Error == "invalid_grant":
		return tokens{}, fmt.Errorf("%w: %s", errLoggedOut, answer.Description)
	}
	return tokens{}, errors.New(resp.Status)
}
