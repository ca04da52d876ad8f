// Package verifier checks Handstamp's access tokens in a resource server: offline, and yet a token that was revoked is refused
// within a second.
//
//	v, err := verifier.New(ctx, "https://login.example.com", verifier.WithAudience("https://api.example.com"))
//	if err != nil {
//		return err
//	}
//	defer v.Close()
//
//	mux := http.NewServeMux()
//	mux.Handle("GET /hello", v.Middleware(hello))
//	mux.Handle("DELETE /reports/{id}", v.Middleware(verifier.RequireScope("reports:write")(deleteReport)))
//
// Inside of a handler, the claims are there:
//
//	claims, _ := verifier.ClaimsFrom(r.Context())
//	fmt.Fprintln(w, "hello", claims.Subject)
//
// Without net/http, call Verify with the text of the token; every error wraps ErrInvalid (get another token) or
// ErrUnavailable (try again), and Challenge turns it into a status and a WWW-Authenticate header.
//
// # What is checked
//
// A token has exactly one accepted spelling: a JWS of at most 8 KiB whose header is alg, kid and typ "at+jwt" and
// nothing else. The key that kid names decides the algorithm (ES256, EdDSA or RS256). Only when the signature is right
// are the claims read, strictly: no repeated names, the JSON types of RFC 9068, and iss, sub, aud, exp, iat, jti and
// client_id present. Then the issuer, the audience, the times and the blocklist decide. (One exception to one spelling:
// who holds an ES256 token can mirror its signature. Identify a token by its jti, never by its text.)
//
// # What happens in the background
//
// The keys are fetched again before Cache-Control lets them go stale, and at once for a kid that is not known, though
// not more than once in 30 seconds. The blocklist arrives as a stream of server-sent events, by polling while the
// stream cannot be had. While the issuer is down, tokens are checked with what is known; WithMaxStaleness says for how
// long that is good enough. Status and Hooks tell how things stand.
//
// # The feed
//
// The metadata (RFC 8414) may name the addresses handstamp_blocklist_endpoint and handstamp_blocklist_stream_endpoint;
// without them they are /v1/blocklist and /v1/blocklist/stream below the issuer. Both speak of a Feed: its entries are
// records of 24 bytes (see Entry), its cursor is opaque. GET without a cursor answers a snapshot; with ?after=CURSOR
// what changed since, 304 if nothing did (the ETag is the cursor in quotes) and 410 for a cursor that is no longer
// known: take a snapshot. The stream begins after a cursor (?after=CURSOR or Last-Event-ID) and has the events
// "entries" (a Feed), "heartbeat" (a Heartbeat, every five seconds) and "reset" (the cursor is no longer known).
// Entries may be repeated. An as_of that does not move on says that the issuer has not looked.
package verifier
