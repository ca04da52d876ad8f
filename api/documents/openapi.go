package documents

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
)

// openapi is GET /openapi.yaml: the contract in full.
func (r *Room) openapi(c echo.Context) error {
	c.Response().Header().Set("Cache-Control", "public, max-age=300")
	return door.WriteBytes(c, http.StatusOK, "application/yaml", r.Contract)
}
