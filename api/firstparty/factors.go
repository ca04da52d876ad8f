package firstparty

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/factor"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/session"
)

// Factors serves a user's second factors.
type Factors struct {
	Door     *door.Door
	Users    Users
	Sessions *session.Manager
	Factors  *factor.Manager
}

// Routes returns the rows of the room.
func (r *Factors) Routes() []door.Route {
	const by, recent, to = door.Bearer, door.RecentBearer, door.SharedOwn
	return []door.Route{
		{Method: http.MethodGet, Path: "/v1/factors", Access: by, Sharing: to, Handler: r.list},
		{Method: http.MethodPost, Path: "/v1/factors/totp", Access: recent, Sharing: to, Handler: r.addTOTP},
		{
			Method: http.MethodPost, Path: "/v1/factors/totp/:id/confirm", Access: recent, Sharing: to, Handler: r.confirmTOTP,
			Audit: []audit.Kind{audit.KindFactorAdded},
		},
		{
			Method: http.MethodPost, Path: "/v1/factors/recovery-codes", Access: recent, Sharing: to, Handler: r.replaceCodes,
			Audit: []audit.Kind{audit.KindRecoveryReplaced},
		},
		{Method: http.MethodPatch, Path: "/v1/factors/:id", Access: recent, Sharing: to, Handler: r.rename},
		{
			Method: http.MethodDelete, Path: "/v1/factors/:id", Access: recent, Sharing: to, Handler: r.remove,
			Audit: []audit.Kind{audit.KindFactorRemoved},
		},
	}
}

// factorBody is a factor as its user sees it.
type factorBody struct {
	ID         string      `json:"id"`
	Type       factor.Kind `json:"type"`
	Name       string      `json:"name"`
	CreatedAt  time.Time   `json:"created_at"`
	LastUsedAt *time.Time  `json:"last_used_at,omitempty"`
}

func factorBodyOf(f factor.Factor) factorBody {
	b := factorBody{ID: f.ID, Type: f.Kind, Name: f.Name, CreatedAt: f.CreatedAt.UTC()}
	if !f.LastUsedAt.IsZero() {
		b.LastUsedAt = new(f.LastUsedAt.UTC())
	}
	return b
}

// list is GET /v1/factors.
func (r *Factors) list(c echo.Context) error {
	list, codes, err := r.Factors.List(c.Request().Context(), door.ClaimsOf(c).Subject)
	if err != nil {
		return err
	}
	body := struct {
		Factors       []factorBody `json:"factors"`
		RecoveryCodes int          `json:"recovery_codes"` // that are left
	}{make([]factorBody, len(list)), codes}
	for i, f := range list {
		body.Factors[i] = factorBodyOf(f)
	}
	return door.WriteJSON(c, http.StatusOK, "application/json", body)
}

// strong returns the session of the request, in which a factor may be changed. If the user has factors, one of them
// must have been shown in it: who has the password alone neither removes them nor adds one. It is the session's row
// that counts, since a token may be older than the confirmation of the first factor.
func (r *Factors) strong(c echo.Context) (session.Session, error) {
	ctx, claims := c.Request().Context(), door.ClaimsOf(c)
	id, err := session.ParseID(claims.SessionID)
	if err != nil {
		return session.Session{}, err
	}
	s, err := r.Sessions.Session(ctx, id)
	if err != nil || s.ACR == oauth.ACRFactors {
		return s, err
	}
	list, _, err := r.Factors.List(ctx, claims.Subject)
	if err != nil || len(list) == 0 {
		return s, err
	}
	const detail = "the session must have shown a second factor: log in again with one"
	return s, &door.Problem{
		Status: http.StatusForbidden,
		Code:   "insufficient_user_authentication",
		Title:  "Not allowed",
		Detail: detail,
		Challenge: fmt.Sprintf(`Bearer error="insufficient_user_authentication", error_description="%s", acr_values="%s"`, detail,
			oauth.ACRFactors),
	}
}

// actor is the user of the request's access token, as the one who changes a factor.
func actor(c echo.Context) audit.By {
	claims := door.ClaimsOf(c)
	return audit.By{Actor: claims.Subject, ClientID: claims.ClientID, Origin: door.Origin(c)}
}

// defaultName is that of an authenticator which the caller gives none.
const defaultName = "Authenticator"

// addTOTP is POST /v1/factors/totp: the secret is shown here and never again.
func (r *Factors) addTOTP(c echo.Context) error {
	b := struct {
		Name string `json:"name"`
	}{defaultName}
	if err := door.ReadJSON(c, &b); err != nil {
		return err
	}
	s, err := r.strong(c)
	if err != nil {
		return err
	}
	u, err := r.Users.UserByID(c.Request().Context(), s.UserID)
	if err != nil {
		return err
	}
	account := u.Email
	if account == "" {
		account = u.ID
	}
	e, err := r.Factors.AddTOTP(c.Request().Context(), u.ID, account, b.Name)
	if err != nil {
		return err
	}
	return door.WriteJSON(c, http.StatusCreated, "application/json", struct {
		ID     string `json:"id"`
		Secret string `json:"secret"`
		URI    string `json:"otpauth_uri"`
		SVG    string `json:"qr_svg"`
		PNG    []byte `json:"qr_png"`
	}{e.ID, string(e.Secret), string(e.URI), e.Picture.SVG, e.Picture.PNG})
}

// confirmTOTP is POST /v1/factors/totp/{id}/confirm. From now on the session is one that has shown a second factor.
func (r *Factors) confirmTOTP(c echo.Context) error {
	var b struct {
		Code string `json:"code"`
	}
	if err := door.ReadJSON(c, &b); err != nil {
		return err
	}
	if err := door.Required("code", b.Code); err != nil {
		return err
	}
	s, err := r.strong(c)
	if err != nil {
		return err
	}
	amr := factor.Confirmed(s.AMR)
	codes, err := r.Factors.Confirm(c.Request().Context(), s.UserID, c.Param("id"), b.Code, factor.Shown{
		SessionID: s.ID,
		AMR:       amr,
		ACR:       oauth.ACROf(amr),
		By:        actor(c),
	})
	if errors.Is(err, factor.ErrCode) {
		return door.InvalidRequest("code", factor.ErrCode.Error())
	}
	if err != nil {
		return err
	}
	return r.answer(c, c.Param("id"), codes)
}

// answer writes a factor of the user of the request, and recovery codes, if there are any to show.
func (r *Factors) answer(c echo.Context, id string, codes []seal.Secret) error {
	list, _, err := r.Factors.List(c.Request().Context(), door.ClaimsOf(c).Subject)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(f factor.Factor) bool { return f.ID == id })
	if i < 0 {
		return factor.ErrNotFound
	}
	return door.WriteJSON(c, http.StatusOK, "application/json", struct {
		factorBody
		RecoveryCodes []string `json:"recovery_codes,omitempty"`
	}{factorBodyOf(list[i]), shown(codes)})
}

// shown are codes in the one answer that shows them.
func shown(codes []seal.Secret) []string {
	out := make([]string, len(codes))
	for i, code := range codes {
		out[i] = string(code)
	}
	return out
}

// replaceCodes is POST /v1/factors/recovery-codes: the codes are shown here and never again.
func (r *Factors) replaceCodes(c echo.Context) error {
	s, err := r.strong(c)
	if err != nil {
		return err
	}
	codes, err := r.Factors.ReplaceRecoveryCodes(c.Request().Context(), s.UserID, actor(c))
	if err != nil {
		return err
	}
	return door.WriteJSON(c, http.StatusOK, "application/json", map[string][]string{"codes": shown(codes)})
}

// rename is PATCH /v1/factors/{id}.
func (r *Factors) rename(c echo.Context) error {
	var b struct {
		Name string `json:"name"`
	}
	if err := door.ReadJSON(c, &b); err != nil {
		return err
	}
	if err := door.Required("name", b.Name); err != nil {
		return err
	}
	s, err := r.strong(c)
	if err != nil {
		return err
	}
	if err := r.Factors.Rename(c.Request().Context(), s.UserID, c.Param("id"), b.Name); err != nil {
		return err
	}
	return r.answer(c, c.Param("id"), nil)
}

// remove is DELETE /v1/factors/{id}.
func (r *Factors) remove(c echo.Context) error {
	s, err := r.strong(c)
	if err != nil {
		return err
	}
	if err := r.Factors.Remove(c.Request().Context(), s.UserID, c.Param("id"), actor(c)); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}
