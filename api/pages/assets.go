package pages

import (
	"crypto/sha256"
	"encoding/base32"
	"net/http"
	"path"
	"strconv"
	"strings"
)

// asset is a file under Branding.AssetsPath. Its name is a hash of its content, so that it never changes under its name.
type asset struct {
	contentType string
	body        []byte
}

// addAsset keeps a file for serving and returns its name.
func (r *Renderer) addAsset(extension, contentType string, body []byte) string {
	sum := sha256.Sum256(body)
	name := strings.ToLower(base32.StdEncoding.EncodeToString(sum[:10])) + extension
	r.assets[name] = asset{contentType, body}
	return name
}

// IconURL is the address of the picture that stands for the service in tabs and bookmarks.
func (r *Renderer) IconURL() string { return r.brand.Icon }

// ServeAsset serves the style sheet, the glyphs and the logo: GET and HEAD of everything under the assets path.
func (r *Renderer) ServeAsset(w http.ResponseWriter, req *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	a, ok := r.assets[path.Base(req.URL.Path)]
	switch {
	case req.Method != http.MethodGet && req.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		return
	case !ok:
		// A replica of another version may have it a moment later.
		h.Set("Cache-Control", "no-store")
		http.Error(w, http.StatusText(http.StatusNotFound), http.StatusNotFound)
		return
	}
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	// An operator's SVG logo that is opened by itself is a document of our origin: it may run nothing.
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Content-Type", a.contentType)
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	if req.Method == http.MethodGet {
		_, _ = w.Write(a.body) // an error says only that the caller has hung up
	}
}
