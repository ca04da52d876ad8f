package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
)

// A login needs little of what a provider answers. The rest may be odd: it is passed over, and the log says why.

// passOver logs that a part of the provider's answer is not used. reason holds none of the answer's text.
func (p *Provider) passOver(ctx context.Context, part string, reason error) {
	p.log.LogAttrs(ctx, slog.LevelWarn, "part of a provider's answer is passed over",
		slog.String("provider", p.cfg.ID), slog.String("part", part), slog.Any("error", reason))
}

// lenient keeps what is odd in a token answer from x/oauth2, which would refuse all of it.
type lenient struct {
	next     http.RoundTripper
	provider *Provider
}

var errOdd = errors.New("it is not of the type that the standard gives it")

// RoundTrip implements http.RoundTripper.
func (l lenient) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := l.next.RoundTrip(r)
	if err != nil || response.StatusCode != http.StatusOK {
		return response, err
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return nil, fmt.Errorf("read token answer: %w", err)
	}
	if answer, err := parseClaims(body); err == nil {
		body = l.repair(r.Context(), answer)
		response.Header.Set("Content-Type", "application/json") // whatever its label says, it is
	}
	response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return response, nil
}

// repair leaves out what RFC 6749, section 5.1 and OpenID Connect Core 1.0, section 3.1.3.3 define otherwise.
func (l lenient) repair(ctx context.Context, answer claims) []byte {
	for _, name := range []string{"refresh_token", "token_type", "scope", "id_token"} {
		if value, found := answer[name]; found && answer.text(name) == "" && !isAbsent(value) {
			l.provider.passOver(ctx, name+" of the token answer", errOdd)
			delete(answer, name)
		}
	}
	if value, found := answer["expires_in"]; found && string(value) != "null" {
		seconds, err := strconv.ParseFloat(strings.Trim(string(value), `"`), 64)
		if err == nil && seconds >= 1 {
			answer["expires_in"] = strconv.AppendInt(nil, int64(min(seconds, math.MaxInt32)), 10)
		} else {
			l.provider.passOver(ctx, "expires_in of the token answer", errOdd)
			delete(answer, "expires_in")
		}
	}
	return answer.encode()
}

// isAbsent reports whether a member says as little as if it were left out.
func isAbsent(value []byte) bool { return string(value) == "null" || string(value) == `""` }
