package api

import _ "embed" // the contract

//go:embed openapi.yaml
var contract []byte

// Contract returns the description of the routes, in OpenAPI.
func Contract() []byte { return contract }
