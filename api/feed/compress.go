package feed

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
)

// compressFrom is the size from which compressing pays.
const compressFrom = 1 << 10

// writeCompressed writes a large public document with gzip if the caller takes it. Nothing secret and nothing that a caller
// chose stands in it, so its size tells nothing (RFC 9110, section 12.5.3).
func writeCompressed(c echo.Context, contentType string, body []byte) error {
	h := c.Response().Header()
	h.Add("Vary", "Accept-Encoding")
	if len(body) < compressFrom || !acceptsGzip(c.Request()) {
		return door.WriteBytes(c, http.StatusOK, contentType, body)
	}
	small, err := squeeze(body)
	if err != nil {
		return err
	}
	h.Set("Content-Encoding", "gzip")
	return door.WriteBytes(c, http.StatusOK, contentType, small)
}

// squeeze compresses a document. Entries are hashes: only base64 can be squeezed out of them.
func squeeze(body []byte) ([]byte, error) {
	var small bytes.Buffer
	w, err := gzip.NewWriterLevel(&small, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(body); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return small.Bytes(), nil
}

func acceptsGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(coding), ";")
		if name == "gzip" {
			return strings.TrimSpace(weight) != "q=0"
		}
	}
	return false
}
