// Package vectors holds blocklist.json: what every follower of the revocation feed, in whatever language, must make of
// it. README.md says how to read it.
package vectors
