package oauth_test

import (
	"testing"

	"github.com/handstamp/handstamp/pkg/oauth"
)

func TestConsentWith(t *testing.T) {
	for name, test := range map[string]struct{ before, scope, want string }{
		"ok/first":       {"", "openid email", "email openid"},
		"ok/more":        {"email openid", "profile", "email openid profile"},
		"ok/fewer":       {"email openid", "openid", "email openid"},
		"ok/twice":       {"openid", "email email openid", "email openid"},
		"ok/none":        {"email", "", "email"},
		"ok/none at all": {"", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			before := oauth.Consent{UserID: "usr_a", ClientID: "app", Scope: test.before}
			want := oauth.Consent{UserID: "usr_a", ClientID: "app", Scope: test.want}
			if got := before.With(test.scope); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}
