// Package verifier checks Handstamp's access tokens in a resource server: offline, and without being deaf to revocations.
package verifier
