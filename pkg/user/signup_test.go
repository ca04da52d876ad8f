package user_test

import (
	"errors"
	"testing"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/password"
	"github.com/handstamp/handstamp/pkg/store/storetest"
	"github.com/handstamp/handstamp/pkg/user"
)

func TestSignup(t *testing.T) {
	const bob = "Bob@example.test"
	for name, test := range map[string]struct {
		policy             password.Policy
		closed             bool
		email, name, plain string
		want               error
		evaluations        uint64
	}{
		"ok/new address":       {email: "ann@example.test", name: "Ann", plain: right, evaluations: 1},
		"ok/without a name":    {email: "ann@example.test", plain: right, evaluations: 1},
		"fail/taken":           {email: bob, plain: right, want: user.ErrEmailTaken, evaluations: 1},
		"fail/taken, the case": {email: "bOB@EXAMPLE.test", plain: right, want: user.ErrEmailTaken, evaluations: 1},
		// The same answer for both, before the address is looked at.
		"fail/too short":        {email: "ann@example.test", plain: "short", want: password.ErrTooShort},
		"fail/too short, taken": {email: bob, plain: "short", want: password.ErrTooShort},
		"fail/too short here": {
			policy: password.Policy{MinLength: 30}, email: "ann@example.test", plain: right, want: password.ErrTooShort,
		},
		"fail/closed":         {closed: true, email: "ann@example.test", plain: right, want: user.ErrSignupClosed},
		"fail/empty":          {email: "ann@example.test", plain: "", want: password.ErrTooShort},
		"fail/common":         {email: "ann@example.test", plain: "password1", want: password.ErrCommon},
		"fail/the address":    {email: "ann@example.test", plain: "ANN@example.test", want: password.ErrCommon},
		"fail/the local part": {email: "annabella@example.test", plain: "annabella", want: password.ErrCommon},
		"fail/the name":       {email: "ann@example.test", name: "Annabella Bell", plain: "annabella bell", want: password.ErrCommon},
		"fail/invalid UTF-8":  {email: "ann@example.test", plain: "correct horse \xff", want: password.ErrMalformed},
	} {
		over(t, name, func(b *bench) {
			b.has(bob, "", nil)
			s := &user.Signup{Store: b.store, Hasher: b.hasher, Policy: test.policy, Closed: test.closed, Gate: b.gate}
			u, err := s.Create(b.Context(), test.email, test.name, test.plain, origin)
			if !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
				b.Fatalf("%v, want %v", err, test.want)
			}
			if n := b.hasher.Stats().Evaluations; n != test.evaluations {
				b.Errorf("%d hashes were evaluated, want %d", n, test.evaluations)
			}
			all, err := b.store.Users(b.Context(), "", 10)
			b.must(err)
			if test.want != nil {
				if len(all) != 1 {
					b.Errorf("%d users, want the one that there was", len(all))
				}
				return
			}

			got, err := b.store.UserByID(b.Context(), u.ID)
			b.must(err)
			if got.Email != test.email || got.Name != test.name || got.PasswordHash != u.PasswordHash || len(got.Roles) != 0 {
				b.Errorf("stored %+v, returned %+v", got, u)
			}
			if got.Disabled() || !got.EmailVerifiedAt.IsZero() || !got.CreatedAt.Equal(time.Now()) || !got.UpdatedAt.Equal(time.Now()) {
				b.Errorf("stored %+v", got)
			}
			if ok, err := b.hasher.Verify(b.Context(), got.PasswordHash, test.plain); !ok || err != nil {
				b.Errorf("the password does not fit the stored hash: %v", err)
			}
			events, err := b.store.Events(b.Context(), u.ID, audit.Cursor{}, 10)
			b.must(err)
			if len(events) != 1 || events[0].Kind != audit.KindSignedUp || events[0].Actor != u.ID || events[0].Origin != origin {
				b.Errorf("events %+v", events)
			}
		})
	}
	for _, when := range []storetest.When{storetest.Before, storetest.After} {
		over(t, "fail/storage failure "+when.String(), func(b *bench) {
			s := &user.Signup{Store: storetest.Fail(b.store, 1, when), Hasher: b.hasher, Gate: b.gate}
			_, err := s.Create(b.Context(), "ann@example.test", "", right, origin)
			if !errors.Is(err, storetest.ErrInjected) || errors.Is(err, user.ErrEmailTaken) {
				b.Error(err)
			}
		})
	}
}
