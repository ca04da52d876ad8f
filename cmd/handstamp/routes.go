package main

import (
	"cmp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/pkg/audit"
)

// routeBody is a row of the table of routes.
type routeBody struct {
	Method  string       `json:"method"`
	Path    string       `json:"path"`
	Access  string       `json:"access"`
	Sharing string       `json:"sharing"`
	Cookie  bool         `json:"refresh_cookie"`
	Scope   string       `json:"scope,omitempty"`
	Audit   []audit.Kind `json:"audit"`
}

func routeBodyOf(r door.Route) routeBody {
	return routeBody{
		Method:  r.Method,
		Path:    r.Path,
		Access:  r.Access.String(),
		Sharing: r.Sharing.String(),
		Cookie:  r.Cookie,
		Scope:   r.NeededScope(),
		Audit:   append([]audit.Kind{}, r.Audit...),
	}
}

func (p *program) routesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "routes", Short: "Print the table of routes: who may call each, and which security events it may record", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			var bodies []routeBody
			rows := [][]string{{"METHOD", "PATH", "ACCESS", "SHARING", "SCOPE", "AUDIT"}}
			for _, r := range service.Routes() {
				b := routeBodyOf(r)
				bodies = append(bodies, b)
				kinds := make([]string, len(b.Audit))
				for i, kind := range b.Audit {
					kinds[i] = string(kind)
				}
				rows = append(rows, []string{
					b.Method, b.Path, b.Access, b.Sharing, cmp.Or(b.Scope, "-"), cmp.Or(strings.Join(kinds, ","), "-"),
				})
			}
			return p.print(bodies, rows...)
		},
	}
}
