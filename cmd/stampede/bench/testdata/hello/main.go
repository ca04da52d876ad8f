// Hello is what the web framework costs when it does nothing: it answers a GET with two words, and a refresh with an answer of
// the length of a real one.
package main

import (
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/labstack/echo/v4"
)

// answer has the members of a token response. Its texts are as long as real ones.
type answer struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int    `json:"expires_in"`
	RefreshToken string `json:"refresh_token"`
	Scope        string `json:"scope"`
}

const (
	accessTokenLength  = 700
	refreshTokenLength = 64
)

func main() {
	access, refresh := strings.Repeat("a", accessTokenLength), strings.Repeat("r", refreshTokenLength)
	var count atomic.Int64
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.GET("/", func(c echo.Context) error { return c.String(http.StatusOK, "Hello, World!") })
	e.POST("/oauth2/token", func(c echo.Context) error {
		if c.FormValue("refresh_token") == "" {
			return echo.ErrBadRequest
		}
		n := strconv.FormatInt(count.Add(1), 10) // no two are the same
		return c.JSON(http.StatusOK, answer{
			AccessToken:  access,
			TokenType:    "Bearer",
			ExpiresIn:    900,
			RefreshToken: "hsr_" + n + refresh[len(n):],
		})
	})
	e.Logger.Fatal(e.Start(os.Args[1]))
}
