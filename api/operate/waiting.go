package operate

import (
	"encoding/json"
	"net/http"
	"strings"
)

// Waiting answers while the service waits for its database at the start: the process is alive and not ready, and every
// other request can be repeated later.
func Waiting(w http.ResponseWriter, r *http.Request) {
	status, body := http.StatusServiceUnavailable, any(map[string]any{
		"type":   "about:blank",
		"title":  "The service cannot do this now",
		"status": http.StatusServiceUnavailable,
		"code":   "unavailable",
		"detail": "the service is starting; the request can be repeated",
	})
	contentType := "application/problem+json"
	switch path := r.URL.Path; {
	case path == "/healthz":
		status, contentType, body = http.StatusOK, "application/json", map[string]string{"status": "ok"}
	case path == "/readyz":
		contentType, body = "application/json", map[string]any{
			"status": "not ready",
			"checks": map[string]string{
				"database":    "does not answer yet: the service waits for it, and the log says why",
				"blocklist":   "not loaded",
				"clock":       "not compared with the database's",
				"signing_key": "none is ready",
			},
		}
	case strings.HasPrefix(path, "/oauth2/"):
		contentType, body = "application/json", map[string]string{
			"error": "temporarily_unavailable", "error_description": "the service is starting",
		}
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if status != http.StatusOK {
		h.Set("Retry-After", "1")
	}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_ = json.NewEncoder(w).Encode(body) // the caller has left, or the answer arrives
	}
}
