package signin

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/pkg/oauth"
)

// pageState is what a page carries in its hidden input: the authorization request, the browser that it was shown in, and
// until when it counts. It is encrypted, so that nobody can make or change one.
type pageState struct {
	Parameters    string     `json:"p"`
	Browser       oauth.Hash `json:"b"`
	Expires       int64      `json:"e"`
	Authenticated bool       `json:"a,omitempty"` // the user has just logged in for this request
	Chosen        bool       `json:"c,omitempty"` // the user has chosen to go on as who is logged in
	Login         oauth.Hash `json:"l,omitzero"`  // the browser session that the page was shown in, for pages that ask it something
}

const pageStateLifetime = time.Hour

// States encrypts the states that pages carry.
type States struct{ aead cipher.AEAD }

// NewStates returns the states of a key. It panics if the key has not 32 bytes.
func NewStates(key []byte) States {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return States{aead}
}

func (s States) seal(p pageState) string {
	text, err := json.Marshal(p)
	if err != nil {
		panic(err) // a struct of texts and numbers
	}
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nil, nil, text, nil)) //nolint:gosec // the AEAD makes its own nonce
}

func (s States) open(text string) (pageState, bool) {
	var p pageState
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return p, false
	}
	plain, err := s.aead.Open(nil, nil, sealed, nil)
	return p, err == nil && json.Unmarshal(plain, &p) == nil
}

// state seals the state of a page that is shown for a request now.
func (h *Login) state(c echo.Context, f flow) string {
	return h.States.seal(pageState{
		Parameters: f.Parameters, Browser: h.browser(c), Expires: time.Now().Add(pageStateLifetime).Unix(),
		Authenticated: f.authenticated, Chosen: f.chosen, Login: f.login.Hash,
	})
}

// resume reads the state that a page carried and validates its request again: the client may have been changed since.
func (h *Login) resume(c echo.Context, sealed string) (flow, error) {
	p, ok := h.States.open(sealed)
	if !ok || p.Browser != h.browser(c) {
		return flow{}, &door.PageError{Status: http.StatusBadRequest, What: pages.FaultExpired, Code: "expired"}
	}
	if time.Now().Unix() >= p.Expires {
		return flow{}, &door.PageError{Status: http.StatusBadRequest, What: pages.FaultExpired, Code: "expired"}
	}
	f, err := h.resumeParameters(c, p.Parameters)
	f.authenticated, f.chosen, f.askedIn = p.Authenticated, p.Chosen, p.Login
	return f, err
}

func (h *Login) resumeParameters(c echo.Context, parameters string) (f flow, err error) {
	values, err := url.ParseQuery(parameters)
	if err != nil {
		return flow{}, err
	}
	if f.Authorization, err = h.OAuth.Resume(c.Request().Context(), oauth.Form(values)); err != nil {
		return flow{}, err
	}
	f.login, err = h.browserSession(c)
	return f, err
}
