package api

// Route is one row of the table of routes.
type Route struct{ Method, Path string }

// Answered returns every route that the service answers, those included that the router was given besides the table:
// HEAD and OPTIONS.
func (a *API) Answered() []Route {
	var out []Route
	for _, r := range a.echo.Load().Routes() {
		out = append(out, Route{r.Method, r.Path})
	}
	return out
}
