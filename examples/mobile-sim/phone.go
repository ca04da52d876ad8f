//go:build unix

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// phone runs the two processes, kills them now and then, and starts them again.
type phone struct {
	settings settings
	network  *network
	keyChain keyChain
	progress io.Writer
	killed   int
}

// process is the app or its extension while it runs.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	ended chan struct{} // closed
	err   error         // what it has ended with
}

// run ends when there were enough refreshes, or with what has ended a process that was not killed.
func (p *phone) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var both [2]*process
	for i := range both {
		var err error
		if both[i], err = p.start(ctx); err != nil {
			return err
		}
		defer func() { both[i].stop() }() // the one of then
	}
	every := max(1, p.settings.refreshes/max(1, p.settings.kills+1))
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	said := time.Now()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-both[0].ended:
			return p.unexpected(both[0].err)
		case <-both[1].ended:
			return p.unexpected(both[1].err)
		case <-tick.C:
		}
		now := p.network.snapshot()
		if time.Since(said) > 2*time.Second {
			said = time.Now()
			fmt.Fprintf(p.progress, "%d of %d refreshes, %d processes killed\n", now.Refreshed, p.settings.refreshes, p.killed)
		}
		if now.Refreshed >= p.settings.refreshes && p.killed >= p.settings.kills {
			return nil
		}
		if p.killed < p.settings.kills && now.Refreshed >= (p.killed+1)*every {
			i := p.killed % 2
			both[i].kill()
			p.killed++
			var err error
			if both[i], err = p.start(ctx); err != nil {
				return err
			}
		}
	}
}

func (p *phone) unexpected(err error) error {
	if err == nil {
		return errors.New("a process has ended by itself")
	}
	return fmt.Errorf("after %d refreshes: %w", p.network.snapshot().Refreshed, err)
}

func (p *phone) start(ctx context.Context) (*process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	//nolint:gosec // itself
	cmd := exec.CommandContext(ctx, program, "-issuer", p.network.url, "-key-chain", string(p.keyChain))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	var said lastLine
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	started := &process{cmd: cmd, stdin: stdin, ended: make(chan struct{})}
	go func() {
		defer close(started.ended)
		if err := cmd.Wait(); err != nil {
			started.err = fmt.Errorf("%w: %s", err, said.String())
		}
	}()
	return started, nil
}

// kill ends the process wherever it is.
func (r *process) kill() {
	_ = r.cmd.Process.Kill()
	<-r.ended
}

// stop lets it finish what it is at.
func (r *process) stop() {
	_ = r.stdin.Close()
	<-r.ended
}

// report prints what has happened.
func (p *phone) report(out io.Writer, took time.Duration) {
	n := p.network.snapshot()
	w := bufio.NewWriter(out)
	defer w.Flush() //nolint:errcheck // to a terminal
	fmt.Fprintf(w, "%d refreshes in %s, by two processes with one key chain\n\n", n.Refreshed, took.Round(time.Second/10))
	for _, line := range []struct {
		what string
		n    int
	}{
		{"requests sent", n.Sent},
		{"  of which were lost on the way", n.LostRequests},
		{"  of which the answer was lost", n.LostAnswers},
		{"  of which arrived twice", n.Twice},
		{"  of which a copy arrived late", n.Late},
		{"  of which were held up for too long", n.TooLate},
		{"processes killed in the middle", p.killed},
		{"answers repeated with the same token", n.Repeated},
		{"late copies refused, nothing ended", n.Refused},
	} {
		fmt.Fprintf(w, "%-40s %7d\n", line.what, line.n)
	}
}

// lastLine keeps the end of what a process has said.
type lastLine struct {
	mu   sync.Mutex
	text []byte
}

// Write implements io.Writer.
func (l *lastLine) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, b...)
	if len(l.text) > 1000 {
		l.text = l.text[len(l.text)-1000:]
	}
	return len(b), nil
}

// String returns it.
func (l *lastLine) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}
