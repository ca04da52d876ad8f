// Package bff keeps the logins of a web application: one that renders pages, or that serves a single-page app from its own origin
// and calls APIs for it (a back end for the front end). The browser has an HttpOnly cookie and no token.
//
//	b, err := bff.New(ctx, "https://login.example.com", bff.Config{
//		URL:          "https://app.example.com",
//		ClientID:     "app",
//		ClientSecret: secret,
//		Keys:         [][]byte{key}, // 32 random bytes
//		Store:        sqlstore.New(db),
//	})
//	if err != nil {
//		return err
//	}
//	defer b.Close()
//
//	mux := http.NewServeMux()
//	mux.Handle("/auth/", b.Handler())
//	mux.HandleFunc("GET /{$}", home)
//	mux.Handle("/orders", b.RequireUser(orders))
//	mux.Handle("/admin", b.RequireRole("admin")(admin))
//	mux.Handle("POST /account/delete", b.RequireRecent(10*time.Minute)(deleteAccount))
//	mux.Handle("/api/", http.StripPrefix("/api", b.Proxy(api)))
//	err = http.ListenAndServe(addr, b.Middleware(mux))
//
// A handler reads the session from the context:
//
//	if s, ok := bff.SessionFrom(r.Context()); ok {
//		fmt.Fprintln(w, "hello", s.Claims.Subject)
//	}
//
// A page that is open to all links to /auth/login?return_to=/here, and logs out by a form that posts to /auth/logout. Every
// form, that one too, has a hidden field with the session's token, Session.CSRFInput; script sends Session.CSRFToken in
// X-CSRF-Token and gets it from /auth/me. If the pages have a Content-Security-Policy with form-action, it must allow the
// issuer too: browsers hold it against the redirect that follows the logout form.
//
// # The two kinds of sessions
//
// With Config.Store a session is a record on the server, and the cookie is a random number of 256 bits; the record has its hash
// as ID, and its data sealed. Sessions can be listed, ended one by one and limited for each user. Without a Store the session
// is in the cookie itself, sealed with AES-256-GCM under Config.Keys and split where browsers want it: nothing to run, and
// nothing to list. Both survive restarts, run in any number of replicas, and outlive a change of keys: put a new key in front
// of the old one.
//
// # How sessions end, and what happens meanwhile
//
// The access token of a session is checked at each request as package verifier does it: in memory, against the feed of the
// issuer. A session that was ended anywhere (logout here or there, a new password, an operator) is gone within a second, and a
// change of roles counts within a second, without a query per request.
//
// The access token is refreshed when it is about to expire, once for all requests that need it. Processes that do so at the
// same time send one and the same Idempotency-Key, which follows from the refresh token, so that the issuer gives them one
// answer. Only the answer invalid_grant ends a session. While the issuer is down, a session goes on until its access token
// expires; from then on guarded requests are answered 503, and go on as before when the issuer is back.
//
// A sealed cookie that was copied before a logout is no session after it, because the logout revokes the refresh token inside
// and the issuer names the session in its feed. If the issuer cannot be reached at a logout, the process at hand refuses the
// copy, and the other processes do as soon as its access token has expired and the issuer says so; with a Store it is gone at
// once.
//
// A cookie that is cut, changed, foreign or out of date is no session and no error. It is not cleared either: a late answer to an
// old request must not take a new session away.
//
// # Against forged requests
//
// Cookies are SameSite=Lax and, over https, have the prefix __Host-, so that no other host of the domain can set them. Middleware
// refuses unsafe requests that http.CrossOriginProtection does not allow, and those with a session that lack its CSRF token. The
// session is a new one at every login, also when a user authenticates again (RequireRecent); the one before ends.
package bff
