// Package peers measures verifier.Verify next to other libraries that verify the same token. It is a module of its own,
// so that importers of the verifier do not get the peers' requirements.
package peers
