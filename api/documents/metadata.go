package documents

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/statuslist"
)

// metadataBody is RFC 8414, section 2, and OpenID Connect Discovery 1.0, section 3: one document under both names.
type metadataBody struct {
	Issuer                       string   `json:"issuer"`
	AuthorizationEndpoint        string   `json:"authorization_endpoint"`
	TokenEndpoint                string   `json:"token_endpoint"`
	UserinfoEndpoint             string   `json:"userinfo_endpoint"`
	EndSessionEndpoint           string   `json:"end_session_endpoint"`
	PushedRequestEndpoint        string   `json:"pushed_authorization_request_endpoint"`
	RevocationEndpoint           string   `json:"revocation_endpoint"`
	IntrospectionEndpoint        string   `json:"introspection_endpoint"`
	JWKSURI                      string   `json:"jwks_uri"`
	ScopesSupported              []string `json:"scopes_supported"`
	ResponseTypesSupported       []string `json:"response_types_supported"`
	ResponseModesSupported       []string `json:"response_modes_supported"`
	GrantTypesSupported          []string `json:"grant_types_supported"`
	ChallengeMethodsSupported    []string `json:"code_challenge_methods_supported"`
	PromptValuesSupported        []string `json:"prompt_values_supported"`
	ClaimsSupported              []string `json:"claims_supported"`
	ACRValuesSupported           []string `json:"acr_values_supported"`
	TokenAuthMethods             []string `json:"token_endpoint_auth_methods_supported"`
	RevocationAuthMethods        []string `json:"revocation_endpoint_auth_methods_supported"`
	IntrospectionAuthMethods     []string `json:"introspection_endpoint_auth_methods_supported"`
	SubjectTypesSupported        []string `json:"subject_types_supported"`
	IDTokenSigningAlgs           []string `json:"id_token_signing_alg_values_supported"`
	AccessTokenSigningAlgs       []string `json:"handstamp_access_token_signing_alg_values_supported"`
	IssParameterSupported        bool     `json:"authorization_response_iss_parameter_supported"`
	BackchannelLogoutSupported   bool     `json:"backchannel_logout_supported"`
	BackchannelLogoutSession     bool     `json:"backchannel_logout_session_supported"`
	RequestParameterSupported    bool     `json:"request_parameter_supported"`
	RequestURIParameterSupported bool     `json:"request_uri_parameter_supported"`
	ClaimsParameterSupported     bool     `json:"claims_parameter_supported"`
	BlocklistEndpoint            string   `json:"handstamp_blocklist_endpoint"`
	BlocklistStreamEndpoint      string   `json:"handstamp_blocklist_stream_endpoint"`
	// draft-ietf-oauth-status-list, section 9.1
	StatusListAggregation string `json:"status_list_aggregation_endpoint,omitempty"`
	ServiceDocumentation  string `json:"service_documentation"`
}

// metadata is GET /.well-known/oauth-authorization-server and /.well-known/openid-configuration. Every address in it comes
// from the configured issuer, none from the request.
func (r *Room) metadata(c echo.Context) error {
	at := func(path string) string { return r.Issuer + path }
	secrets := []string{"client_secret_basic", "client_secret_post"}
	c.Response().Header().Set("Cache-Control", "public, max-age=300")
	var statusLists string
	if r.StatusLists {
		statusLists = at(statuslist.Path)
	}
	return door.WriteJSON(c, http.StatusOK, "application/json", metadataBody{
		Issuer:                    r.Issuer,
		TokenEndpoint:             at("/oauth2/token"),
		RevocationEndpoint:        at("/oauth2/revoke"),
		IntrospectionEndpoint:     at("/oauth2/introspect"),
		JWKSURI:                   at("/.well-known/jwks.json"),
		AuthorizationEndpoint:     at("/oauth2/authorize"),
		UserinfoEndpoint:          at("/oauth2/userinfo"),
		EndSessionEndpoint:        at("/oauth2/logout"),
		PushedRequestEndpoint:     at("/oauth2/par"),
		ScopesSupported:           []string{"openid", "profile", "email", "offline_access"},
		ResponseTypesSupported:    []string{"code"},
		ResponseModesSupported:    []string{oauth.ModeQuery, oauth.ModeFragment, oauth.ModeFormPost},
		ChallengeMethodsSupported: []string{"S256"},
		PromptValuesSupported: []string{oauth.PromptNone, oauth.PromptLogin, oauth.PromptConsent, oauth.PromptSelectAccount,
			oauth.PromptCreate},
		ClaimsSupported: []string{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "at_hash", "amr", "acr", "sid",
			"email", "email_verified", "name", "given_name", "family_name", "preferred_username", "picture", "website", "locale",
			"zoneinfo", "updated_at"},
		ACRValuesSupported:         []string{oauth.ACR, oauth.ACRFactors},
		IDTokenSigningAlgs:         r.Keys.Algorithms(),
		IssParameterSupported:      true,
		BackchannelLogoutSupported: true,
		BackchannelLogoutSession:   true,
		GrantTypesSupported:        []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken, oauth.GrantClientCredentials},
		TokenAuthMethods:           append([]string{"none"}, secrets...),
		RevocationAuthMethods:      append([]string{"none"}, secrets...),
		IntrospectionAuthMethods:   secrets,
		SubjectTypesSupported:      []string{"public"},
		AccessTokenSigningAlgs:     r.Keys.Algorithms(),
		BlocklistEndpoint:          at(blocklist.Path),
		BlocklistStreamEndpoint:    at(blocklist.StreamPath),
		StatusListAggregation:      statusLists,
		ServiceDocumentation:       at("/openapi.yaml"),
	})
}
