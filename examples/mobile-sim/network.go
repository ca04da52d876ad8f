//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// faults is what the network does to a share of the requests; each is between 0 and 1.
type faults struct {
	lostRequests, lostAnswers, twice, late float64
	latency                                time.Duration // of a request
	seed                                   uint64
}

// counts is what the network has seen.
type counts struct {
	Sent         int // by the app
	LostRequests int
	LostAnswers  int
	Twice        int
	Late         int
	TooLate      int
	Refreshed    int // different successors that the server has answered with
	Repeated     int // answers with a successor that had been answered before
	Refused      int // late copies and repeats that the server refused
}

// network stands between the app and the server. A copy that it holds back arrives when one or two more refreshes have been made.
// What would arrive more than three of them late is lost: an app refreshes every few minutes, and no connection lasts for hours.
type network struct {
	server *http.Server
	url    string
	target string
	faults faults
	client *http.Client

	road sync.RWMutex // requests share it, and late copies have it for themselves

	mu     sync.Mutex
	chance func() float64 // at least 0 and below 1
	made   map[string]int // the number of the refresh that has made a token
	held   []copyOf
	counts counts
}

// copyOf is a request that waits until the server has made so many refreshes.
type copyOf struct {
	request *http.Request
	body    []byte
	due     int
}

func startNetwork(target string, f faults) (*network, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n := &network{
		url:    "http://" + listener.Addr().String(),
		target: target,
		faults: f,
		client: &http.Client{},
		chance: rand.New(rand.NewPCG(f.seed, 0)).Float64, //nolint:forbidigo,gosec // a play that can be repeated
		made:   map[string]int{},
	}
	n.server = &http.Server{Handler: n, ReadHeaderTimeout: time.Minute}
	go func() { _ = n.server.Serve(listener) }() // until close
	return n, nil
}

func (n *network) close() { _ = n.server.Close() }

func (n *network) snapshot() counts {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.counts
}

// fate is what happens to one request.
type fate struct{ lostRequest, lostAnswer, twice, late bool }

func (n *network) fate() (f fate) {
	n.mu.Lock()
	defer n.mu.Unlock()
	happens := func(share float64, count *int) bool {
		yes := n.chance() < share
		if yes {
			*count++
		}
		return yes
	}
	n.counts.Sent++
	if f.lostRequest = happens(n.faults.lostRequests, &n.counts.LostRequests); f.lostRequest {
		return f
	}
	f.lostAnswer = happens(n.faults.lostAnswers, &n.counts.LostAnswers)
	f.twice = happens(n.faults.twice, &n.counts.Twice)
	f.late = happens(n.faults.late, &n.counts.Late)
	return f
}

// ServeHTTP carries a request to the server and its answer back.
func (n *network) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	f := n.fate()
	if f.lostRequest {
		panic(http.ErrAbortHandler) // the connection breaks
	}
	time.Sleep(n.faults.latency)
	if f.late {
		n.hold(r, body)
	}
	// The server gets it, also if the app is killed now.
	n.road.RLock()
	status, answer, err := n.carry(context.WithoutCancel(r.Context()), r, body)
	if f.twice {
		_, _, _ = n.carry(context.WithoutCancel(r.Context()), r, body)
	}
	n.road.RUnlock()
	n.deliverHeld()
	if err != nil || f.lostAnswer {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(answer) //nolint:gosec // as the server has answered
}

func (n *network) hold(r *http.Request, body []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held = append(n.held, copyOf{r, body, n.counts.Refreshed + 1 + int(2*n.chance())})
}

// deliverHeld lets the copies arrive whose time has come. Nobody waits for what they are answered.
func (n *network) deliverHeld() {
	n.road.Lock()
	defer n.road.Unlock()
	n.mu.Lock()
	var due, later []copyOf
	for _, c := range n.held {
		if n.counts.Refreshed >= c.due {
			due = append(due, c)
		} else {
			later = append(later, c)
		}
	}
	n.held = later
	n.mu.Unlock()
	for _, c := range due {
		_, _, _ = n.carry(context.WithoutCancel(c.request.Context()), c.request, c.body)
	}
}

func (n *network) carry(ctx context.Context, r *http.Request, body []byte) (status int, answer []byte, err error) {
	if n.tooLate(body) {
		return 0, nil, errors.New("too late")
	}
	//nolint:gosec // to the service and nobody else
	req, err := http.NewRequestWithContext(ctx, r.Method, n.target+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header = r.Header.Clone()
	req.Header.Del("Connection")
	resp, err := n.client.Do(req) //nolint:gosec // likewise
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	if answer, err = io.ReadAll(resp.Body); err != nil {
		return 0, nil, err
	}
	n.count(resp.StatusCode, answer)
	return resp.StatusCode, answer, nil
}

func (n *network) tooLate(body []byte) bool {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	late := n.counts.Refreshed-n.made[form.Get("refresh_token")] > 3
	if late {
		n.counts.TooLate++
	}
	return late
}

func (n *network) count(status int, answer []byte) {
	var t tokens
	_ = json.Unmarshal(answer, &t)
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case status == http.StatusOK && n.made[t.RefreshToken] > 0:
		n.counts.Repeated++
	case status == http.StatusOK:
		n.counts.Refreshed++
		n.made[t.RefreshToken] = n.counts.Refreshed
	case status == http.StatusBadRequest:
		n.counts.Refused++
	}
}
