package signin

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/pkg/factor"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/seal"
)

// A state is what a page or a link carries through the browser. It is sealed, so that nobody else can make or change
// one. It is bound to its purpose: a state of one purpose is invalid for another.
const (
	requestPurpose = "authorization request"
	logoutPurpose  = "logout"
	linkPurpose    = "identity"
	resetPurpose   = "reset"
	verifyPurpose  = "verify"
)

// requestState is what the pages of an authorization request carry.
type requestState struct {
	Parameters    string     `json:"p"`
	Browser       oauth.Hash `json:"b"` // that the page was shown in
	Expires       int64      `json:"e"`
	Login         oauth.Hash `json:"l,omitzero"`  // the browser session that the page was shown in; the two below are said of it
	Authenticated bool       `json:"a,omitempty"` // that login was made for this request
	Chosen        bool       `json:"c,omitempty"` // the user has chosen to go on with that login
	Waiting       string     `json:"w,omitempty"` // a login that waits for its second factor
}

// logoutState is what the page carries that asks whether to log out.
type logoutState struct {
	Parameters string     `json:"p"`
	Browser    oauth.Hash `json:"b"`
	Login      oauth.Hash `json:"l"` // to end
	Expires    int64      `json:"e"`
}

// linkState is what the address carries at which a user begins to add an identity.
type linkState struct {
	UserID   string `json:"u"`
	Provider string `json:"p"`
	ReturnTo string `json:"r"`
	Expires  int64  `json:"e"`
}

const pageStateLifetime = time.Hour

// States seals the states.
type States struct{ sealer seal.Sealer }

// NewStates returns the states of a master key.
func NewStates(master seal.MasterKey) States {
	return States{seal.New(master, seal.PageStates)}
}

func (s States) seal(purpose string, state any) string {
	text, err := json.Marshal(state)
	if err != nil {
		panic(err) // a struct of texts and numbers
	}
	return base64.RawURLEncoding.EncodeToString(s.sealer.Seal(text, []byte(purpose)))
}

// open reads a state of the purpose into a struct, and reports whether it was one.
func (s States) open(purpose, text string, into any) bool {
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return false
	}
	plain, err := s.sealer.Open(sealed, []byte(purpose))
	return err == nil && json.Unmarshal(plain, into) == nil
}

// expired is what a page shows whose state is none, is over, or belongs to another browser. parameters are the request that
// it was about, if that is known: the person can begin anew with it. Anybody may send a browser to a request, so nothing is
// lost if it was a stranger's.
func expired(parameters string) *door.PageError {
	e := &door.PageError{Status: http.StatusBadRequest, What: pages.FaultExpired, Code: "expired"}
	if parameters != "" {
		e.What, e.RetryURL = pages.FaultExpiredPage, authorizePath+"?"+parameters
	}
	return e
}

// state seals the state of a page that is shown for a request now.
func (h *Login) state(c echo.Context, f flow) string {
	var waiting string
	if f.waiting.UserID != "" {
		waiting = string(h.Passwords.Factors.Seal(factor.ForPage, f.waiting))
	}
	return h.States.seal(requestPurpose, requestState{
		Waiting:       waiting,
		Parameters:    f.Parameters,
		Browser:       h.browser(c),
		Expires:       h.Door.Now().Add(pageStateLifetime).Unix(),
		Login:         f.Login.Hash,
		Authenticated: f.Authenticated,
		Chosen:        f.Chosen,
	})
}

// resume reads the state that a page carried and validates its request again: the client may have been changed since.
// What the state says about a login holds for that login only; another one may have taken its place in this browser.
func (h *Login) resume(c echo.Context, sealed string) (flow, error) {
	var p requestState
	if !h.States.open(requestPurpose, sealed, &p) {
		return flow{}, expired("")
	}
	if !h.isBrowser(c, p.Browser) || h.Door.Now().Unix() >= p.Expires {
		return flow{}, expired(p.Parameters)
	}
	f, err := h.resumeParameters(c, p.Parameters)
	if err != nil {
		return flow{}, err
	}
	f.sameLogin = f.Login.UserID != "" && f.Login.Hash == p.Login
	f.Authenticated, f.Chosen = f.sameLogin && p.Authenticated, f.sameLogin && p.Chosen
	if p.Waiting != "" { // one that is over is none
		f.waiting, err = h.Passwords.Factors.Open(factor.ForPage, p.Waiting, h.Door.Now())
		if errors.Is(err, factor.ErrLogin) {
			f.waiting, err = factor.Login{}, nil
		}
	}
	return f, err
}

// resumeForm reads the posted form of a page, and resumes its request.
func (h *Login) resumeForm(c echo.Context) (flow, url.Values, error) {
	v, err := form(c)
	if err != nil {
		return flow{}, nil, err
	}
	f, err := h.resume(c, v.Get("request"))
	return f, v, err
}

func (h *Login) resumeParameters(c echo.Context, parameters string) (f flow, err error) {
	values, err := url.ParseQuery(parameters)
	if err != nil {
		return flow{}, err
	}
	door.Speak(c, values.Get("ui_locales"))
	if f.Authorization, err = h.OAuth.Resume(c.Request().Context(), oauth.Form(values)); err != nil {
		return flow{}, err
	}
	f.Login, err = h.browserSession(c)
	return f, err
}
