package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

const (
	readBuffer  = 4 << 10
	maxResponse = 4 << 20 // head and body

	// restful is how long a connection must have rested for its end not to count as an error.
	restful = time.Second
)

var (
	errTimeout     = errors.New("timeout") // no answer within the time that the user allows
	errMalformed   = errors.New("malformed response")
	errTooLarge    = errors.New("response too large")
	errUnsolicited = errors.New("bytes that nobody asked for")
)

// conn is one keep-alive HTTP/1.1 connection to the target, used by one goroutine. net/http writes the requests and reads the
// responses, without http.Transport: that can't pipeline, it silently repeats requests whose connection broke, which this
// client has to count as failures, and its goroutines cost CPU that a server on the same machine then lacks.
type conn struct {
	target  *target
	timeout time.Duration

	nc       net.Conn
	deadline time.Time // set on nc
	active   time.Time // when it was opened or last sent on
	source   source
	in       *bufio.Reader // of source
	body     bytes.Buffer
}

func newConn(t *target, timeout time.Duration) *conn {
	return &conn{target: t, timeout: timeout, in: bufio.NewReaderSize(nil, readBuffer)}
}

// source reads a connection up to the size of a response, and remembers why it could not go on.
type source struct {
	nc   net.Conn
	left int
	err  error
}

func (s *source) Read(p []byte) (n int, err error) {
	if s.left <= 0 {
		s.err = errTooLarge
		return 0, s.err
	}
	n, s.err = s.nc.Read(p[:min(len(p), s.left)])
	s.left -= n
	return n, s.err
}

// connect makes sure that there is a connection. It returns at once if there is one.
func (c *conn) connect(ctx context.Context) error {
	if c.nc != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	nc, err := c.target.dial(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	c.use(nc)
	return nil
}

// use makes nc the connection.
func (c *conn) use(nc net.Conn) {
	c.nc, c.deadline, c.active, c.source = nc, time.Time{}, time.Now(), source{nc: nc}
	c.in.Reset(&c.source)
}

// drop closes the connection; the next send opens another.
func (c *conn) drop() {
	if c.nc != nil {
		_ = c.nc.Close() // nothing is buffered on our side, and the answer is lost already
		c.nc = nil
	}
}

// send writes one or more complete requests.
func (c *conn) send(ctx context.Context, requests []byte, now time.Time) error {
	if err := c.connect(ctx); err != nil {
		return err
	}
	c.active = now
	// The deadline is moved only when it comes near: a request gets at least timeout and at most twice that, and the
	// common one pays for no timer.
	if c.deadline.Sub(now) < c.timeout {
		c.deadline = now.Add(2 * c.timeout)
		if err := c.nc.SetDeadline(c.deadline); err != nil {
			c.drop()
			return err
		}
	}
	if _, err := c.nc.Write(requests); err != nil {
		c.drop()
		return err
	}
	return nil
}

// receive reads the next response. After an error the connection is gone.
func (c *conn) receive() (response, error) {
	c.source.left = maxResponse
	resp, err := c.readResponse()
	if err == nil {
		return resp, nil
	}
	c.drop()
	if c.source.err != nil { // net/http calls a head that was cut short malformed
		return response{}, c.source.err
	}
	return response{}, fmt.Errorf("%w: %w", errMalformed, err)
}

func (c *conn) readResponse() (response, error) {
	read, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return response{}, err
	}
	c.body.Reset()
	_, err = c.body.ReadFrom(read.Body)
	if err = errors.Join(err, read.Body.Close()); err != nil {
		return response{}, err
	}
	if read.Close {
		c.drop()
	}
	return response{
		status:     read.StatusCode,
		body:       c.body.Bytes(),
		retryAfter: read.Header.Get("Retry-After") != "",
		setCookie:  read.Header["Set-Cookie"],
	}, nil
}

// roundTrip sends one request and reads its response. A server may close a connection that rests; that is no fault, so a request
// which meets it is sent again, once, on a new connection (RFC 9112, section 9.3.1).
func (c *conn) roundTrip(ctx context.Context, request []byte, now time.Time) (response, error) {
	rested := c.nc != nil && now.Sub(c.active) >= restful
	resp, err := c.exchange(ctx, request, now)
	if rested && isClosed(err) {
		return c.exchange(ctx, request, now)
	}
	return resp, err
}

func (c *conn) exchange(ctx context.Context, request []byte, now time.Time) (response, error) {
	if err := c.send(ctx, request, now); err != nil {
		return response{}, err
	}
	resp, err := c.receive()
	if err == nil && c.in.Buffered() > 0 {
		c.drop()
		return response{}, errUnsolicited
	}
	return resp, err
}

// response is what the load client looks at. body is valid until the next request on the same connection.
type response struct {
	status     int
	body       []byte
	retryAfter bool // a Retry-After header was there
	setCookie  []string
}

// cookie is the value of a cookie that the response sets; empty if it sets none.
func (r *response) cookie(name string) string {
	for _, line := range r.setCookie {
		if rest, ok := strings.CutPrefix(line, name+"="); ok {
			value, _, _ := strings.Cut(rest, ";")
			return value
		}
	}
	return ""
}

// answer is what this client reads of the JSON object in a response.
type answer struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	Error        string `json:"error"`
	Code         string `json:"code"`
	Cursor       string `json:"cursor"`
}

// answer decodes the body. A member that is missing or no string is empty, and so are all if the body is no JSON object.
func (r *response) answer() (a answer) {
	_ = json.Unmarshal(r.body, &a) // callers look for the members that they need
	return a
}

// isClosed tells whether err says that the other side had closed the connection.
func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE)
}

// errorKind names a transport or protocol error for the report: few words, no addresses, so that equal causes count together.
func errorKind(err error) string {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return errTimeout.Error()
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case isClosed(err):
		return "connection closed"
	}
	for _, e := range []error{errMalformed, errTooLarge, errUnsolicited} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	return err.Error()
}
