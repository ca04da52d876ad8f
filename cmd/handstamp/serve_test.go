package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/handstamp/handstamp/pkg/password"
)

// running is the program as an operator runs it, in this process.
type running struct {
	addr string
	stop context.CancelFunc
	code chan int
	out  *lockedBuffer
}

// lockedBuffer collects what the program prints.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// serveForTest runs "handstamp serve" with its data in a temporary directory until the test ends.
func serveForTest(t *testing.T, args ...string) *running {
	t.Helper()
	dir := t.TempDir()
	r := &running{addr: freePort(t), code: make(chan int, 1), out: &lockedBuffer{}}
	ctx, stop := context.WithCancel(t.Context())
	r.stop = stop
	args = append([]string{
		"serve", "--listen", r.addr, "--database-url", "sqlite:" + dir + "/handstamp.db", "--keys-dir", dir + "/keys",
		"--metrics-listen", "",
	}, args...)
	go func() { r.code <- run(ctx, args, nil, strings.NewReader(""), r.out, r.out) }()
	t.Cleanup(func() {
		stop()
		<-r.code
	})
	waitFor(t, r.addr, r.out)
	return r
}

// end stops the program and returns its exit code.
func (r *running) end() int {
	r.stop()
	code := <-r.code
	r.code <- code // for the clean-up
	return code
}

func TestShutdownFinishesWhatIsRunning(t *testing.T) {
	r := serveForTest(t, "--login-ip-failures", "0", "--password-memory", "64", "--password-time", "1", "--password-queue", "100")
	body := `{"email":"ann@example.com","password":"violet-otter-93"}`
	if status, err := post(t.Context(), http.DefaultClient, "http://"+r.addr+"/v1/signup", body); err != nil ||
		status != http.StatusCreated {
		t.Fatal(status, err)
	}
	// Each client has its own connection and asks before it sends its body. The service says yes when the handler reads:
	// the request has begun.
	const clients = 6
	begun, results := make(chan struct{}, clients), make(chan error, clients)
	for range clients {
		go func() {
			ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{Got100Continue: func() { begun <- struct{}{} }})
			request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+r.addr+"/v1/login", strings.NewReader(body))
			if err != nil {
				results <- err
				return
			}
			request.Header.Set("Content-Type", "application/json")
			request.Header.Set("Expect", "100-continue")
			response, err := (&http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute}}).Do(request)
			if err != nil {
				results <- err
				return
			}
			defer response.Body.Close()
			if _, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK {
				results <- errors.Join(err, errors.New(response.Status))
				return
			}
			results <- nil
		}()
	}
	for range clients {
		<-begun
	}
	if code := r.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, r.out)
	}
	for range clients {
		if err := <-results; err != nil {
			t.Errorf("a request was lost: %v", err)
		}
	}
}

func post(ctx context.Context, client *http.Client, url, body string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}

// writeCertificate writes a certificate for localhost with a serial number of its own.
func writeCertificate(t *testing.T, dir string, serial int64, modified time.Time) (pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: "localhost"},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: der},
		"key.pem":  {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, modified, modified); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(cert)
	return pool
}

func TestTLS(t *testing.T) {
	dir, redirect := t.TempDir(), freePort(t)
	pool := writeCertificate(t, dir, 1, time.Now().Add(-time.Minute))
	r := serveForTest(t, "--tls-cert", dir+"/cert.pem", "--tls-key", dir+"/key.pem", "--tls-redirect-listen", redirect)
	get := func(pool *x509.CertPool) (*http.Response, error) {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+r.addr+"/healthz", http.NoBody)
		if err != nil {
			return nil, err
		}
		response, err := client.Do(request)
		if err == nil {
			_ = response.Body.Close()
		}
		return response, err
	}
	response, err := get(pool) //nolint:bodyclose // get has closed it
	if err != nil {
		t.Fatal(err)
	}
	if hsts := response.Header.Get("Strict-Transport-Security"); !strings.HasPrefix(hsts, "max-age=") {
		t.Errorf("Strict-Transport-Security: %q", hsts)
	}

	t.Run("redirects plain http to the issuer, whatever the Host header says", func(t *testing.T) {
		client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		for method, want := range map[string]int{http.MethodGet: http.StatusMovedPermanently, http.MethodPost: http.StatusForbidden} {
			request, err := http.NewRequestWithContext(t.Context(), method, "http://"+redirect+"//evil.example/a?b=c",
				strings.NewReader(""))
			if err != nil {
				t.Fatal(err)
			}
			request.Host = "evil.example"
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if response.StatusCode != want {
				t.Errorf("%s: %s", method, response.Status)
			}
			if to := response.Header.Get("Location"); to != "" && !strings.HasPrefix(to, "https://"+r.addr+"/") {
				t.Errorf("%s: sent to %s", method, to)
			}
		}
	})
	t.Run("reads the certificate again when it changes", func(t *testing.T) {
		renewed := writeCertificate(t, dir, 2, time.Now())
		deadline := time.NewTimer(20 * time.Second)
		defer deadline.Stop()
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			if response, err := get(renewed); err == nil { //nolint:bodyclose // get has closed it
				if got := response.TLS.PeerCertificates[0].SerialNumber.Int64(); got != 2 {
					t.Fatalf("serial number %d", got)
				}
				return
			}
			select {
			case <-tick.C:
			case <-deadline.C:
				t.Fatal("the old certificate is still served")
			}
		}
	})
}

func TestAPI05_SlowClients(t *testing.T) {
	t.Parallel()
	r := serveForTest(t)
	slow, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	if _, err := io.WriteString(slow, "POST /v1/login HTTP/1.1\r\nHost: x\r\nX-Slow: "); err != nil {
		t.Fatal(err)
	}
	// Who never finishes its header is cut off, and nobody else waits for that.
	if status, err := post(t.Context(), http.DefaultClient, "http://"+r.addr+"/v1/signup",
		`{"email":"ann@example.com","password":"violet-otter-93"}`); err != nil || status != http.StatusCreated {
		t.Fatal(status, err)
	}
	if err := slow.SetReadDeadline(time.Now().Add(4 * readHeaderTimeout)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(slow); err != nil {
		t.Fatalf("not cut off: %v", err)
	}
}

func TestAPI11_ProfilesAreNotPublic(t *testing.T) {
	metrics := freePort(t)
	r := serveForTest(t, "--metrics-listen", metrics)
	waitFor(t, metrics, r.out)
	status := func(addr, path string) int {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		return response.StatusCode
	}
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/heap"} {
		if got := status(metrics, path); got != http.StatusOK {
			t.Errorf("%s on the second listener: %d", path, got)
		}
		if got := status(r.addr, path); got != http.StatusNotFound {
			t.Errorf("%s on the public listener: %d", path, got)
		}
	}
}

func TestReturnMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var stats password.Stats
		go returnMemory(ctx, func() password.Stats { return stats })
		for i, step := range []struct {
			now     password.Stats
			returns bool // at the next look
		}{
			{password.Stats{}, false},
			{password.Stats{Evaluations: 1}, false},
			{password.Stats{Evaluations: 1}, true},
			{password.Stats{Evaluations: 1}, false},
			{password.Stats{Evaluations: 3, Running: 1}, false},
			{password.Stats{Evaluations: 3, Running: 1}, false},
			{password.Stats{Evaluations: 3, Waiting: 1}, false},
			{password.Stats{Evaluations: 3}, true},
			{password.Stats{Evaluations: 4}, false},
			{password.Stats{Evaluations: 5}, false},
			{password.Stats{Evaluations: 5}, true},
		} {
			stats = step.now
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			time.Sleep(quiet)
			synctest.Wait()
			runtime.ReadMemStats(&after)
			if returned := after.NumForcedGC > before.NumForcedGC; returned != step.returns {
				t.Errorf("step %d: returned %t", i, returned)
			}
		}
	})
}

// insecure is a client that takes any certificate.
func insecure() *http.Client {
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // a test's own
	}}
}
