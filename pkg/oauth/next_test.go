package oauth_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/handstamp/handstamp/pkg/oauth"
)

func TestNext(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ann := oauth.BrowserSession{UserID: "usr_ann", AuthTime: now.Add(-time.Minute)}
	all := oauth.Consent{UserID: "usr_ann", Scope: "openid email", GrantedAt: now.Add(-time.Hour)}
	some := oauth.Consent{UserID: "usr_ann", Scope: "openid", GrantedAt: now.Add(-time.Hour)}
	first, third := oauth.Client{ID: "shop"}, oauth.Client{ID: "else", ThirdParty: true}

	// request is one without max_age.
	request := func(c oauth.Client, prompt ...string) oauth.Authorization {
		return oauth.Authorization{Client: c, Scope: "openid email", MaxAge: -1, Prompt: prompt}
	}
	with := func(a oauth.Authorization, change func(*oauth.Authorization)) oauth.Authorization {
		change(&a)
		return a
	}
	maxAge := func(d time.Duration) oauth.Authorization {
		return with(request(first), func(a *oauth.Authorization) { a.MaxAge = d })
	}
	atProvider := func(a *oauth.Authorization) { a.Provider = "google" }
	nobody, before, now1 := oauth.Visit{}, oauth.Visit{Login: ann}, oauth.Visit{Login: ann, Authenticated: true}

	half := ann // has a second factor, and has not shown it
	half.FactorNeeded = true

	for name, c := range map[string]struct {
		request oauth.Authorization
		visit   oauth.Visit
		wanted  string
		given   oauth.Consent
		want    oauth.Step
		code    oauth.ErrorCode
	}{
		"ok/nobody is logged in": {request: request(first), visit: nobody, want: oauth.StepLogin},
		"ok/nobody is logged in, straight to a provider": {
			request: with(request(first), atProvider),
			visit:   nobody,
			want:    oauth.StepProvider,
		},
		"ok/nobody is logged in, prompt=create": {request: request(first, "create"), visit: nobody, want: oauth.StepSignup},
		"ok/a provider goes before prompt=create": {
			request: with(request(first, "create"), atProvider), visit: nobody, want: oauth.StepProvider,
		},
		"fail/nobody is logged in, prompt=none": {
			request: request(first, "none"), visit: nobody, want: oauth.StepRefuse, code: oauth.LoginRequired,
		},
		"fail/prompt=none goes before a provider": {
			request: with(request(first, "none"), atProvider), visit: nobody, want: oauth.StepRefuse, code: oauth.LoginRequired,
		},

		"ok/logged in before":              {request: request(first), visit: before, want: oauth.StepAnswer},
		"ok/logged in before, prompt=none": {request: request(first, "none"), visit: before, want: oauth.StepAnswer},
		"ok/logged in before, a provider is named": {
			request: with(request(first), atProvider),
			visit:   before,
			want:    oauth.StepAnswer,
		},
		"ok/logged in before, prompt=login":            {request: request(first, "login"), visit: before, want: oauth.StepLogin},
		"ok/logged in before, prompt=create":           {request: request(first, "create"), visit: before, want: oauth.StepSignup},
		"ok/logged in for this request, prompt=login":  {request: request(first, "login"), visit: now1, want: oauth.StepAnswer},
		"ok/signed up for this request, prompt=create": {request: request(first, "create"), visit: now1, want: oauth.StepAnswer},
		"ok/max_age, and the login is as old":          {request: maxAge(time.Minute), visit: before, want: oauth.StepAnswer},
		"ok/max_age, and the login is older":           {request: maxAge(time.Minute - 1), visit: before, want: oauth.StepLogin},
		"ok/max_age=0":                                 {request: maxAge(0), visit: before, want: oauth.StepLogin},
		"ok/max_age=0, and logged in for this request": {request: maxAge(0), visit: now1, want: oauth.StepAnswer},
		"fail/max_age, the login is older, prompt=none": {
			request: with(maxAge(time.Second), func(a *oauth.Authorization) { a.Prompt = []string{"none"} }), visit: before,
			want: oauth.StepRefuse, code: oauth.LoginRequired,
		},

		"ok/the wanted user is logged in": {request: request(first), visit: before, wanted: "usr_ann", want: oauth.StepAnswer},
		"ok/another user than the wanted": {request: request(first), visit: before, wanted: "usr_bob", want: oauth.StepLogin},
		"ok/nobody where one is wanted":   {request: request(first), visit: nobody, wanted: "usr_bob", want: oauth.StepLogin},
		"fail/another than wanted, prompt=none": {
			request: request(first, "none"), visit: before, wanted: "usr_bob", want: oauth.StepRefuse, code: oauth.LoginRequired,
		},
		"fail/another than wanted has logged in for this request": {
			request: request(first), visit: now1, wanted: "usr_bob", want: oauth.StepRefuse, code: oauth.LoginRequired,
		},

		"ok/prompt=select_account": {
			request: request(first, "select_account"),
			visit:   before,
			want:    oauth.StepSelectAccount,
		},
		"ok/prompt=select_account, nobody logged in": {request: request(first, "select_account"), visit: nobody, want: oauth.StepLogin},
		"ok/prompt=select_account, just logged in":   {request: request(first, "select_account"), visit: now1, want: oauth.StepAnswer},
		"ok/prompt=select_account login": {
			request: request(first, "select_account", "login"),
			visit:   before,
			want:    oauth.StepLogin,
		},
		"ok/prompt=select_account, and one was chosen": {
			request: request(first, "select_account"), visit: oauth.Visit{Login: ann, Chosen: true}, want: oauth.StepAnswer,
		},
		"ok/what was chosen is no login": {request: request(first), visit: oauth.Visit{Chosen: true}, want: oauth.StepLogin},

		"ok/a second factor is needed, logged in before": {
			request: request(first), visit: oauth.Visit{Login: half}, want: oauth.StepFactor,
		},
		"ok/a second factor is needed, logged in for this request": {
			request: request(first), visit: oauth.Visit{Login: half, Authenticated: true}, want: oauth.StepFactor,
		},
		"ok/a second factor is needed, prompt=login": {
			request: request(first, "login"), visit: oauth.Visit{Login: half}, want: oauth.StepLogin,
		},
		"ok/a second factor is needed, prompt=select_account": {
			request: request(first, "select_account"), visit: oauth.Visit{Login: half}, want: oauth.StepSelectAccount,
		},
		"ok/a second factor is needed before consent": {
			request: request(third), visit: oauth.Visit{Login: half, Authenticated: true}, given: all, want: oauth.StepFactor,
		},
		"ok/a second factor is needed, whatever was consented": {
			request: request(third), visit: oauth.Visit{Login: half, Authenticated: true, Consented: true}, want: oauth.StepFactor,
		},
		"fail/a second factor is needed, prompt=none": {
			request: request(first, "none"), visit: oauth.Visit{Login: half}, want: oauth.StepRefuse, code: oauth.LoginRequired,
		},

		"ok/first party, prompt=consent":             {request: request(first, "consent"), visit: before, want: oauth.StepAnswer},
		"ok/third party, nothing allowed":            {request: request(third), visit: before, want: oauth.StepConsent},
		"ok/third party, nothing allowed, logged in": {request: request(third), visit: now1, want: oauth.StepConsent},
		"ok/third party, a part allowed":             {request: request(third), visit: before, given: some, want: oauth.StepConsent},
		"ok/third party, all allowed":                {request: request(third), visit: before, given: all, want: oauth.StepAnswer},
		"ok/third party, all allowed, prompt=consent": {
			request: request(third, "consent"),
			visit:   before,
			given:   all,
			want:    oauth.StepConsent,
		},
		"ok/third party, all allowed, prompt=none": {
			request: request(third, "none"),
			visit:   before,
			given:   all,
			want:    oauth.StepAnswer,
		},
		"ok/selection goes before consent": {
			request: request(third, "select_account", "consent"),
			visit:   before,
			want:    oauth.StepSelectAccount,
		},
		"fail/third party, a part allowed, prompt=none": {
			request: request(third, "none"), visit: before, given: some, want: oauth.StepRefuse, code: oauth.ConsentRequired,
		},
		"ok/just consented": {
			request: request(third, "consent"),
			visit:   oauth.Visit{Login: ann, Consented: true},
			want:    oauth.StepAnswer,
		},
		"ok/consented, but the login is old": {
			request: with(request(third), func(a *oauth.Authorization) { a.MaxAge = time.Second }),
			visit:   oauth.Visit{Login: ann, Consented: true}, want: oauth.StepLogin,
		},
		"ok/third party without scope, nothing allowed": {
			request: with(request(third), func(a *oauth.Authorization) { a.Scope = "" }), visit: before, want: oauth.StepConsent,
		},
		"ok/an empty consent is one": {
			request: with(request(third), func(a *oauth.Authorization) { a.Scope = "" }), visit: before,
			given: oauth.Consent{GrantedAt: now}, want: oauth.StepAnswer,
		},
	} {
		t.Run(name, func(t *testing.T) {
			step, refusal := oauth.Next(&c.request, c.visit, c.wanted, c.given, now)
			if step != c.want {
				t.Errorf("%s, want %s", step, c.want)
			}
			if (refusal != nil) != (step == oauth.StepRefuse) || refusal != nil && refusal.Code != c.code {
				t.Errorf("refusal %v, want %q", refusal, c.code)
			}
		})
	}
}

// TestNextNever goes through every combination of what a request can ask and a browser can bring, and holds the rule to
// what must never be.
func TestNextNever(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	prompts := [][]string{nil, {"none"}, {"login"}, {"create"}, {"consent"}, {"select_account"}, {"login", "consent"},
		{"select_account", "consent"}}
	logins := []oauth.BrowserSession{{}, {UserID: "usr_ann", AuthTime: now}, {UserID: "usr_ann", AuthTime: now.Add(-time.Hour)}}
	consents := []oauth.Consent{{}, {Scope: "openid", GrantedAt: now}, {Scope: "openid email", GrantedAt: now}}
	bools := []bool{false, true}
	rows := 0
	for _, prompt := range prompts {
		for _, maxAge := range []time.Duration{-1, 0, time.Minute} {
			for _, provider := range []string{"", "google"} {
				for _, thirdParty := range bools {
					a := oauth.Authorization{
						Client: oauth.Client{ThirdParty: thirdParty}, Scope: "openid email", Prompt: prompt, MaxAge: maxAge, Provider: provider,
					}
					for _, login := range logins {
						for _, wanted := range []string{"", "usr_ann", "usr_bob"} {
							for _, given := range consents {
								for flags := range 8 {
									v := oauth.Visit{Login: login, Authenticated: flags&1 > 0, Chosen: flags&2 > 0, Consented: flags&4 > 0}
									step, refusal := oauth.Next(&a, v, wanted, given, now)
									rows++
									if fault := neverOf(&a, v, wanted, given, now, step, refusal); fault != "" {
										t.Errorf("%+v, %+v, wanted %q, given %q: %s: %s", a, v, wanted, given.Scope, step, fault)
									}
								}
							}
						}
					}
				}
			}
		}
	}
	if want := 8 * 3 * 2 * 2 * 3 * 3 * 3 * 8; rows != want {
		t.Errorf("%d rows, want %d", rows, want)
	}
}

// neverOf says what is wrong with a step, empty for nothing. It says so in other words than the rule.
func neverOf(a *oauth.Authorization, v oauth.Visit, wanted string, given oauth.Consent, now time.Time, step oauth.Step,
	refusal *oauth.Error) string {
	answered := step == oauth.StepAnswer
	old := v.Login.AuthTime.Before(now.Add(-time.Minute))
	switch {
	case (step == oauth.StepRefuse) != (refusal != nil):
		return fmt.Sprintf("refusal %v", refusal)
	case answered && v.Login.UserID == "":
		return "a code for nobody"
	case answered && wanted != "" && wanted != v.Login.UserID:
		return "a code for another user than the wanted one"
	case answered && !v.Authenticated && (a.Asks(oauth.PromptLogin) || a.Asks(oauth.PromptCreate)):
		return "a code without the login that was asked for"
	case answered && !v.Authenticated && (a.MaxAge == 0 || a.MaxAge > 0 && old):
		return "a code for an old login"
	case answered && a.Client.ThirdParty && !v.Consented && given.Scope != "openid email":
		return "a code for what nobody has allowed"
	case answered && a.Asks(oauth.PromptSelectAccount) && !v.Chosen && !v.Authenticated:
		return "a code for an account that nobody has chosen"
	case a.Asks(oauth.PromptNone) && !answered && step != oauth.StepRefuse:
		return "a page in spite of prompt=none"
	case step == oauth.StepConsent && !a.Client.ThirdParty:
		return "a question of consent for a client of the house"
	case v.Login.UserID == "" && v.Authenticated && step == oauth.StepRefuse && !a.Asks(oauth.PromptNone):
		return "a refusal where somebody could log in"
	}
	return ""
}
