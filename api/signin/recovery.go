package signin

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/oauth"
)

// Pages of people who cannot log in.
const (
	forgotPath = "/oauth2/forgot"
	// ResetPath is the page behind the link of a mail.
	ResetPath = "/oauth2/reset"
	// VerifyPath is the page behind the link that proves an address.
	VerifyPath = "/oauth2/verify"
)

// Recovery lets people back in who have lost their password.
type Recovery struct{ *Login }

// Routes returns the rows of the room.
func (h *Recovery) Routes() []door.Route {
	return []door.Route{
		{Method: http.MethodGet, Path: forgotPath, Access: door.Page, Handler: h.forgotPage},
		{
			Method: http.MethodPost, Path: forgotPath, Access: door.Page, Handler: h.forgotForm,
			Audit: []audit.Kind{audit.KindResetAsked},
		},
		{Method: http.MethodGet, Path: ResetPath, Access: door.Page, Handler: h.resetPage},
		{
			Method: http.MethodPost, Path: ResetPath, Access: door.Page, Handler: h.resetForm,
			Audit: []audit.Kind{audit.KindPasswordChanged, audit.KindLoginFailed},
		},
		{Method: http.MethodGet, Path: VerifyPath, Access: door.Page, Handler: h.verifyPage},
		{
			Method: http.MethodPost, Path: VerifyPath, Access: door.Page, Handler: h.verifyForm,
			Audit: []audit.Kind{audit.KindEmailVerified, audit.KindSignedUp, audit.KindLoginFailed},
		},
	}
}

// proofState is what a page carries that a mail leads to, or that waits for the code of one. It is bound to the browser that the
// page was shown in, so that a program that opens links and sends forms without cookies uses nothing up.
type proofState struct {
	Token      string     `json:"t,omitempty"` // of the link
	Flow       string     `json:"f,omitempty"` // that the code is bound to
	Email      string     `json:"m,omitempty"`
	Parameters string     `json:"p,omitempty"` // of the authorization request to go on with
	Browser    oauth.Hash `json:"b"`
	Expires    int64      `json:"e"`
}

// sealProof seals a state for a page that is shown now.
func (h *Login) sealProof(c echo.Context, purpose string, s proofState) string {
	s.Browser = h.browser(c)
	if s.Expires == 0 {
		s.Expires = h.Door.Now().Add(pageStateLifetime).Unix()
	}
	return h.States.seal(purpose, s)
}

// openProof reads the state that the posted form of a page carried.
func (h *Recovery) openProof(c echo.Context, purpose, sealed string) (s proofState, err error) {
	if !h.States.open(purpose, sealed, &s) {
		return s, expired("")
	}
	if !h.isBrowser(c, s.Browser) || h.Door.Now().Unix() >= s.Expires {
		return s, expired(s.Parameters)
	}
	return s, nil
}

// onward is where a person logs in with what has changed; empty if nobody knows for which application.
func onward(parameters string) string {
	if parameters == "" {
		return ""
	}
	return authorizePath + "?" + parameters
}
