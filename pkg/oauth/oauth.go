// Package oauth is the protocol without HTTP: clients, scopes, error codes, and what each endpoint decides.
// One file stands for each grant; the phases of the token endpoint are the endpoint's, a grant fills in the hooks.
package oauth

// The grant types (RFC 6749). The password grant is not among them and never will be (RFC 9700, section 2.4).
const (
	GrantAuthorizationCode = "authorization_code"
	GrantRefreshToken      = "refresh_token"
	GrantClientCredentials = "client_credentials"
)

func knownGrants() []string {
	return []string{GrantAuthorizationCode, GrantRefreshToken, GrantClientCredentials}
}
