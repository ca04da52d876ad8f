// Hello answers every request with two words: what the web framework costs when it does nothing.
package main

import (
	"net/http"
	"os"

	"github.com/labstack/echo/v4"
)

func main() {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.GET("/", func(c echo.Context) error { return c.String(http.StatusOK, "Hello, World!") })
	e.Logger.Fatal(e.Start(os.Args[1]))
}
