package main

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// clientFlags are the properties of a client as flags.
type clientFlags struct {
	oauth.Client
	id, kind, scope     string
	pkce, idTokenClaims string
	account             string
	transport           string
	grace               time.Duration
}

func (f *clientFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.Name, "name", "", "name shown to users")
	flags.StringArrayVar(&f.RedirectURIs, "redirect-uri", nil, "exact redirect URI; may be repeated")
	flags.StringArrayVar(&f.PostLogoutRedirectURIs, "post-logout-redirect-uri", nil, "exact URI after logout; may be repeated")
	flags.StringVar(&f.BackchannelLogoutURI, "backchannel-logout-uri", "", "address that receives logout tokens")
	flags.StringArrayVar(&f.Origins, "origin", nil, "origin of pages that may call the service (CORS); may be repeated")
	flags.StringArrayVar(&f.Grants, "grant", []string{oauth.GrantRefreshToken},
		"authorization_code, refresh_token or client_credentials; may be repeated")
	flags.StringVar(&f.scope, "scope", "", "scope values that the client may ask for, space-separated")
	flags.StringArrayVar(&f.Audiences, "audience", nil, "aud of the client's tokens; may be repeated")
	flags.BoolVar(&f.ThirdParty, "third-party", false, "the client is not the operator's own, and users are asked for consent")
	flags.StringVar(&f.Algorithm, "algorithm", "",
		"signature algorithm of the client's access tokens: ES256, EdDSA or RS256; default the service's")
	flags.StringVar(&f.IDTokenAlgorithm, "id-token-signed-response-alg", verifier.RS256,
		"signature algorithm of ID tokens, logout tokens and security events: RS256, ES256 or EdDSA")
	flags.StringVar(&f.idTokenClaims, "id-token-claims", "",
		"on or off: ID tokens hold the claims of the granted scopes, such as name and email; default on, off with --third-party")
	flags.StringVar(&f.GroupsClaim, "groups-claim", "", "name of a claim of ID tokens that holds the user's roles, such as groups")
	flags.StringVar(&f.AccessTokenType, "access-token-typ", verifier.TypeAccessToken,
		"typ of access tokens: at+jwt (RFC 9068), or JWT for resource servers that refuse at+jwt")
	flags.StringVar(&f.account, "account", "", "on or off: logins may have the scope account, which opens the account API; "+
		"default on, off with --third-party")
	flags.StringVar(&f.pkce, "pkce", pkceRequired,
		"required, or optional for a confidential client that cannot send a code_challenge")
	flags.StringVar(&f.transport, "refresh-transport", string(oauth.TransportBody),
		"body, or cookie for pages: the browser keeps the refresh token in a cookie that no script can read")
	flags.DurationVar(&f.grace, "refresh-grace", 0, "grace period of the client's refresh tokens, 0s to 5m; default the service's")
}

// apply puts the values of the flags that were given into a client.
func (f *clientFlags) apply(c *oauth.Client, given func(flag string) bool, graceGiven bool) error {
	some := func(list []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == "" })
	}
	for flag, set := range map[string]func(){
		"name":                         func() { c.Name = f.Name },
		"redirect-uri":                 func() { c.RedirectURIs = some(f.RedirectURIs) },
		"post-logout-redirect-uri":     func() { c.PostLogoutRedirectURIs = some(f.PostLogoutRedirectURIs) },
		"backchannel-logout-uri":       func() { c.BackchannelLogoutURI = f.BackchannelLogoutURI },
		"origin":                       func() { c.Origins = some(f.Origins) },
		"grant":                        func() { c.Grants = some(f.Grants) },
		"scope":                        func() { c.Scopes = strings.Fields(f.scope) },
		"audience":                     func() { c.Audiences = some(f.Audiences) },
		"third-party":                  func() { c.ThirdParty = f.ThirdParty },
		"algorithm":                    func() { c.Algorithm = f.Algorithm },
		"id-token-signed-response-alg": func() { c.IDTokenAlgorithm = f.IDTokenAlgorithm },
		"groups-claim":                 func() { c.GroupsClaim = f.GroupsClaim },
		"access-token-typ":             func() { c.AccessTokenType = f.AccessTokenType },
		"refresh-transport":            func() { c.RefreshTransport = oauth.RefreshTransport(f.transport) },
	} {
		if given(flag) {
			set()
		}
	}
	if graceGiven {
		c.RefreshGrace = &f.grace
	}
	if given("pkce") {
		switch f.pkce {
		case pkceRequired, pkceOptional:
			c.PKCEOptional = f.pkce == pkceOptional
		default:
			return usageErrorf("--pkce: %q is not one of %s, %s", f.pkce, pkceRequired, pkceOptional)
		}
	}
	if given("account") {
		switch {
		case f.account != "" && f.account != "on" && f.account != "off":
			return usageErrorf("--account: %q is not one of on, off", f.account)
		case f.account == "on" && c.ThirdParty:
			return usageErrorf("--account: a third-party client cannot have the user's account")
		}
		c.NoAccount = f.account == "off"
	}
	if given("id-token-claims") {
		switch f.idTokenClaims {
		case "":
			c.IDTokenClaims = nil
		case "on", "off":
			c.IDTokenClaims = new(f.idTokenClaims == "on")
		default:
			return usageErrorf("--id-token-claims: %q is not one of on, off", f.idTokenClaims)
		}
	}
	return nil
}

const (
	pkceRequired = "required"
	pkceOptional = "optional"
)

// printClient prints a client and, once, its secret; for people also what its developer has to type in.
func (p *program) printClient(config Config, c oauth.Client, secret string) error {
	body := clientBodyOf(c)
	rows := [][]string{{"Client ID", c.ID}}
	if secret != "" {
		rows = append(rows, []string{"Client secret", secret}, []string{"", "Keep it now: it cannot be shown again."})
	}
	for _, row := range [][2]string{
		{"Name", c.Name}, {"Type", string(c.Type)}, {"Grants", strings.Join(c.Grants, ", ")}, {"Scope", body.Scope},
		{"Redirect URIs", strings.Join(c.RedirectURIs, " ")}, {"After logout", strings.Join(c.PostLogoutRedirectURIs, " ")},
		{"Back-channel logout", c.BackchannelLogoutURI}, {"Origins", strings.Join(c.Origins, " ")},
		{"Audiences", strings.Join(c.Audiences, " ")}, {"Algorithm", c.Algorithm}, {"Grace period", body.RefreshGrace},
	} {
		if row[1] != "" {
			rows = append(rows, row[:])
		}
	}
	if c.ThirdParty {
		rows = append(rows, []string{"Third party", "users are asked for consent"})
	}
	if c.MayAccount() {
		rows = append(rows, []string{"Account API", "for logins that ask for the scope account, or for no scope"})
	}
	rows = append(rows, []string{"Refresh token in", body.RefreshTransport})
	rows = append(rows, tokenRows(c)...)
	if c.Disabled() {
		rows = append(rows, []string{"Disabled", when(c.DisabledAt)})
	}
	rows = append(rows, endpointRows(config.Issuer, c)...)
	if err := p.print(struct {
		clientBody
		Secret string `json:"client_secret,omitempty"`
	}{body, secret}, rows...); err != nil || p.output == "json" {
		return err
	}
	_, err := fmt.Fprint(p.stdout, snippet(config.Issuer, c))
	return err
}

// endpointRows are the addresses that a developer needs, if the library does not find them by itself.
func endpointRows(issuer string, c oauth.Client) [][]string {
	rows := [][]string{
		{"Issuer", issuer}, {"Metadata", issuer + "/.well-known/openid-configuration"}, {"Token endpoint", issuer + "/oauth2/token"},
	}
	if c.Allows(oauth.GrantAuthorizationCode) {
		rows = append(rows, []string{"Authorization endpoint", issuer + "/oauth2/authorize"},
			[]string{"Userinfo endpoint", issuer + "/oauth2/userinfo"}, []string{"Logout endpoint", issuer + "/oauth2/logout"})
	}
	return append(rows, []string{"Public keys", issuer + "/.well-known/jwks.json"})
}

// The challenge of a code_verifier that stands in RFC 7636, appendix B, for a first try.
const (
	tryVerifier  = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	tryChallenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
)

// snippet is what a developer can copy for a first try.
func snippet(issuer string, c oauth.Client) string {
	as := "-d client_id=" + url.QueryEscape(c.ID)
	if c.Type == oauth.Confidential {
		as = "-u '" + url.QueryEscape(c.ID) + ":CLIENT_SECRET'"
	}
	switch {
	case c.Allows(oauth.GrantAuthorizationCode) && len(c.RedirectURIs) > 0:
		query := url.Values{
			"response_type": {"code"}, "client_id": {c.ID}, "redirect_uri": {c.RedirectURIs[0]}, "state": {"try"},
			"code_challenge": {tryChallenge}, "code_challenge_method": {"S256"},
		}
		if len(c.Scopes) > 0 {
			query.Set("scope", strings.Join(c.Scopes, " "))
		}
		return fmt.Sprintf(`
Any OpenID Connect library needs the issuer and the client ID. To try it by hand, open
  %s/oauth2/authorize?%s
log in, and exchange the code of the address to which you return, within a minute:
  curl -s %s/oauth2/token %s -d grant_type=authorization_code -d code=CODE \
    -d redirect_uri=%s -d code_verifier=%s
`, issuer, query.Encode(), issuer, as, url.QueryEscape(c.RedirectURIs[0]), tryVerifier)
	case c.Allows(oauth.GrantClientCredentials):
		return fmt.Sprintf(`
Try it:
  curl -s %s/oauth2/token %s -d grant_type=client_credentials%s
`, issuer, as, scopeParameter(c))
	}
	return fmt.Sprintf(`
Try it:
  curl -s %s/v1/login -H 'Content-Type: application/json' -d '{"email":"EMAIL","password":"PASSWORD","client_id":%q}'
`, issuer, c.ID)
}

func scopeParameter(c oauth.Client) string {
	if len(c.Scopes) == 0 {
		return ""
	}
	return " -d scope=" + url.QueryEscape(strings.Join(c.Scopes, " "))
}

// tokenRows say what tokens of a client look like, for people.
func tokenRows(c oauth.Client) [][]string {
	b := clientBodyOf(c)
	if !c.Allows(oauth.GrantAuthorizationCode) { // there are no codes and no ID tokens
		return [][]string{{"Access token typ", b.AccessTokenType}}
	}
	claims := "off"
	if b.IDTokenClaims {
		claims = "on"
	}
	rows := [][]string{
		{"PKCE", b.PKCE},
		{"ID token signed with", cmp.Or(b.IDTokenAlgorithm, "the service's algorithm")},
		{"ID token claims", claims},
		{"Access token typ", b.AccessTokenType},
	}
	if c.GroupsClaim != "" {
		rows = append(rows, []string{"Groups claim", c.GroupsClaim})
	}
	return rows
}

// clientBody is a client as printed.
type clientBody struct {
	ID                     string     `json:"client_id"`
	Name                   string     `json:"name,omitempty"`
	Type                   string     `json:"type"`
	RedirectURIs           []string   `json:"redirect_uris,omitempty"`
	PostLogoutRedirectURIs []string   `json:"post_logout_redirect_uris,omitempty"`
	BackchannelLogoutURI   string     `json:"backchannel_logout_uri,omitempty"`
	Origins                []string   `json:"origins,omitempty"`
	Grants                 []string   `json:"grants"`
	Scope                  string     `json:"scope"`
	Audiences              []string   `json:"audiences,omitempty"`
	ThirdParty             bool       `json:"third_party"`
	Algorithm              string     `json:"algorithm,omitempty"`
	IDTokenAlgorithm       string     `json:"id_token_signed_response_alg,omitempty"`
	IDTokenClaims          bool       `json:"id_token_claims"`
	GroupsClaim            string     `json:"groups_claim,omitempty"`
	AccessTokenType        string     `json:"access_token_typ"`
	PKCE                   string     `json:"pkce"`
	Account                bool       `json:"account"`
	RefreshTransport       string     `json:"refresh_transport"`
	RefreshGrace           string     `json:"refresh_grace,omitempty"`
	CreatedAt              time.Time  `json:"created_at"`
	DisabledAt             *time.Time `json:"disabled_at,omitempty"`
}

func clientBodyOf(c oauth.Client) clientBody {
	b := clientBody{
		ID:                     c.ID,
		Name:                   c.Name,
		Type:                   string(c.Type),
		RedirectURIs:           c.RedirectURIs,
		PostLogoutRedirectURIs: c.PostLogoutRedirectURIs,
		BackchannelLogoutURI:   c.BackchannelLogoutURI,
		Origins:                c.Origins,
		Grants:                 c.Grants,
		Scope:                  strings.Join(c.Scopes, " "),
		Audiences:              c.Audiences,
		ThirdParty:             c.ThirdParty,
		Algorithm:              c.Algorithm,
		IDTokenAlgorithm:       c.OwnAlgorithm(),
		IDTokenClaims:          c.ClaimsInIDToken(),
		GroupsClaim:            c.GroupsClaim,
		AccessTokenType:        cmp.Or(c.AccessTokenType, verifier.TypeAccessToken),
		PKCE:                   pkceRequired,
		Account:                c.MayAccount(),
		RefreshTransport:       string(cmp.Or(c.RefreshTransport, oauth.TransportBody)),
		CreatedAt:              c.CreatedAt.UTC(),
		DisabledAt:             optional(c.DisabledAt),
	}
	if c.PKCEOptional {
		b.PKCE = pkceOptional
	}
	if c.RefreshGrace != nil {
		b.RefreshGrace = c.RefreshGrace.String()
	}
	return b
}
