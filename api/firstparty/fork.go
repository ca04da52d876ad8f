package firstparty

import (
	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/oauth"
)

// fork is POST /v1/sessions/fork: a child session for a second holder on the same device, with tokens as the token
// endpoint answers them.
func (r *Login) fork(c echo.Context) error {
	request, err := door.ReadForm(c)
	if err != nil {
		return err
	}
	holder, err := request.Form.One("holder")
	if err != nil {
		return err
	}
	presented := r.Door.Presents(c)
	request.Presented = func(client oauth.Client, inForm string) (string, error) {
		raw, err := presented.Token(client, inForm)
		if err == nil {
			err = r.Door.Forks(client, holder)
		}
		return raw, err
	}
	response, err := r.OAuth.Fork(c.Request().Context(), request)
	if err != nil {
		return presented.Failed(err)
	}
	return r.Door.WriteForked(c, response, holder)
}
