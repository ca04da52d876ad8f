package door_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/pkg/password"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/upstream"
	"github.com/handstamp/handstamp/pkg/user"
)

func TestFormMessage(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want pages.MessageID
	}{
		"ok/wrong password":       {user.ErrInvalidCredentials, pages.InvalidCredentials},
		"ok/taken address":        {user.ErrEmailTaken, pages.EmailTaken},
		"ok/short password":       {password.ErrTooShort, pages.PasswordTooShort},
		"ok/common password":      {password.ErrCommon, pages.PasswordCommon},
		"ok/malformed password":   {password.ErrMalformed, pages.PasswordInvalid},
		"ok/long password":        {password.ErrTooLong, pages.InvalidCredentials}, // no user has one
		"ok/busy":                 {&password.BusyError{}, pages.Overloaded},
		"ok/too many attempts":    {&user.AttemptError{}, pages.TooManyAttempts},
		"fail/disabled user":      {session.ErrUserDisabled, ""},
		"fail/a provider's error": {upstream.ErrUnavailable, ""},
		"fail/storage":            {errors.New("connection refused"), ""},
		"fail/no error":           {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.err
			if err != nil {
				err = fmt.Errorf("what was being done: %w", err)
			}
			if got := door.FormMessage(err); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// The first row that matches counts, so a second row of one error would never be read.
func TestErrorsHaveOneRow(t *testing.T) {
	seen := map[error]bool{}
	for _, err := range door.TableErrors() {
		if seen[err] {
			t.Errorf("%v has two rows", err)
		}
		seen[err] = true
	}
}
