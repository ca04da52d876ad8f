package bff

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/handstamp/handstamp/pkg/verifier"
)

// Defaults of Config.
const (
	DefaultPrefix       = "/auth"
	DefaultCookieName   = "session"
	DefaultLifetime     = 30 * 24 * time.Hour
	DefaultIdleLifetime = 7 * 24 * time.Hour
)

// Config says what application this is. URL, ClientID and Keys are required.
type Config struct {
	// URL is the origin of the application as browsers see it: https://app.example.com, or http on a loopback address. It decides
	// whether cookies are Secure; what a request says of itself does not.
	URL string
	// ClientID and ClientSecret are the application's at the issuer. URL + Prefix + "/callback" is registered as its redirect URI
	// and URL + LogoutPath as its post-logout redirect URI. A public client has no secret.
	ClientID, ClientSecret string
	// Keys seal cookies and records: KeySize random bytes each, the same in every replica. The first seals, all of them open. To
	// change keys, put a new one in front, and take the old one out when the longest session has ended.
	Keys [][]byte
	// Store keeps the sessions. Without one a session is sealed in its cookie.
	Store Store

	// Prefix is where Handler is mounted. The default is DefaultPrefix.
	Prefix string
	// CookieName names the cookie; over https "__Host-" goes before it. The default is DefaultCookieName. Applications on one
	// loopback address share cookies, whatever their ports, so that each needs a name of its own there.
	CookieName string
	// Scope is asked for at login. "openid" is always part of it.
	Scope []string
	// LogoutPath is the path to which browsers come back after logout. The default is "/".
	LogoutPath string
	// Lifetime is the longest life of a session, and IdleLifetime its life after the last refresh. The issuer has its own limits,
	// and the shorter one holds. The defaults are DefaultLifetime and DefaultIdleLifetime.
	Lifetime, IdleLifetime time.Duration
	// MaxSessions is how many sessions a user may have in the Store; a login beyond it ends the oldest. 0 is no limit.
	MaxSessions int
	// TrustedOrigins may cause unsafe requests, besides the application's own: see http.CrossOriginProtection. The CSRF token is
	// still required.
	TrustedOrigins []string

	// HTTPClient talks to the issuer. Its Timeout and CheckRedirect are not used.
	HTTPClient *http.Client
	// Verifier are further options of the verifier that checks access tokens, such as verifier.WithMaxStaleness.
	Verifier []verifier.Option
	// Refuse, if set, answers the requests that are refused: see Status. Redirects to the login are not refusals.
	Refuse func(w http.ResponseWriter, r *http.Request, err error)
	// Log hears of what no user can mend. The default is to say nothing. No token is ever logged.
	Log *slog.Logger
}

// complete checks the configuration and fills in the defaults. It reports all faults together.
func (c *Config) complete() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf("bff: Config."+format, args...)) }

	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || c.URL != u.Scheme+"://"+u.Host || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u)) {
		fault("URL %q must be an origin: https://HOST without a path, or http on a loopback address", c.URL)
	}
	if c.ClientID == "" {
		fault("ClientID is required")
	}
	if c.Prefix == "" {
		c.Prefix = DefaultPrefix
	}
	if !ownPath(c.Prefix) || strings.HasSuffix(c.Prefix, "/") || strings.ContainsAny(c.Prefix, "{}?#%") {
		fault("Prefix %q must be a path such as /auth", c.Prefix)
	}
	if c.CookieName == "" {
		c.CookieName = DefaultCookieName
	}
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
	if strings.Trim(c.CookieName, allowed) != "" || len(c.CookieName) > maxCookieName {
		fault("CookieName %q must be letters, digits and _", c.CookieName)
	}
	if c.LogoutPath == "" {
		c.LogoutPath = "/"
	}
	if !ownPath(c.LogoutPath) {
		fault("LogoutPath %q must be a path of the application", c.LogoutPath)
	}
	if c.Lifetime == 0 {
		c.Lifetime = DefaultLifetime
	}
	if c.IdleLifetime == 0 {
		c.IdleLifetime = min(DefaultIdleLifetime, c.Lifetime)
	}
	if c.Lifetime < 0 || c.IdleLifetime < 0 || c.IdleLifetime > c.Lifetime {
		fault("IdleLifetime must be above zero and at most Lifetime")
	}
	if c.MaxSessions < 0 || c.MaxSessions > 0 && c.Store == nil {
		fault("MaxSessions needs a Store: nobody can count sealed cookies")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Scope = slices.Clone(c.Scope)
	if !slices.Contains(c.Scope, "openid") {
		c.Scope = append([]string{"openid"}, c.Scope...)
	}
	return errors.Join(faults...)
}

// loopback reports whether u is on this machine.
func loopback(u *url.URL) bool {
	host := u.Hostname()
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}

// maxReturnTo is the length in bytes of the longest path to return to: it travels in a cookie.
const maxReturnTo = 2048

// ownPath reports whether a browser that is sent to s stays at this origin: browsers take "//host" and "/\host" for another
// one, and leave tabs and line breaks out before they look.
func ownPath(s string) bool {
	if s == "" || len(s) > maxReturnTo || s[0] != '/' || strings.HasPrefix(s, "//") {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '\\' {
			return false
		}
	}
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "" && u.Host == "" && u.User == nil && strings.HasPrefix(u.Path, "/") &&
		!strings.HasPrefix(u.Path, "//")
}
