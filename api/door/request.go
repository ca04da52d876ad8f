package door

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/pkg/oauth"
)

const formType = "application/x-www-form-urlencoded"

// readBody reads a body of a media type, which is compared exactly but for a charset of UTF-8.
func readBody(c echo.Context, mediaType string) ([]byte, error) {
	r := c.Request()
	got, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset, hasCharset := params["charset"]
	if mediaType == formType { // a form is ASCII, whatever its label says, and its escapes are UTF-8 (WHATWG URL, section 5)
		hasCharset = false
	}
	if err != nil || got != mediaType || (hasCharset && !strings.EqualFold(charset, "utf-8")) ||
		len(r.Header.Values("Content-Type")) != 1 {
		return nil, echo.ErrUnsupportedMediaType
	}
	body, err := io.ReadAll(r.Body)
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, echo.NewHTTPError(http.StatusRequestEntityTooLarge).SetInternal(tooLarge)
	}
	if err != nil {
		return nil, InvalidRequest("", "the body ended early")
	}
	if !utf8.Valid(body) {
		return nil, InvalidRequest("", "the body is not UTF-8")
	}
	return body, nil
}

// ReadJSON reads a JSON object into the fields of a struct, strictly: application/json, one object and nothing after it, only
// known names, spelled exactly and given once, values of the right type, text without NUL and without halves of characters. A
// null is a field that was left out.
// encoding/json alone would let the last of two equal names win, match names without regard to case, and make different
// passwords equal.
func ReadJSON(c echo.Context, into any) error {
	body, err := readBody(c, "application/json")
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) {
		return InvalidRequest("", "the body must be a JSON object")
	}
	return DecodeObject(body, "", into)
}

// DecodeObject is ReadJSON for a text; within is put before the names of fields in errors.
func DecodeObject(text []byte, within string, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return InvalidRequest(strings.TrimSuffix(within, "."), "must be a JSON object")
	}
	fields := fieldsOf(into)
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return InvalidRequest("", "the body is not valid JSON")
		}
		field, known := fields[name]
		switch {
		case !known:
			return InvalidRequest(within+Cut(name), "unknown field; the fields are "+fieldNames(into))
		case seen[name]:
			return InvalidRequest(within+name, "the field is given twice")
		}
		seen[name] = true
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return InvalidRequest(within+name, "the value is not valid JSON")
		}
		if err := setField(field, within+name, raw); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return InvalidRequest("", "the body is not valid JSON")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return InvalidRequest("", "something follows the JSON object")
	}
	return nil
}

func setField(field reflect.Value, name string, raw json.RawMessage) error {
	if bytes.Equal(raw, []byte("null")) { // as if it were left out: what clients in Kotlin and Swift write for it
		return nil
	}
	if err := json.Unmarshal(raw, field.Addr().Interface()); err != nil {
		return InvalidRequest(name, "must be "+kindName(field.Type()))
	}
	if halfPair(raw) {
		return InvalidRequest(name, "holds half of a surrogate pair")
	}
	if fault := faultIn(json.NewDecoder(bytes.NewReader(raw))); fault != "" {
		return InvalidRequest(name, fault)
	}
	return nil
}

// faultIn says what is wrong with a valid JSON value, however deep: a NUL, which not every database keeps, or a name that is
// given twice.
func faultIn(d *json.Decoder) string {
	t, _ := d.Token()
	if text, ok := t.(string); ok && strings.ContainsRune(text, 0) {
		return "must not contain NUL"
	}
	if t != json.Delim('{') && t != json.Delim('[') {
		return ""
	}
	names := map[json.Token]bool{}
	for d.More() {
		if t == json.Delim('{') {
			name, _ := d.Token()
			if names[name] {
				return "has a field that is given twice"
			}
			if text, _ := name.(string); strings.ContainsRune(text, 0) {
				return "must not contain NUL"
			}
			names[name] = true
		}
		if fault := faultIn(d); fault != "" {
			return fault
		}
	}
	_, _ = d.Token() // the closing bracket
	return ""
}

// halfPair reports whether a JSON text has an escape for one half of a surrogate pair without the other (RFC 8259, section
// 8.2), which the decoder turns into U+FFFD, as it does with every other such half.
func halfPair(text []byte) bool {
	unit := func(at int) rune { // of the escape at a position, if one is there
		if at+6 > len(text) || text[at] != '\\' || text[at+1] != 'u' {
			return -1
		}
		u, err := strconv.ParseUint(string(text[at+2:at+6]), 16, 16)
		if err != nil {
			return -1
		}
		return rune(u)
	}
	for i := 0; i < len(text); i++ {
		switch first := unit(i); {
		case text[i] != '\\':
		case first < 0:
			i++ // an escaped character begins nothing
		case !utf16.IsSurrogate(first):
			i += 5
		case utf16.DecodeRune(first, unit(i+6)) == utf8.RuneError:
			return true
		default:
			i += 11
		}
	}
	return false
}

func kindName(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "an array of strings"
	default:
		return fmt.Sprintf("a %s", t.Kind())
	}
}

// fieldsOf finds the fields of a struct by their JSON names.
func fieldsOf(into any) map[string]reflect.Value {
	v := reflect.ValueOf(into).Elem()
	fields := make(map[string]reflect.Value, v.NumField())
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		fields[name] = v.Field(i)
	}
	return fields
}

func fieldNames(into any) string {
	t := reflect.TypeOf(into).Elem()
	names := make([]string, t.NumField())
	for i := range t.NumField() {
		names[i], _, _ = strings.Cut(t.Field(i).Tag.Get("json"), ",")
	}
	return strings.Join(names, ", ")
}

// Required fails if a text is empty.
func Required(field, value string) error {
	if value == "" {
		return InvalidRequest(field, "is missing")
	}
	return nil
}

// ReadParameters reads the parameters of an address, of any name and any number of times, in a form that can be read. net/url
// alone would leave out what it cannot read, and with it what the caller has demanded.
func ReadParameters(c echo.Context) (url.Values, error) {
	return readValues(c.Request().URL.RawQuery, "the query is not valid")
}

// readValues reads a query or a form: text that is UTF-8 without NUL, which not every database keeps.
func readValues(encoded, fault string) (url.Values, error) {
	values, err := url.ParseQuery(encoded)
	if err != nil {
		return nil, InvalidRequest("", fault)
	}
	for name, all := range values {
		if !isText(name) || slices.ContainsFunc(all, func(text string) bool { return !isText(text) }) {
			return nil, InvalidRequest(Cut(strings.ToValidUTF8(name, "?")), "is not valid text")
		}
	}
	return values, nil
}

func isText(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

// ReadQuery reads the parameters of an address, strictly: only known names, each once.
func ReadQuery(c echo.Context, names ...string) (url.Values, error) {
	query, err := ReadParameters(c)
	if err != nil {
		return nil, err
	}
	for name, values := range query {
		switch {
		case !slices.Contains(names, name):
			return nil, InvalidRequest(Cut(name), "unknown parameter; the parameters are "+strings.Join(names, ", "))
		case len(values) > 1:
			return nil, InvalidRequest(name, "is given more than once")
		}
	}
	return query, nil
}

// ReadForm reads a protocol request: the body only, never the query (RFC 6749, section 2.3.1), and the client's credentials
// in the Authorization header.
func ReadForm(c echo.Context) (oauth.Request, error) {
	body, err := readBody(c, formType)
	if err != nil {
		return oauth.Request{}, err
	}
	form, err := readValues(string(body), "the body is not a valid form")
	if err != nil {
		return oauth.Request{}, err
	}
	basic, err := basicAuth(c.Request())
	if err != nil {
		return oauth.Request{}, err
	}
	keys := c.Request().Header.Values("Idempotency-Key")
	if len(keys) > 1 {
		return oauth.Request{}, InvalidRequest("Idempotency-Key", "Idempotency-Key is given more than once")
	}
	r := oauth.Request{Form: oauth.Form(form), Basic: basic, Origin: Origin(c), Arrived: Arrived(c.Request())}
	if len(keys) == 1 {
		r.IdempotencyKey = keys[0]
	}
	e := EventOf(c)
	e.ClientID = form.Get("client_id")
	if basic != nil {
		e.ClientID = basic.ID
	}
	return r, nil
}

// basicAuth reads a client's ID and secret, which should be form-encoded inside the Basic scheme (RFC 6749, section 2.3.1).
func basicAuth(r *http.Request) (*oauth.BasicAuth, error) {
	headers := r.Header.Values("Authorization")
	if len(headers) == 0 {
		return nil, nil //nolint:nilnil // no header, no credentials
	}
	if len(headers) > 1 {
		return nil, InvalidRequest("Authorization", "more than one Authorization header")
	}
	id, secret, ok := r.BasicAuth()
	if !ok {
		return nil, &oauth.Error{Code: oauth.InvalidClient, Description: "the Authorization header is not of the Basic scheme"}
	}
	b := &oauth.BasicAuth{RawID: id, RawSecret: secret}
	var errID, errSecret error
	b.ID, errID = url.QueryUnescape(id)
	b.Secret, errSecret = url.QueryUnescape(secret)
	switch {
	case errID != nil: // not encoded, then
		b.ID, b.Secret = id, secret
	case errSecret != nil:
		b.Secret = "" // nobody's
	}
	if !utf8.ValidString(b.ID) || strings.ContainsRune(b.ID, 0) {
		return nil, &oauth.Error{Code: oauth.InvalidClient, Description: "the Authorization header is malformed"}
	}
	return b, nil
}
