package operate

import (
	"context"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/clock"
)

// healthz is GET /healthz: the process answers. It depends on nothing else, so that a database that is down does not get the
// service restarted.
func (r *Room) healthz(c echo.Context) error {
	door.NoStore(c.Response().Header())
	return door.WriteJSON(c, http.StatusOK, "application/json", map[string]string{"status": "ok"})
}

// readyTimeout bounds the readiness check.
const readyTimeout = 2 * time.Second

// readyz is GET /readyz: this replica can do all it is for. 503 and the reasons if not.
func (r *Room) readyz(c echo.Context) error {
	door.NoStore(c.Response().Header())
	ctx, cancel := context.WithTimeout(c.Request().Context(), readyTimeout)
	defer cancel()
	checks, ready := map[string]string{}, true
	check := func(name string, ok bool, fault string) {
		checks[name] = "ok"
		if !ok {
			checks[name], ready = fault, false
		}
	}
	err := r.Database.Ping(ctx)
	check("database", err == nil, "does not answer or does not take writes")
	if err == nil {
		current, newest, err := r.Database.Schema(ctx)
		check("schema", err == nil && current >= newest, "not migrated: run handstamp migrate up")
	}
	heard := r.Blocklist.HeardAt()
	check("blocklist", !heard.IsZero() && time.Since(heard) <= 2*blocklist.StalenessBound, "not loaded or not heard of lately")
	check("clock", r.Clock.Offset().Abs() <= clock.MaxOffset, "too far from the database's: set it")
	_, err = r.Keys.Signer(ctx, "")
	check("signing_key", err == nil, "none is ready")

	status, word := http.StatusOK, "ready"
	if !ready {
		status, word = http.StatusServiceUnavailable, "not ready"
		door.SetRetryAfter(c.Response().Header(), time.Second)
	}
	return door.WriteJSON(c, status, "application/json", map[string]any{"status": word, "checks": checks})
}
