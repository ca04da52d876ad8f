// Package oauth is the protocol without HTTP: clients, scopes, error codes, and what each endpoint decides.
// Each grant has one file: the token endpoint defines the phases, and a grant fills in the hooks.
package oauth

import "slices"

// The grant types (RFC 6749). The password grant is not among them and never will be (RFC 9700, section 2.4).
const (
	GrantAuthorizationCode = "authorization_code"
	GrantRefreshToken      = "refresh_token"
	GrantClientCredentials = "client_credentials"
)

// AMRPassword are the authentication methods of a login with a password (RFC 8176, section 2).
func AMRPassword() []string { return []string{"pwd"} }

// AMRProvider are those of a login at an upstream provider. RFC 8176 has no name for it.
func AMRProvider() []string { return []string{"fed"} }

// ACR is the authentication context class of a login that has shown one factor, here or at a provider. It is a name of
// our own (OpenID Connect Core, section 2, leaves it to the parties).
const ACR = "urn:handstamp:acr:1fa"

// ACRFactors is that of a login that has shown a second factor too.
const ACRFactors = "urn:handstamp:acr:2fa"

// ACROf is the class of a login with these authentication methods.
func ACROf(amr []string) string {
	if slices.Contains(amr, "mfa") {
		return ACRFactors
	}
	return ACR
}

func knownGrants() []string {
	return []string{GrantAuthorizationCode, GrantRefreshToken, GrantClientCredentials}
}
