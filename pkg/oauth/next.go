package oauth

import (
	"slices"
	"strings"
	"time"
)

// Step is what comes next for an authorization request on its way through the hosted pages.
type Step int

// The steps.
const (
	// StepRefuse answers the client with the error that Next returns beside it.
	StepRefuse Step = iota
	// StepProvider goes straight to the provider that the request names.
	StepProvider
	// StepSignup shows the form for a new user.
	StepSignup
	// StepLogin asks for a login.
	StepLogin
	// StepSelectAccount asks whether to go on as the user who is logged in.
	StepSelectAccount
	// StepFactor asks for a second factor.
	StepFactor
	// StepConsent asks the user to allow the client what it wants.
	StepConsent
	// StepAnswer gives the client its code.
	StepAnswer
)

// String names the step for logs and test output.
func (s Step) String() string {
	return [...]string{"refuse", "provider", "signup", "login", "select account", "factor", "consent", "answer"}[s]
}

// Visit is the browser that a request has come from, and what its user has done for this very request.
type Visit struct {
	Login         BrowserSession // zero if the browser is not logged in
	Authenticated bool           // that login was made for this request
	Chosen        bool           // the user has chosen to go on as who is logged in
	Consented     bool           // the user has just allowed the client what it wants
}

// Next is the rule of what comes next. wanted is the user whom the client has in mind (id_token_hint), empty for any;
// given is what that user has allowed the client before, which counts for third-party clients only.
//
//	logged in for this request, but as another user than the wanted one  refuse: login_required
//	no login that counts for this request                                log in: at the provider, by sign-up, or on the
//	                                                                     login page; prompt=none refuses: login_required
//	prompt=select_account, and nothing chosen or logged in yet           select account
//	the user has a second factor that the login has not shown            factor; prompt=none refuses: login_required
//	third-party client, and not all that it wants is allowed             consent; prompt=none refuses: consent_required
//	otherwise                                                            answer
//
// A login counts if it was made for this request. Otherwise it must be the wanted user's and recent enough for max_age,
// and prompt must demand neither a login nor a sign-up (OpenID Connect Core, section 3.1.2.1).
func Next(a *Authorization, v Visit, wanted string, given Consent, now time.Time) (Step, *Error) {
	loggedIn := v.Login.UserID != ""
	another := wanted != "" && v.Login.UserID != wanted
	switch {
	case loggedIn && v.Authenticated && another:
		return StepRefuse, refuse(LoginRequired, "another user has logged in than the one of id_token_hint")
	case !loggedIn || another || !v.Authenticated && !loginCounts(a, v.Login, now):
		return nextLogin(a)
	case a.Asks(PromptSelectAccount) && !v.Chosen && !v.Authenticated:
		return StepSelectAccount, nil
	case v.Login.FactorNeeded && a.Asks(PromptNone):
		return StepRefuse, refuse(LoginRequired, "the user has not shown a second factor")
	case v.Login.FactorNeeded:
		return StepFactor, nil
	case !needsConsent(a, v, given):
		return StepAnswer, nil
	case a.Asks(PromptNone):
		return StepRefuse, refuse(ConsentRequired, "the user has not consented")
	}
	return StepConsent, nil
}

// nextLogin says how a user logs in who is not.
func nextLogin(a *Authorization) (Step, *Error) {
	switch {
	case a.Asks(PromptNone):
		return StepRefuse, refuse(LoginRequired, "the user is not logged in")
	case a.Provider != "":
		return StepProvider, nil
	case a.Asks(PromptCreate):
		return StepSignup, nil
	}
	return StepLogin, nil
}

// loginCounts reports whether an earlier login of the browser is enough for a request.
func loginCounts(a *Authorization, login BrowserSession, now time.Time) bool {
	if a.Asks(PromptLogin) || a.Asks(PromptCreate) {
		return false
	}
	return a.MaxAge < 0 || a.MaxAge > 0 && now.Sub(login.AuthTime) <= a.MaxAge
}

// FreshAt reports whether a login at a provider is as recent as the client demands. stated is when the provider says that it
// authenticated the user (auth_time), zero if it does not say. That is no answer to max_age; to prompt=login it is, because
// most providers that heed it say nothing. begun is when the browser was sent there.
func (a *Authorization) FreshAt(stated, begun, now time.Time) bool {
	if stated.IsZero() {
		return a.MaxAge < 0
	}
	if stated.After(now.Add(providerClock)) {
		return a.MaxAge < 0 && !a.Asks(PromptLogin) // a clock like that proves nothing
	}
	if (a.Asks(PromptLogin) || a.MaxAge == 0) && stated.Before(begun.Add(-providerClock)) {
		return false
	}
	return a.MaxAge <= 0 || now.Sub(stated) <= a.MaxAge
}

// providerClock is how far a provider's clock may be off.
const providerClock = time.Minute

// needsConsent reports whether a third-party client wants what the user has not allowed it.
func needsConsent(a *Authorization, v Visit, given Consent) bool {
	if !a.Client.ThirdParty || v.Consented {
		return false
	}
	allowed := strings.Fields(given.Scope)
	return a.Asks(PromptConsent) || given.GrantedAt.IsZero() ||
		slices.ContainsFunc(strings.Fields(a.Scope), func(s string) bool { return !slices.Contains(allowed, s) })
}
