package service

import "github.com/handstamp/handstamp/pkg/egress"

// signalCalls are the calls to receivers of security events. The address is the receiver's own choice.
func signalCalls(c Config) egress.Options { return egress.Options{PrivateNetworks: c.SignalsPrivate} }

// logoutCalls are the calls of back-channel logout. The operator registers the addresses, many of them in the private
// network beside the service, and plain http is allowed (OpenID Connect Back-Channel Logout 1.0, section 2.2).
func logoutCalls() egress.Options { return egress.Options{PrivateNetworks: true, PlainHTTP: true} }
