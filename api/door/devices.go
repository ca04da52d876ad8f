package door

import (
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/pkg/user"
)

// cookieDevices is what a browser remembers of the logins that succeeded in it. Its holder gets attempts to log in that
// strangers cannot use up, and nothing else.
const cookieDevices = "handstamp_devices"

// Devices knows browsers and applications in which a user has logged in before, as far as they keep cookies.
type Devices struct {
	Door   *Door
	Sealed user.Devices
}

// Find returns the device that a request comes from, for the address of a user.
func (d Devices) Find(c echo.Context, email string) user.Device {
	return d.Sealed.Find(d.cookie(c), email, d.Door.Now())
}

// Remember makes the answer's reader a known device of a user who has logged in with a password, if the answer says so: a
// failure after the password was checked must not tell that it was right.
func (d Devices) Remember(c echo.Context, u user.User) {
	c.Response().Before(func() {
		if c.Response().Status >= http.StatusBadRequest {
			return
		}
		c.SetCookie(&http.Cookie{ //nolint:gosec // Secure is left out for a loopback issuer without https only
			Name:     d.Door.CookieName(cookieDevices),
			Value:    d.Sealed.Remember(d.cookie(c), u.Email, u.PasswordHash, d.Door.Now()),
			Path:     "/",
			MaxAge:   int(user.DeviceLifetime / time.Second),
			HttpOnly: true,
			Secure:   d.Door.Secure(),
			SameSite: http.SameSiteLaxMode,
		})
	})
}

// cookie returns the value of the cookie, empty if it is not there exactly once.
func (d Devices) cookie(c echo.Context) string {
	values := c.Request().CookiesNamed(d.Door.CookieName(cookieDevices))
	if len(values) != 1 {
		return ""
	}
	return values[0].Value
}
