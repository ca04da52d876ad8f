package audit_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
)

func TestEvents(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	origin := audit.Origin{IP: "192.0.2.1", UserAgent: "Mozilla/5.0", RequestID: "r1"}
	admin := audit.By{Actor: "usr_2", ClientID: "console", Origin: origin}
	cli := audit.CLI()
	for name, test := range map[string]struct{ got, want audit.Event }{
		"ok/signed up": {
			audit.SignedUp(at, "usr_1", "google", origin),
			audit.Event{Kind: "user_signed_up", Actor: "usr_1", UserID: "usr_1", Reason: "google", Origin: origin},
		},
		"ok/user created": {
			audit.UserCreated(at, "usr_1", cli),
			audit.Event{Kind: "user_created", Actor: "cli", UserID: "usr_1"},
		},
		"ok/user deleted": {
			audit.UserDeleted(at, "usr_1", "user_deleted", admin),
			audit.Event{
				Kind:     "user_deleted",
				Actor:    "usr_2",
				UserID:   "usr_1",
				ClientID: "console",
				Reason:   "user_deleted",
				Origin:   origin,
			},
		},
		"ok/user disabled": {
			audit.UserDisabled(at, "usr_1", "user_disabled", admin),
			audit.Event{
				Kind:     "user_disabled",
				Actor:    "usr_2",
				UserID:   "usr_1",
				ClientID: "console",
				Reason:   "user_disabled",
				Origin:   origin,
			},
		},
		"ok/user enabled": {
			audit.UserEnabled(at, "usr_1", admin),
			audit.Event{Kind: "user_enabled", Actor: "usr_2", UserID: "usr_1", ClientID: "console", Origin: origin},
		},
		"ok/roles changed": {
			audit.RolesChanged(at, "usr_1", admin),
			audit.Event{Kind: "user_roles_changed", Actor: "usr_2", UserID: "usr_1", ClientID: "console", Origin: origin},
		},
		"ok/password changed": {
			audit.PasswordChanged(at, "usr_1", "password_change", admin),
			audit.Event{
				Kind:     "password_changed",
				Actor:    "usr_2",
				UserID:   "usr_1",
				ClientID: "console",
				Reason:   "password_change",
				Origin:   origin,
			},
		},
		"ok/a reset asked for": {
			audit.PasswordResetAsked(at, "usr_1", origin),
			audit.Event{Kind: "password_reset_requested", Actor: "system", UserID: "usr_1", Origin: origin},
		},
		"ok/a verification asked for": {
			audit.VerificationAsked(at, "usr_1", origin),
			audit.Event{Kind: "email_verification_requested", Actor: "system", UserID: "usr_1", Origin: origin},
		},
		"ok/address proven": {
			audit.EmailVerified(at, "usr_1", admin),
			audit.Event{Kind: "email_verified", Actor: "usr_2", UserID: "usr_1", ClientID: "console", Origin: origin},
		},
		"ok/logged in": {
			audit.LoggedIn(at, "usr_1", "ses_1", "shop", origin),
			audit.Event{Kind: "login_succeeded", Actor: "usr_1", UserID: "usr_1", SessionID: "ses_1", ClientID: "shop", Origin: origin},
		},
		"ok/login failed": {
			audit.LoginFailed(at, "usr_1", "wrong_password", origin),
			audit.Event{Kind: "login_failed", Actor: "system", UserID: "usr_1", Reason: "wrong_password", Origin: origin},
		},
		"ok/session ended": {
			audit.SessionEnded(at, "usr_1", "ses_1", "revoked", admin),
			audit.Event{
				Kind:      "session_ended",
				Actor:     "usr_2",
				UserID:    "usr_1",
				SessionID: "ses_1",
				ClientID:  "console",
				Reason:    "revoked",
				Origin:    origin,
			},
		},
		"ok/sessions ended": {
			audit.SessionsEnded(at, "usr_1", "logout_all", admin),
			audit.Event{
				Kind:     "sessions_ended",
				Actor:    "usr_2",
				UserID:   "usr_1",
				ClientID: "console",
				Reason:   "logout_all",
				Origin:   origin,
			},
		},
		"ok/tokens blocked": {
			audit.TokensBlocked(at, "issued_before", admin),
			audit.Event{
				Kind:     "access_tokens_blocked",
				Actor:    "usr_2",
				ClientID: "console",
				Reason:   "issued_before",
				Origin:   origin,
			},
		},
		"ok/refresh token reused": {
			audit.RefreshTokenReuse(at, "usr_1", "ses_1", "shop", origin),
			audit.Event{
				Kind:      "refresh_token_reuse",
				Actor:     "system",
				UserID:    "usr_1",
				SessionID: "ses_1",
				ClientID:  "shop",
				Reason:    "reuse",
				Origin:    origin,
			},
		},
		"ok/access token revoked": {
			audit.TokenRevoked(at, "usr_1", "ses_1", "revoked", audit.By{Actor: "shop", ClientID: "shop", Origin: origin}),
			audit.Event{
				Kind:      "access_token_revoked",
				Actor:     "shop",
				UserID:    "usr_1",
				SessionID: "ses_1",
				ClientID:  "shop",
				Reason:    "revoked",
				Origin:    origin,
			},
		},
		"ok/client created": {
			audit.ClientCreated(at, "shop", cli),
			audit.Event{Kind: "client_created", Actor: "cli", ClientID: "shop"},
		},
		"ok/client disabled, through another client": {
			audit.ClientDisabled(at, "shop", admin),
			audit.Event{Kind: "client_disabled", Actor: "usr_2", ClientID: "shop", Origin: origin},
		},
		"ok/client deleted": {
			audit.ClientDeleted(at, "shop", cli),
			audit.Event{Kind: "client_deleted", Actor: "cli", ClientID: "shop"},
		},
		"ok/key rotated": {
			audit.KeyRotated(at, "kid1", cli),
			audit.Event{Kind: "signing_key_rotated", Actor: "cli", Reason: "kid1"},
		},
		"ok/key revoked": {
			audit.KeyRevoked(at, "kid1", admin),
			audit.Event{Kind: "signing_key_revoked", Actor: "usr_2", Reason: "kid1", Origin: origin},
		},
		"ok/identity linked": {
			audit.IdentityLinked(at, "usr_1", "google", false, origin),
			audit.Event{Kind: "identity_linked", Actor: "usr_1", UserID: "usr_1", Reason: "google", Origin: origin},
		},
		"ok/identity linked to an adopted user": {
			audit.IdentityLinked(at, "usr_1", "google", true, origin),
			audit.Event{
				Kind:   "identity_linked",
				Actor:  "usr_1",
				UserID: "usr_1",
				Reason: "google_unproven_credentials_removed",
				Origin: origin,
			},
		},
		"ok/identity removed": {
			audit.IdentityRemoved(at, "usr_1", "google", audit.By{Actor: "usr_1", ClientID: "shop", Origin: origin}),
			audit.Event{Kind: "identity_removed", Actor: "usr_1", UserID: "usr_1", ClientID: "shop", Reason: "google", Origin: origin},
		},
		"ok/factor added": {
			audit.FactorAdded(at, "usr_1", "totp", admin),
			audit.Event{
				Kind:     "factor_added",
				Actor:    "usr_2",
				UserID:   "usr_1",
				ClientID: "console",
				Reason:   "totp",
				Origin:   origin,
			},
		},
		"ok/factor removed": {
			audit.FactorRemoved(at, "usr_1", "totp", cli),
			audit.Event{Kind: "factor_removed", Actor: "cli", UserID: "usr_1", Reason: "totp"},
		},
		"ok/recovery codes replaced": {
			audit.RecoveryCodesReplaced(at, "usr_1", cli),
			audit.Event{Kind: "recovery_codes_replaced", Actor: "cli", UserID: "usr_1"},
		},
		"ok/consent granted": {
			audit.ConsentGranted(at, "usr_1", "shop", origin),
			audit.Event{Kind: "consent_granted", Actor: "usr_1", UserID: "usr_1", ClientID: "shop", Origin: origin},
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.want.At = at
			if !reflect.DeepEqual(test.got, test.want) {
				t.Errorf("%+v, want %+v", test.got, test.want)
			}
		})
	}
}

// TestConstructors holds the package comment: a kind of event is made in one place. Tests and the stores may build any row.
func TestConstructors(t *testing.T) {
	const root = "../.."
	files := token.NewFileSet()
	kinds, made := map[string]bool{}, map[string]bool{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "testdata" || entry.Name() == "node_modules" || entry.Name() == ".git"):
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		within := filepath.ToSlash(strings.TrimPrefix(path, root+"/"))
		own, store := strings.HasPrefix(within, "pkg/audit/"), strings.HasPrefix(within, "pkg/store/")
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				if s, ok := n.Type.(*ast.SelectorExpr); ok && s.Sel.Name == "Event" && isIdent(s.X, "audit") && !store {
					t.Errorf("%s: audit.Event is put together by hand; use the function of its kind", files.Position(n.Pos()))
				}
			case *ast.ValueSpec:
				if own && isIdent(n.Type, "Kind") {
					kinds[n.Names[0].Name] = true
				}
			case *ast.CallExpr:
				for _, arg := range n.Args {
					if id, ok := arg.(*ast.Ident); ok && own && strings.HasPrefix(id.Name, "Kind") {
						made[id.Name] = true
					}
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(kinds) < 20 || !reflect.DeepEqual(kinds, made) {
		t.Errorf("kinds %v, of which functions make %v", kinds, made)
	}
}

func isIdent(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}
