// Package verifier checks Handstamp's access tokens in a resource server. It works offline, and still refuses a revoked
// token within a second.
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
// A handler reads the claims from the context:
//
//	claims, _ := verifier.ClaimsFrom(r.Context())
//	fmt.Fprintln(w, "hello", claims.Subject)
//
// Without net/http, call Verify with the text of the token. Every error wraps ErrInvalid (get another token) or
// ErrUnavailable (try again); Challenge turns it into a status and a WWW-Authenticate header.
//
// # What is checked
//
// A token has exactly one accepted spelling: a JWS of at most 8 KiB whose header is alg, kid and typ "at+jwt" (or what
// WithTokenType says) and nothing else. The key that kid names decides the algorithm (ES256, EdDSA or RS256). The verifier
// reads the claims only after the signature is verified, and strictly: no repeated names, the JSON types of RFC 9068, and iss,
// sub, aud, exp, iat, jti and client_id present. Then the issuer, the audience, the times and the blocklist decide. (There is
// one exception to the one spelling: the holder of an ES256 token can mirror its signature. Identify a token by its jti, never
// by its text.)
//
// # What happens in the background
//
// The verifier fetches the keys again before they go stale under Cache-Control, and at once for an unknown kid, but at
// most once in 30 seconds. It follows the blocklist as a stream of server-sent events, and polls while there is no
// stream. While the issuer is down, it checks tokens with the keys and entries that it knows; WithMaxStaleness limits how
// long. Status and Hooks report its state.
//
// # The feed
//
// The metadata (RFC 8414) may name the addresses handstamp_blocklist_endpoint and handstamp_blocklist_stream_endpoint;
// without them they are /v1/blocklist and /v1/blocklist/stream below the issuer. Both return a Feed: its entries are
// records of 24 bytes (see Entry), its cursor is opaque. GET without a cursor returns a snapshot. With ?after=CURSOR it
// returns the changes since, 304 if there are none (the ETag is the cursor in quotes), and 410 for a cursor that is no
// longer known: take a snapshot. The stream begins after a cursor (?after=CURSOR or Last-Event-ID) and has the events
// "entries" (a Feed), "heartbeat" (a Heartbeat, every five seconds) and "reset" (the cursor is no longer known).
// Entries may be repeated. An as_of that stays the same means that the issuer has no news from its database.
package verifier
