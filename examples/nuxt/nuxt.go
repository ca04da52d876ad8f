package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// startNuxt installs, builds and starts Nuxt where that is due, and returns what shows its pages. Its server listens on a socket
// that nobody else can reach, and asks the API at self.
func startNuxt(ctx context.Context, programs *programs, o options, self string, stdout io.Writer) (http.Handler, error) {
	if o.nuxt != "" {
		target, err := url.Parse(o.nuxt)
		if err != nil {
			return nil, err
		}
		return proxy(target, http.DefaultTransport), nil
	}
	output := filepath.Join(o.app, ".output")
	if err := step(ctx, stdout, "Installing npm packages", o.app, filepath.Join(o.app, "node_modules"),
		[]string{"package-lock.json"}, "ci", "--no-fund", "--no-audit"); err != nil {
		return nil, err
	}
	if err := step(ctx, stdout, "Building Nuxt", o.app, output,
		[]string{"package-lock.json", "nuxt.config.ts", "app", "server"}, "run", "build"); err != nil {
		return nil, err
	}
	node, err := exec.LookPath(filepath.Join(o.app, "node_modules", ".bin", "node")) // the one that is locked, if it runs here
	if err != nil {
		node = "node"
	}
	dir, err := os.MkdirTemp("", "nuxt") // a socket's path must be short
	if err != nil {
		return nil, err
	}
	programs.group.Go(func() {
		<-programs.ctx.Done()
		_ = os.RemoveAll(dir) // left over at worst
	})
	socket := filepath.Join(dir, "socket")
	id, name, _ := strings.Cut(o.provider, "=")
	env := []string{
		"NODE_ENV=production", "NITRO_UNIX_SOCKET=" + socket, "NUXT_API=" + self,
		"NUXT_PUBLIC_PROVIDER_ID=" + id, "NUXT_PUBLIC_PROVIDER_NAME=" + name,
	}
	if err := programs.start(ctx, "Listening on", env, node, filepath.Join(output, "server", "index.mjs")); err != nil {
		return nil, err
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	return proxy(&url.URL{Scheme: "http", Host: "nuxt"}, transport), nil
}

// proxy forwards a request to Nuxt as it came. The cookies go along: Nuxt's server shows them to the API.
func proxy(target *url.URL, transport http.RoundTripper) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.SetXForwarded()
			r.Out.Host = r.In.Host
		},
		ModifyResponse: func(r *http.Response) error {
			for _, name := range []string{"X-Powered-By", "X-Frame-Options", "X-Content-Type-Options", "Referrer-Policy",
				"Content-Security-Policy"} {
				r.Header.Del(name) // those of error pages; ours are set
			}
			return nil
		},
		Transport: transport,
	}
}

// step runs npm, unless target was made of the same sources.
func step(ctx context.Context, stdout io.Writer, what, dir, target string, sources []string, args ...string) error {
	sum, err := digest(dir, sources)
	if err != nil {
		return err
	}
	mark := filepath.Join(target, ".installed")
	if made, err := os.ReadFile(mark); err == nil && bytes.Equal(made, sum) {
		return nil
	}
	fmt.Fprintln(stdout, what+" ...")
	npm := exec.CommandContext(ctx, "npm", args...) //nolint:gosec // the arguments are this program's own
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		return fmt.Errorf("npm %s (it wants Node.js 22.19 or later): %w\n%s", strings.Join(args, " "), err, out)
	}
	return os.WriteFile(mark, sum, 0o600)
}

// digest is the hash of files and directories: of one file it is that of its text.
func digest(dir string, names []string) ([]byte, error) {
	h := sha256.New()
	for _, name := range names {
		top := filepath.Join(dir, name)
		err := filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("run it at the top of the repository, or say -app: %w", err)
			}
			if err != nil || e.IsDir() {
				return err
			}
			text, err := os.ReadFile(path) //nolint:gosec // the application's own sources
			if path != top {
				fmt.Fprintf(h, "\n%s %d\n", path, len(text))
			}
			_, _ = h.Write(text) // a hash never fails
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return h.Sum(nil), nil
}
