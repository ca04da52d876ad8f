package bff

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// BenchmarkMiddleware is what Middleware adds to a request: with a sealed cookie, and with a session of a store that this process
// knows. "look-up" is verifier.Verify of the same token, which both contain, and "without" a request without a session.
func BenchmarkMiddleware(b *testing.B) {
	for name, store := range map[string]Store{"sealed": nil, "stored": NewMemory()} {
		f := newFakeIssuer(b)
		app := f.open(b, func(c *Config) { c.Store = store })
		v := application(b, app)
		v.logIn(f)
		handler := app.Middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		request := func(cookies map[string]string) *http.Request {
			r := httptest.NewRequest(http.MethodGet, testURL+"/page", nil)
			for name, value := range cookies {
				r.AddCookie(&http.Cookie{Name: name, Value: value})
			}
			return r
		}
		b.Run(name, func(b *testing.B) {
			r, w := request(v.cookies), &discard{header: http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				clear(w.header)
				handler.ServeHTTP(w, r)
			}
		})
		if store == nil {
			continue
		}
		b.Run("look-up", func(b *testing.B) {
			s, err := app.read(request(v.cookies))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := app.verifier.Verify(b.Context(), s.access); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("without", func(b *testing.B) {
			r, w := request(nil), &discard{header: http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				clear(w.header)
				handler.ServeHTTP(w, r)
			}
		})
	}
}

// discard is a ResponseWriter that costs nothing.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}
