// Package peers measures verifier.Verify next to other libraries that verify the same token. It is a module of its own,
// so that nobody who imports the verifier gets the peers' requirements.
package peers
