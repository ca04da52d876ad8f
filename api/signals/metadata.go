package signals

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/sharedsignal"
)

// metadata is GET /.well-known/ssf-configuration (OpenID Shared Signals Framework 1.0, section 7.1).
func (r *Room) metadata(c echo.Context) error {
	type scheme struct {
		URN string `json:"spec_urn"`
	}
	at := func(path string) string { return r.Door.Issuer() + path }
	c.Response().Header().Set("Cache-Control", "public, max-age=300")
	return door.WriteJSON(c, http.StatusOK, "application/json", struct {
		SpecVersion           string   `json:"spec_version"`
		Issuer                string   `json:"issuer"`
		JWKSURI               string   `json:"jwks_uri"`
		DeliveryMethods       []string `json:"delivery_methods_supported"`
		ConfigurationEndpoint string   `json:"configuration_endpoint"`
		StatusEndpoint        string   `json:"status_endpoint"`
		AddSubjectEndpoint    string   `json:"add_subject_endpoint"`
		RemoveSubjectEndpoint string   `json:"remove_subject_endpoint"`
		VerificationEndpoint  string   `json:"verification_endpoint"`
		AuthorizationSchemes  []scheme `json:"authorization_schemes"`
		DefaultSubjects       string   `json:"default_subjects"`
	}{
		"1_0", r.Door.Issuer(), at("/.well-known/jwks.json"), []string{sharedsignal.MethodPush, sharedsignal.MethodPoll},
		at(path + "/streams"), at(path + "/status"), at(path + "/subjects/add"), at(path + "/subjects/remove"), at(path + "/verify"),
		[]scheme{{"urn:ietf:rfc:6749"}}, "ALL",
	})
}
