package signin

import (
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/oauth"
)

func (h *Login) showContinue(c echo.Context, f flow) error {
	u, err := h.Users.UserByID(c.Request().Context(), f.Login.UserID)
	if err != nil {
		return err
	}
	form := h.pageForm(c, f, "/oauth2/continue", pages.Message{})
	return h.Door.WritePage(c, http.StatusOK, f.UILocales, pages.Continue{
		Form:         form,
		Client:       pageClient(f),
		User:         pages.Person{Name: u.Name, Email: u.Email},
		DifferentURL: pageLink(loginPath, form.Hidden["request"]),
	})
}

// continueForm is POST /oauth2/continue.
func (h *Login) continueForm(c echo.Context) error {
	f, _, err := h.resumeForm(c)
	if err != nil {
		return err
	}
	f.Chosen = f.sameLogin // the choice was about the login that the page was shown to; another one is asked anew
	return h.proceed(c, f)
}

func (h *Login) showConsent(c echo.Context, f flow) error {
	u, err := h.Users.UserByID(c.Request().Context(), f.Login.UserID)
	if err != nil {
		return err
	}
	form := h.pageForm(c, f, "/oauth2/consent", pages.Message{})
	return h.Door.WritePage(c, http.StatusOK, f.UILocales, pages.Consent{
		Form:         form,
		Client:       pageClient(f),
		User:         pages.Person{Name: u.Name, Email: u.Email},
		Scopes:       strings.Fields(f.Scope),
		DifferentURL: pageLink(loginPath, form.Hidden["request"]),
	})
}

// consentForm is POST /oauth2/consent.
func (h *Login) consentForm(c echo.Context) error {
	f, v, err := h.resumeForm(c)
	if err != nil {
		return err
	}
	if !f.sameLogin {
		return h.proceed(c, f) // somebody else was asked, or nobody is logged in any more
	}
	switch v.Get("decision") {
	case "allow":
	case "deny":
		return f.refuse(&oauth.Error{Code: oauth.AccessDenied, Description: "the user said no"})
	default:
		return door.InvalidRequest("decision", "must be allow or deny")
	}
	f.Consented = true
	step, _, given, err := h.next(c, f)
	if err != nil {
		return err
	}
	if step != oauth.StepAnswer {
		return h.proceed(c, f) // the login has become too old meanwhile
	}
	ctx, now := c.Request().Context(), h.Door.Now()
	consent := oauth.Consent{
		UserID:    f.Login.UserID,
		ClientID:  f.Client.ID,
		Scope:     given.With(f.Scope).Scope,
		GrantedAt: now,
	}
	err = h.Consents.SaveConsent(ctx, consent, audit.ConsentGranted(now, f.Login.UserID, f.Client.ID, door.Origin(c)))
	if err != nil {
		return err
	}
	return h.answer(c, f)
}
