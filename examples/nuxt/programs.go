package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// programs are those that this one has started.
type programs struct {
	ended  chan error // the first one that ended by itself
	ctx    context.Context
	cancel context.CancelFunc
	group  sync.WaitGroup
	stderr io.Writer
}

func newPrograms(ctx context.Context, stderr io.Writer) *programs {
	p := &programs{ended: make(chan error, 1), stderr: stderr}
	p.ctx, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return p
}

// stop ends them and waits until they have ended.
func (p *programs) stop() {
	p.cancel()
	p.group.Wait()
}

// start starts a program and waits until it prints a line that contains mark. The program hears nothing of the environment but
// what it needs to find others, and env.
func (p *programs) start(ctx context.Context, mark string, env []string, path string, args ...string) error {
	cmd := exec.CommandContext(p.ctx, path, args...) //nolint:gosec // the caller says what it starts
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, env...)
	cmd.Stderr = p.stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ready, ended := make(chan struct{}), make(chan error, 1)
	p.group.Go(func() {
		var once sync.Once
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			if strings.Contains(lines.Text(), mark) {
				once.Do(func() { close(ready) })
			}
		}
		err := fmt.Errorf("%s has ended: %w", path, cmd.Wait())
		ended <- err
		select {
		case p.ended <- err:
		default:
		}
	})
	select {
	case <-ready:
		return nil
	case err := <-ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Minute):
		return fmt.Errorf("%s is not ready after a minute", path)
	}
}
