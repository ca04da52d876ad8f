package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Frame types and flags of HTTP/2 (RFC 9113, section 6).
const (
	frameHeaders      = 0x1
	frameReset        = 0x3
	frameSettings     = 0x4
	frameGoAway       = 0x7
	frameContinuation = 0x9

	endStreamAndHeaders = 0x5
	preface             = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
)

// frame is one HTTP/2 frame on the wire (RFC 9113, section 4.1).
func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	f := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind)) //nolint:gosec // short
	f = binary.BigEndian.AppendUint32(append(f, flags), stream)
	return append(f, payload...)
}

// getRoot is a header block: GET https://localhost/ (RFC 7541, appendix A).
func getRoot() []byte {
	return append([]byte{0x82, 0x87, 0x84, 0x01, byte(len("localhost"))}, "localhost"...)
}

// dialHTTP2 opens a connection that speaks HTTP/2, and has sent its preface and settings.
func dialHTTP2(t *testing.T, addr string, config *tls.Config) net.Conn {
	t.Helper()
	c, err := (&tls.Dialer{Config: config}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(append([]byte(preface), frame(frameSettings, 0, 0, nil)...)); err != nil {
		t.Fatal(err)
	}
	return c
}

// frames reads what a server sends until the connection ends or until is true for a frame.
func frames(c net.Conn, until func(kind byte, payload []byte) bool) error {
	r := bufio.NewReader(c)
	for {
		var head [9]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return err
		}
		payload := make([]byte, binary.BigEndian.Uint32(head[:4])>>8)
		if _, err := io.ReadFull(r, payload); err != nil {
			return err
		}
		if until(head[3], payload) {
			return nil
		}
	}
}

// HTTP/2 without TLS is not spoken: neither at once nor by upgrade (RFC 9113, sections 3.3 and 3.1).
func TestAPI06_NoH2C(t *testing.T) {
	r := serveForTest(t)
	for name, request := range map[string]string{
		"prior knowledge": preface + string(frame(frameSettings, 0, 0, nil)),
		"upgrade": "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: " +
			"h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n" + preface,
	} {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(2 * readHeaderTimeout)); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(c)
		if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 ")) || bytes.Contains(answer, []byte(" 101 ")) {
			t.Errorf("%s: %v %q", name, err, answer)
		}
		_ = c.Close()
	}
}

// Who opens and resets streams without end, or never ends a header, is held or cut off, and nobody else notices.
func TestAPI06_Floods(t *testing.T) {
	dir := t.TempDir()
	pool := writeCertificate(t, dir, 1, time.Now().Add(-time.Minute))
	r := serveForTest(t, "--tls-cert", dir+"/cert.pem", "--tls-key", dir+"/key.pem")
	config := &tls.Config{RootCAs: pool, ServerName: "localhost", NextProtos: []string{"h2"}}
	alive := func(after string) {
		t.Helper()
		client := &http.Client{
			Timeout:   5 * time.Second,
			Transport: &http.Transport{TLSClientConfig: config.Clone(), ForceAttemptHTTP2: true, DisableKeepAlives: true},
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+r.addr+"/healthz", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatalf("after %s: %v", after, err)
		}
		if response.Body.Close(); response.StatusCode != http.StatusOK || response.ProtoMajor != 2 {
			t.Fatalf("after %s: %s %s", after, response.Proto, response.Status)
		}
	}
	alive("nothing")

	var streams uint32
	if err := frames(dialHTTP2(t, r.addr, config), func(kind byte, payload []byte) bool {
		for p := payload; kind == frameSettings && len(p) >= 6; p = p[6:] {
			if binary.BigEndian.Uint16(p) == 0x3 { // SETTINGS_MAX_CONCURRENT_STREAMS
				streams = binary.BigEndian.Uint32(p[2:])
			}
		}
		return kind == frameSettings
	}); err != nil || streams != 100 {
		t.Errorf("streams at once: %d, %v", streams, err)
	}

	for name, next := range map[string]func(i uint32) []byte{
		"reset streams": func(i uint32) []byte {
			return append(frame(frameHeaders, endStreamAndHeaders, 2*i+1, getRoot()), frame(frameReset, 0, 2*i+1, []byte{0, 0, 0, 8})...)
		},
		"a header without end": func(i uint32) []byte {
			if i == 0 {
				return frame(frameHeaders, 1, 1, getRoot())
			}
			field := append([]byte{0x00, 0x01, 'x', 0x7f, 0x81, 0x7c}, strings.Repeat("a", 16_000)...)
			return frame(frameContinuation, 0, 1, field)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := dialHTTP2(t, r.addr, config)
			var sent error
			for i := range uint32(10_000) { // nothing is read of what the service answers
				if _, sent = c.Write(next(i)); sent != nil {
					break
				}
			}
			alive(name)
			if name == "reset streams" { // cut off if the handlers do not keep up, else answered
				return
			}
			away := false
			err := frames(c, func(kind byte, _ []byte) bool {
				away = away || kind == frameGoAway
				return false
			})
			if sent == nil && !away {
				t.Errorf("not cut off: %v", err)
			}
		})
	}
}
