// Package keyring keeps the keys that sign tokens: it makes, seals, rotates and revokes them, and serves their public
// halves as a JWKS document.
package keyring
