package api

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/pkg/oauth"
)

// metadataBody is RFC 8414, section 2, and OpenID Connect Discovery 1.0, section 3: one document under both names.
type metadataBody struct {
	Issuer                   string   `json:"issuer"`
	TokenEndpoint            string   `json:"token_endpoint"`
	RevocationEndpoint       string   `json:"revocation_endpoint"`
	IntrospectionEndpoint    string   `json:"introspection_endpoint"`
	JWKSURI                  string   `json:"jwks_uri"`
	ScopesSupported          []string `json:"scopes_supported,omitempty"`
	ResponseTypesSupported   []string `json:"response_types_supported"`
	GrantTypesSupported      []string `json:"grant_types_supported"`
	TokenAuthMethods         []string `json:"token_endpoint_auth_methods_supported"`
	RevocationAuthMethods    []string `json:"revocation_endpoint_auth_methods_supported"`
	IntrospectionAuthMethods []string `json:"introspection_endpoint_auth_methods_supported"`
	SubjectTypesSupported    []string `json:"subject_types_supported"`
	AccessTokenSigningAlgs   []string `json:"access_token_signing_alg_values_supported"`
	BlocklistEndpoint        string   `json:"handstamp_blocklist_endpoint"`
	BlocklistStreamEndpoint  string   `json:"handstamp_blocklist_stream_endpoint"`
	ServiceDocumentation     string   `json:"service_documentation"`
}

// metadata is GET /.well-known/oauth-authorization-server and /.well-known/openid-configuration. Every address in it comes from the
// configured issuer, none from the request.
func (a *API) metadata(c echo.Context) error {
	at := func(path string) string { return a.config.Issuer + path }
	secrets := []string{"client_secret_basic", "client_secret_post"}
	c.Response().Header().Set("Cache-Control", "public, max-age=300")
	return writeJSON(c, http.StatusOK, "application/json", metadataBody{
		Issuer:                   a.config.Issuer,
		TokenEndpoint:            at("/oauth2/token"),
		RevocationEndpoint:       at("/oauth2/revoke"),
		IntrospectionEndpoint:    at("/oauth2/introspect"),
		JWKSURI:                  at("/.well-known/jwks.json"),
		ResponseTypesSupported:   []string{},
		GrantTypesSupported:      []string{oauth.GrantRefreshToken, oauth.GrantClientCredentials},
		TokenAuthMethods:         append([]string{"none"}, secrets...),
		RevocationAuthMethods:    append([]string{"none"}, secrets...),
		IntrospectionAuthMethods: secrets,
		SubjectTypesSupported:    []string{"public"},
		AccessTokenSigningAlgs:   a.Keys.Algorithms(),
		BlocklistEndpoint:        at("/v1/blocklist"),
		BlocklistStreamEndpoint:  at(streamPath),
		ServiceDocumentation:     at("/openapi.yaml"),
	})
}
