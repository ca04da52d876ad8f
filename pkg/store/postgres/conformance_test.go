package postgres

import (
	"testing"

	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/store/postgres/pgtest"
	"github.com/handstamp/handstamp/pkg/store/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) (first, second store.Store) {
		url := pgtest.URL(t)
		return openURL(t, url, false), openURL(t, url, false)
	})
}
