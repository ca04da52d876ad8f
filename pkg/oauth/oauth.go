// Package oauth is the protocol without HTTP: clients, scopes, error codes, and what each endpoint decides.
// Each grant has one file: the token endpoint defines the phases, and a grant fills in the hooks.
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
