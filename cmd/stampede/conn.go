package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

const (
	firstBuffer = 4 << 10
	maxResponse = 4 << 20

	// restful is how long a connection must have rested for its end not to count as an error.
	restful = time.Second

	crlf     = "\r\n"
	crlfcrlf = crlf + crlf
)

// errTimeout: no answer within the time that the user allows.
var errTimeout = errors.New("timeout")

// conn is one keep-alive HTTP/1.1 connection to the target, used by one goroutine. It is written for little CPU per
// request, since the client usually shares the machine with the server that it measures: one write and one read per
// request, no allocation, no timer.
type conn struct {
	target  *target
	timeout time.Duration

	nc       net.Conn
	deadline time.Time // set on nc
	active   time.Time // when it was opened or last sent on
	buf      []byte
	r, w     int    // unread bytes are buf[r:w]
	body     []byte // of a chunked response
}

func newConn(t *target, timeout time.Duration) *conn {
	return &conn{target: t, timeout: timeout, buf: make([]byte, firstBuffer)}
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
	c.nc, c.deadline, c.active, c.r, c.w = nc, time.Time{}, time.Now(), 0, 0
	return nil
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
	resp, err := c.readResponse()
	if err != nil {
		c.drop()
	}
	return resp, err
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
	if err == nil && c.r != c.w {
		c.drop()
		return response{}, errUnsolicited
	}
	return resp, err
}

func (c *conn) readResponse() (response, error) {
	size, err := c.awaitHead()
	if err != nil {
		return response{}, err
	}
	h, err := parseHead(c.buf[c.r : c.r+size])
	if err != nil {
		return response{}, err
	}
	resp := response{status: h.status, retryAfter: h.retryAfter}
	switch {
	case h.status == 204 || h.status == 304:
		c.r += size
	case h.chunked && h.length >= 0: // RFC 9112, section 6.3: an attack or a bug
		return response{}, errMalformed
	case h.chunked:
		c.r += size
		if err := c.readChunks(); err != nil {
			return response{}, err
		}
		resp.body = c.body
	case h.length < 0:
		return response{}, errNoLength
	default:
		if err := c.await(size + h.length); err != nil {
			return response{}, err
		}
		resp.body = c.buf[c.r+size : c.r+size+h.length]
		c.r += size + h.length
	}
	if h.close {
		c.drop()
	}
	return resp, nil
}

// awaitHead returns the size of the head, which then stands at buf[r:].
func (c *conn) awaitHead() (int, error) {
	for seen := 0; ; {
		if i := bytes.Index(c.buf[c.r+seen:c.w], []byte(crlfcrlf)); i >= 0 {
			return seen + i + len(crlfcrlf), nil
		}
		seen = max(0, c.w-c.r-len(crlfcrlf)+1)
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
}

// await makes sure that at least n unread bytes are buffered.
func (c *conn) await(n int) error {
	for c.w-c.r < n {
		if err := c.fill(); err != nil {
			return err
		}
	}
	return nil
}

// readChunks decodes a chunked body (RFC 9112, section 7.1) into c.body. Trailers are refused: nobody sends us any.
func (c *conn) readChunks() error {
	c.body = c.body[:0]
	for {
		var line []byte
		for seen := 0; line == nil; {
			if i := bytes.Index(c.buf[c.r+seen:c.w], []byte(crlf)); i >= 0 {
				line = c.buf[c.r : c.r+seen+i]
				break
			}
			seen = max(0, c.w-c.r-1)
			if err := c.fill(); err != nil {
				return err
			}
		}
		size, ok := parseChunkSize(line)
		if !ok {
			return errMalformed
		}
		if len(c.body)+size > maxResponse {
			return errTooLarge
		}
		c.r += len(line) + len(crlf)
		if err := c.await(size + len(crlf)); err != nil {
			return err
		}
		c.body = append(c.body, c.buf[c.r:c.r+size]...)
		c.r += size
		if !bytes.HasPrefix(c.buf[c.r:c.w], []byte(crlf)) {
			return errMalformed
		}
		c.r += len(crlf)
		if size == 0 {
			return nil
		}
	}
}

func parseChunkSize(line []byte) (int, bool) {
	digits, _, _ := bytes.Cut(line, []byte{';'})
	if len(digits) == 0 || len(digits) > 6 {
		return 0, false
	}
	n := 0
	for _, d := range digits {
		switch {
		case d >= '0' && d <= '9':
			n = n<<4 | int(d-'0')
		case d|0x20 >= 'a' && d|0x20 <= 'f':
			n = n<<4 | int(d|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return n, true
}

// fill reads once from the network. Unread bytes may move within buf.
func (c *conn) fill() error {
	if c.r == c.w {
		c.r, c.w = 0, 0
	}
	if c.w == len(c.buf) {
		if c.r == 0 {
			if len(c.buf) >= maxResponse {
				return errTooLarge
			}
			c.buf = append(c.buf, make([]byte, len(c.buf))...)
		} else {
			c.w = copy(c.buf, c.buf[c.r:c.w])
			c.r = 0
		}
	}
	n, err := c.nc.Read(c.buf[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	return err
}

// isClosed tells whether err says that the other side had closed the connection.
func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
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
	for _, e := range []error{errMalformed, errNoLength, errTooLarge, errUnsolicited} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	return err.Error()
}
