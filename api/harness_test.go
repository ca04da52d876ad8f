package api_test

import (
	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
)

// sameIssuer makes a replica of a service.
func sameIssuer(s *servicetest.Service) func(*service.Config) {
	return func(c *service.Config) { c.Issuer, c.Audience = s.Config.Issuer, s.Config.Audience }
}
