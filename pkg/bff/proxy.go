package bff

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
)

// Transport returns a round tripper that sends the access token of the session along: to the origins that are named, such as
// "https://api.example.com", and to no other, where a redirect may lead. The request is made with the context of the one that it
// answers. A request with an Authorization field of its own, or without a session, goes out as it is. base is
// http.DefaultTransport if nil.
func (b *BFF) Transport(base http.RoundTripper, origins ...string) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return &transport{base: base, origins: slices.Clone(origins)}
}

type transport struct {
	base    http.RoundTripper
	origins []string
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	s, ok := SessionFrom(r.Context())
	if ok && len(r.Header.Values("Authorization")) == 0 && slices.Contains(t.origins, r.URL.Scheme+"://"+r.URL.Host) {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+s.AccessToken())
	}
	return t.base.RoundTrip(r)
}

// Proxy forwards requests with a session to an API, with the session's access token as Bearer and the path below that of
// target. Requests without a session are answered 401. Our cookies, the CSRF token and the caller's own Authorization are left
// out; so are cookies of the API that have our names, since no API may set a session. Like the guards it goes inside of
// Middleware:
//
//	mux.Handle("/api/", http.StripPrefix("/api", b.Proxy(target)))
func (b *BFF) Proxy(target *url.URL) http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.SetXForwarded()
			h := r.Out.Header
			h.Del("Authorization")
			h.Del(CSRFHeader)
			b.stripCookies(h)
			if s, err := sessionOf(r.In, b); err == nil {
				h.Set("Authorization", "Bearer "+s.AccessToken())
			}
		},
		ModifyResponse: func(r *http.Response) error {
			lines := r.Header["Set-Cookie"]
			r.Header["Set-Cookie"] = slices.DeleteFunc(lines, func(line string) bool {
				name, _, _ := strings.Cut(line, "=")
				return b.cookies.owns(strings.TrimSpace(name))
			})
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			b.config.Log.WarnContext(r.Context(), "the API did not answer", "target", target.Host, "error", err)
			writeJSON(w, http.StatusBadGateway, map[string]string{
				"error":             "bad_gateway",
				"error_description": "The API did not answer",
			})
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := sessionOf(r, b); err != nil {
			r = r.Clone(r.Context())
			r.Header.Set("Sec-Fetch-Mode", "cors") // JSON, also for a browser that opens the address
			b.refuse(w, r, err)
			return
		}
		proxy.ServeHTTP(w, r)
	})
}

// stripCookies leaves the cookies that are not ours as they were written.
func (b *BFF) stripCookies(h http.Header) {
	var kept []string
	for _, line := range h["Cookie"] {
		for part := range strings.SplitSeq(line, ";") {
			part = strings.TrimSpace(part)
			if name, _, _ := strings.Cut(part, "="); part != "" && !b.cookies.owns(strings.TrimSpace(name)) {
				kept = append(kept, part)
			}
		}
	}
	h.Del("Cookie")
	if len(kept) > 0 {
		h.Set("Cookie", strings.Join(kept, "; "))
	}
}
