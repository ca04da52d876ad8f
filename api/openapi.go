package api

import (
	_ "embed" // the contract
	"net/http"

	"github.com/labstack/echo/v4"
)

//go:embed openapi.yaml
var contract []byte

// openapi is GET /openapi.yaml: the contract in full.
func (a *API) openapi(c echo.Context) error {
	c.Response().Header().Set("Cache-Control", "public, max-age=300")
	return writeBytes(c, http.StatusOK, "application/yaml", contract)
}
