package bff

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"html/template"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
)

// Where an unsafe request carries the CSRF token of its session.
const (
	CSRFField  = "csrf_token"   // a field of a form
	CSRFHeader = "X-CSRF-Token" // a header, for script
)

const csrfSize = 32

// maxForm is how much of a body is searched for the CSRF token: in a form with files, the field stands before them.
const maxForm = 1 << 20

// CSRFToken returns a token for forms and script of this session. It looks different each time, so that its length in a
// compressed page tells nothing (BREACH), and is valid as long as the session.
func (s *Session) CSRFToken() string {
	masked := make([]byte, 2*csrfSize)
	_, _ = rand.Read(masked[:csrfSize]) // never fails, see crypto/rand
	subtle.XORBytes(masked[csrfSize:], masked[:csrfSize], []byte(s.state.csrf))
	return base64.RawURLEncoding.EncodeToString(masked)
}

// CSRFInput returns the hidden input of a form that has the CSRF token.
func (s *Session) CSRFInput() template.HTML {
	return template.HTML(`<input type="hidden" name="` + CSRFField + `" value="` + s.CSRFToken() + `">`) //nolint:gosec // base64url
}

// validCSRF reports whether token is one that CSRFToken returned.
func (s *state) validCSRF(token string) bool {
	var masked [2 * csrfSize]byte
	if len(token) != base64.RawURLEncoding.EncodedLen(len(masked)) {
		return false
	}
	if _, err := base64.RawURLEncoding.Strict().Decode(masked[:], []byte(token)); err != nil {
		return false
	}
	subtle.XORBytes(masked[csrfSize:], masked[:csrfSize], masked[csrfSize:])
	return subtle.ConstantTimeCompare(masked[csrfSize:], []byte(s.csrf)) == 1
}

// safe reports whether a method changes nothing (RFC 9110, section 9.2.1).
func safe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return true
	}
	return false
}

// checkToken returns ErrCSRF unless an unsafe request has the token of its session, once. The body can be read again afterwards.
func checkToken(r *http.Request, s *state) error {
	if headers := r.Header.Values(CSRFHeader); len(headers) > 0 {
		if len(headers) == 1 && s.validCSRF(headers[0]) {
			return nil
		}
		return ErrCSRF
	}
	if r.Body == nil || r.Body == http.NoBody {
		return ErrCSRF
	}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return ErrCSRF
	}
	body := r.Body
	var read bytes.Buffer
	prefix := io.TeeReader(io.LimitReader(body, maxForm), &read)
	var token string
	switch kind {
	case "application/x-www-form-urlencoded":
		token = fieldOfForm(prefix)
	case "multipart/form-data":
		token = fieldOfParts(multipart.NewReader(prefix, params["boundary"]))
	}
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(&read, body), body}
	if !s.validCSRF(token) {
		return ErrCSRF
	}
	return nil
}

// fieldOfForm returns the token in a form, empty if there is not exactly one.
func fieldOfForm(body io.Reader) string {
	text, err := io.ReadAll(body)
	if err != nil || len(text) == maxForm {
		return ""
	}
	values, err := url.ParseQuery(string(text))
	if err != nil || len(values[CSRFField]) != 1 {
		return ""
	}
	return values.Get(CSRFField)
}

// fieldOfParts returns the token in the first part of its name.
func fieldOfParts(parts *multipart.Reader) string {
	for {
		part, err := parts.NextPart()
		if err != nil {
			return ""
		}
		if part.FormName() != CSRFField {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(part, 2*maxToken))
		if err != nil {
			return ""
		}
		return string(text)
	}
}

// maxToken is more than the length of a CSRF token.
const maxToken = 128
