package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/handstamp/handstamp/api"
)

// bearerRoutes are the routes that only somebody with an access token gets something from.
func bearerRoutes() []api.Route {
	return []api.Route{
		{Method: http.MethodGet, Path: "/v1/me"},
		{Method: http.MethodPatch, Path: "/v1/me"},
		{Method: http.MethodDelete, Path: "/v1/me"},
		{Method: http.MethodPost, Path: "/v1/password/change"},
		{Method: http.MethodGet, Path: "/v1/sessions"},
		{Method: http.MethodDelete, Path: "/v1/sessions"},
		{Method: http.MethodDelete, Path: "/v1/sessions/:sid"},
		{Method: http.MethodGet, Path: "/v1/forward-auth"},
		{Method: http.MethodGet, Path: "/oauth2/userinfo"},
		{Method: http.MethodPost, Path: "/oauth2/userinfo"},
		{Method: http.MethodPost, Path: "/v1/logout"},
	}
}

// filled puts a session ID where a path has a place for it.
func filled(path, id string) string { return strings.Replace(path, ":sid", id, 1) }

var _ = testing.Short
