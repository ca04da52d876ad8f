package postgres

import (
	"testing"

	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/store/postgres/pgtest"
	"github.com/handstamp/handstamp/pkg/store/storetest"
)

func TestConformance(t *testing.T) {
	for name, parameter := range map[string]string{
		"direct":          "",
		"behind a pooler": "&default_query_exec_mode=cache_describe",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, func(t *testing.T) (first, second store.Store) {
				url := pgtest.URL(t) + parameter
				return openURL(t, url), openURL(t, url)
			})
		})
	}
}
