// Package vectors holds blocklist.json, the test vectors for followers of the revocation feed in any language. README.md
// says how to read it.
package vectors
