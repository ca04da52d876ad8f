package service_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
)

// TestCFG01_ReloadUnderLoad changes two settings that stand on one page, again and again. No page has one of each.
func TestCFG01_ReloadUnderLoad(t *testing.T) {
	look := func(name string) func(c *service.Config) {
		return func(c *service.Config) {
			c.BrandName, c.TermsURL, c.PrivacyURL = name, "https://terms-of-"+name+".example", "https://privacy-of-"+name+".example"
		}
	}
	s := servicetest.Start(t, servicetest.SQLite(t), look("alpha"))
	const reloads = 200
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				r, err := s.Try(t.Context(), "GET", "/oauth2/authorize", nil, nil)
				if err != nil {
					t.Error(err)
					return
				}
				alpha, beta := strings.Count(r.Body, "-of-alpha"), strings.Count(r.Body, "-of-beta")
				if alpha+beta != 2 || alpha*beta != 0 || strings.Contains(r.Body, "beta") == (alpha > 0) {
					t.Errorf("a page with %d of alpha and %d of beta:\n%s", alpha, beta, r.Body)
					return
				}
			}
		})
	}
	for i := range reloads {
		c := s.Config
		look([]string{"beta", "alpha"}[i%2])(&c)
		if err := s.Reload(t.Context(), c); err != nil {
			t.Error(err)
		}
		c.BrandAccent = fmt.Sprint("no colour ", i)
		look([]string{"alpha", "beta"}[i%2])(&c)
		if err := s.Reload(t.Context(), c); err == nil {
			t.Error("a fault was put into force")
		}
	}
	close(done)
	readers.Wait()
}
