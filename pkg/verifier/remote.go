package verifier

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Bounds on what the issuer may send, so that a broken one cannot exhaust the memory here.
const (
	maxMetadata = 256 << 10
	maxJWKS     = 1 << 20
	maxFeed     = 256 << 20 // about eight million entries
)

// Bounds on the time that one request may take.
const (
	requestTimeout  = 10 * time.Second
	snapshotTimeout = time.Minute
)

// ErrIssuerMismatch is returned by New if the metadata found at the issuer's address is another issuer's (RFC 8414, section 3.3).
var ErrIssuerMismatch = errors.New("verifier: the metadata is another issuer's")

// remote speaks to the issuer over HTTP.
type remote struct {
	issuer  string
	metaURL string
	client  *http.Client
	mu      sync.Mutex // held while the metadata is fetched
	meta    *metadata  // nil until fetched
	fetched time.Time
	wrong   error
}

// metadata is what we need of the authorization server metadata (RFC 8414).
type metadata struct {
	Issuer       string `json:"issuer"`
	JWKS         string `json:"jwks_uri"`
	Blocklist    string `json:"handstamp_blocklist_endpoint"`
	BlocklistSSE string `json:"handstamp_blocklist_stream_endpoint"`
}

func newRemote(issuer string, client *http.Client) (*remote, error) {
	u, err := url.Parse(issuer)
	if err != nil {
		return nil, fmt.Errorf("verifier: issuer: %w", err)
	}
	if !trustworthy(u) || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.User != nil {
		const must = "must be an https URL without query and fragment, or http on a loopback address"
		return nil, fmt.Errorf("verifier: issuer %q "+must, issuer)
	}
	var c http.Client
	if client != nil {
		c = *client
	}
	c.Timeout = 0 // it would end the stream
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	// The well-known part goes between host and path (RFC 8414, section 3.1).
	meta := url.URL{
		Scheme: u.Scheme,
		Host:   u.Host,
		Path:   "/.well-known/oauth-authorization-server" + strings.TrimSuffix(u.Path, "/"),
	}
	return &remote{issuer: issuer, metaURL: meta.String(), client: &c}, nil
}

// trustworthy reports whether keys fetched from u come from who owns its name: by TLS, or because it is this machine.
func trustworthy(u *url.URL) bool {
	host := u.Hostname()
	ip := net.ParseIP(host)
	return u.Scheme == "https" && host != "" ||
		u.Scheme == "http" && (host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback())
}

// metadata returns the issuer's metadata, which is fetched again after a day or when forget was called.
func (r *remote) metadata(ctx context.Context) (*metadata, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.meta != nil && time.Since(r.fetched) < 24*time.Hour {
		return r.meta, nil
	}
	m, err := r.fetchMetadata(ctx)
	if err != nil {
		if errors.Is(err, ErrIssuerMismatch) {
			r.meta, r.wrong = nil, err
		}
		if r.meta == nil {
			return nil, err
		}
		return r.meta, nil // better old addresses than none
	}
	r.meta, r.fetched, r.wrong = m, time.Now(), nil
	return m, nil
}

func (r *remote) fetchMetadata(ctx context.Context) (*metadata, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	a, err := r.get(ctx, r.metaURL, "", "application/json", maxMetadata)
	if err != nil {
		return nil, err
	}
	var m metadata
	if err := json.Unmarshal(a.body, &m); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	if m.Issuer != r.issuer {
		return nil, fmt.Errorf("%w: %q instead of %q", ErrIssuerMismatch, m.Issuer, r.issuer)
	}
	base := strings.TrimSuffix(r.issuer, "/")
	if m.Blocklist == "" {
		m.Blocklist = base + "/v1/blocklist"
	}
	if m.BlocklistSSE == "" {
		m.BlocklistSSE = base + "/v1/blocklist/stream"
	}
	for _, address := range []string{m.JWKS, m.Blocklist, m.BlocklistSSE} {
		if u, err := url.Parse(address); err != nil || !trustworthy(u) {
			return nil, fmt.Errorf("metadata: %q is neither https nor loopback", address)
		}
	}
	return &m, nil
}

// forget has the metadata fetched anew: an address in it did not answer, so it may have changed.
func (r *remote) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fetched = time.Time{}
}

// misconfigured returns ErrIssuerMismatch if that was the last answer for the metadata.
func (r *remote) misconfigured() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.wrong
}

// answer is a response that was read in full.
type answer struct {
	status int // 200 or 304
	header http.Header
	body   []byte
}

// statusError is an answer with another status than 200 and 304.
type statusError struct {
	address string
	status  int
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s answered %d %s", e.address, e.status, http.StatusText(e.status))
}

// get fetches address, conditionally if etag is not empty, and reads at most limit bytes.
func (r *remote) get(ctx context.Context, address, etag, accept string, limit int64) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && (resp.StatusCode != http.StatusNotModified || etag == "") {
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // so that the connection can be used again
		return nil, &statusError{redactQuery(address), resp.StatusCode}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", redactQuery(address), err)
	}
	if int64(len(body)) > limit {
		return nil, fmt.Errorf("read %s: longer than %d bytes", redactQuery(address), limit)
	}
	return &answer{resp.StatusCode, resp.Header, body}, nil
}

// redactQuery keeps cursors, which are long and of no use to a reader, out of errors.
func redactQuery(address string) string {
	before, _, _ := strings.Cut(address, "?")
	return before
}

// age returns how long a cache on the way has held the answer (RFC 9111, section 5.1).
func (a *answer) age() time.Duration {
	s, err := strconv.ParseUint(a.header.Get("Age"), 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(s) * time.Second
}

// jitter returns a random duration between d/2 and d, so that followers of one issuer do not move in step.
func jitter(d time.Duration) time.Duration {
	n, _ := rand.Int(rand.Reader, big.NewInt(int64(d/2)+1)) // never fails, see crypto/rand
	return d/2 + time.Duration(n.Int64())
}

// backoff grows the time between attempts that fail, from first to limit.
type backoff struct {
	first, limit, current time.Duration
}

// next returns how long to wait after one more failure.
func (b *backoff) next() time.Duration {
	b.current = min(max(2*b.current, b.first), b.limit)
	return jitter(b.current)
}

func (b *backoff) reset() { b.current = 0 }
