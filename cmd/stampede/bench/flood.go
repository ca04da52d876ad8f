package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// floodChains are the refresh chains beside a flood.
	floodChains = 16
	// floodPause is when a client of the flood comes back after it was refused, whatever Retry-After says.
	floodPause = 50 * time.Millisecond
	// floodUsers log in during it.
	floodUsers = 40
	// floodRise is how long a flood takes until all of it is there.
	floodRise = 4 * time.Second
)

// floodSizes are the numbers of clients that log in.
func (b *bench) floodSizes() []int {
	if b.quick {
		return []int{50, 2000}
	}
	return []int{50, 200, 2000, 10_000}
}

// flood compares refreshes with and without a flood of logins whose clients come back at once when they are refused. They
// come from one address here and are limited as if each had its own.
func (b *bench) flood(ctx context.Context) ([]figure, error) {
	if err := b.subjects(ctx); err != nil {
		return nil, err
	}
	var figures []figure
	for _, s := range []*subject{b.sqlite, b.postgres} {
		users, err := s.signUp(ctx, floodUsers)
		if err != nil {
			return figures, err
		}
		for _, n := range b.floodSizes() {
			found, err := b.floodOf(ctx, s, n, users)
			if err != nil {
				return figures, err
			}
			figures = append(figures, found...)
		}
	}
	return figures, nil
}

func (b *bench) floodOf(ctx context.Context, s *subject, clients int, users string) ([]figure, error) {
	var quiet, during, logins, refused, wrong, peak samples
	refreshes := func(into *samples) error {
		r, err := b.tolerant(ctx, "refresh", s.url, b.flags(floodChains, "--seed-file", s.seeds)...)
		if err == nil {
			*into = append(*into, r.Operations["refresh"].Latency.P99)
			wrong = append(wrong, float64(sum(r.Operations["refresh"].Failures)+sum(r.Operations["refresh"].Shed)))
		}
		return err
	}
	for range b.repetitions {
		if err := refreshes(&quiet); err != nil {
			return nil, err
		}
		type outcome struct {
			report *loadReport
			err    error
		}
		done := make(chan outcome, 1)
		go func() {
			r, err := b.tolerant(ctx, "login", s.url, "--clients", strconv.Itoa(clients), "--users-file", users,
				"--pause", floodPause.String(), "--timeout", "30s", "--duration", (b.duration + floodRise + 2*time.Second).String())
			done <- outcome{r, err}
		}()
		select {
		case o := <-done:
			return nil, errors.Join(errors.New("the flood ended at once"), o.err)
		case <-time.After(floodRise):
		}
		err := refreshes(&during)
		_, highest, memoryErr := memoryOf(s.process.pid())
		o := <-done
		if err := errors.Join(err, memoryErr, o.err); err != nil {
			return nil, err
		}
		login := o.report.Operations["login"]
		logins = append(logins, login.PerSecond)
		refused = append(refused, float64(sum(login.Shed))/o.report.Seconds)
		peak = append(peak, highest/mib)
		b.note("  %s, %5d clients: p99 of refreshes %.2f ms, before %.2f; %.0f logins/s, %.0f refused/s, failed %v", s.name, clients,
			during[len(during)-1], quiet[len(quiet)-1], login.PerSecond, refused[len(refused)-1], login.Failures)
		select { // until the last of the flood has gone
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(3 * time.Second):
		}
	}
	of := fmt.Sprintf(", %s, %d login clients", s.name, clients)
	return []figure{
		newFigure("refresh p99, 16 clients"+of, "ms", during, "without", quiet, ratioUnder(5)),
		newFigure("refreshes refused or failed"+of, "", wrong, "", nil, exactly(0)),
		newFigure("logins during it"+of, "/s", logins, "", nil, nil),
		newFigure("logins refused during it"+of, "/s", refused, "", nil, nil),
		newFigure("highest memory of the service"+of, "MiB", peak, "", nil, nil),
	}, nil
}

// tolerant is stampede for a service that may fail: what failed is in the report.
func (b *bench) tolerant(ctx context.Context, mode, url string, args ...string) (*loadReport, error) {
	out, err := output(ctx, b.dir, b.program("stampede"),
		append([]string{mode, url, "--output", "json", "--warmup", "0s"}, args...)...)
	var r loadReport
	if json.Unmarshal(out, &r) != nil || r.Operations == nil {
		return nil, errors.Join(errors.New("no report of stampede"), err)
	}
	return &r, nil
}

// signUp makes users, and returns the file of their addresses and passwords.
func (s *subject) signUp(ctx context.Context, n int) (string, error) {
	var file bytes.Buffer
	for i := range n {
		email, password := fmt.Sprintf("flood-%d@stampede.invalid", i), "correct horse battery staple"
		body, err := json.Marshal(map[string]string{"email": email, "password": password})
		if err != nil {
			return "", err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/signup", bytes.NewReader(body))
		if err != nil {
			return "", err
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return "", err
		}
		if err := resp.Body.Close(); err != nil {
			return "", err
		}
		if resp.StatusCode != http.StatusCreated {
			return "", fmt.Errorf("sign up: status %d", resp.StatusCode)
		}
		fmt.Fprintf(&file, "%s %s\n", email, password)
	}
	path := filepath.Join(filepath.Dir(s.seeds), "users.txt")
	return path, os.WriteFile(path, file.Bytes(), 0o600)
}

// floodSettings are settings of the service under which one address is limited like many. A service of before has none of them.
func (b *bench) floodSettings(ctx context.Context) ([]string, error) {
	printed, err := output(ctx, b.dir, b.program("handstamp"), "config", "print")
	if err != nil {
		return nil, err
	}
	var env []string
	for _, s := range []string{"signup_ip_limit=0", "busy_ip_limit=0", "login_ip_concurrency=100000",
		"feed_streams=10000", "feed_streams_per_address=10000",
		"trusted_proxies=127.0.0.1"} {
		name, value, _ := strings.Cut(s, "=")
		if bytes.Contains(printed, []byte("\n"+name+":")) {
			env = append(env, "HANDSTAMP_"+strings.ToUpper(name)+"="+value)
		}
	}
	return env, nil
}
