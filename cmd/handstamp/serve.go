package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/url"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/api/operate"
	"github.com/handstamp/handstamp/cmd/handstamp/demo"
	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/pkg/password"
)

func (p *program) serveCommand() *cobra.Command {
	var withDemo bool
	var demoListen string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the service",
		Long: `Run the service until it gets SIGINT or SIGTERM. It finishes running requests before it stops.

Without any setting it listens on 127.0.0.1:8080, keeps its data in data/handstamp.db and its master key in keys/master.key.
"handstamp help settings" lists the settings, and "handstamp config print" shows their values.

While PostgreSQL is down or recovers, it waits for it with growing pauses: /healthz answers, and /readyz says not ready.

SIGHUP makes it read handstamp.yaml and the files that the settings name again. These settings change then, all at once:
` + reloadedList() + `.
All others need a restart. Settings with a fault change nothing, and the log says why.`,
		Example: `  handstamp serve
  handstamp serve --issuer https://login.example.com --listen 0.0.0.0:8443 --tls-cert cert.pem --tls-key key.pem
  HANDSTAMP_DATABASE_URL_FILE=/run/secrets/database_url handstamp serve --migrate --issuer https://login.example.com
  handstamp serve --demo`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			read := func() (Config, error) { return p.serveConfig(cmd) }
			c, err := read()
			if err != nil {
				return err
			}
			if withDemo {
				if err := demo.Check(c.Issuer, c.Listen, demoListen); err != nil {
					return usageError{err}
				}
				c.demoListen = demoListen
			}
			return p.serve(cmd.Context(), c, read)
		},
	}
	cmd.Flags().BoolVar(&withDemo, "demo", false,
		"serve a page to play with, too, which shows the life of tokens; on this machine only")
	cmd.Flags().StringVar(&demoListen, "demo-listen", "127.0.0.1:8081", "address of that page")
	return cmd
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("%s takes no argument, got %q", cmd.CommandPath(), args[0])}
	}
	return nil
}

// quiet is for how long no password is hashed before the memory that hashing took goes back to the operating system.
const quiet = 2 * time.Second

// returnMemory gives back what passwords were hashed in, 19 MiB each by default: the collector would keep it as long as
// nothing else is allocated, and that is for hours in a service at rest.
func returnMemory(ctx context.Context, stats func() password.Stats) {
	ticker := time.NewTicker(quiet)
	defer ticker.Stop()
	var seen, returned uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := stats()
		if now.Evaluations == seen && seen != returned && now.Running+now.Waiting == 0 {
			debug.FreeOSMemory()
			returned = seen
		}
		seen = now.Evaluations
	}
}

// serve runs until ctx ends. read reads the settings again.
func (p *program) serve(ctx context.Context, c Config, read func() (Config, error)) (err error) {
	signals, forget := hearSignals()
	defer forget()
	level := new(slog.LevelVar)
	log := newLevelLogger(c, level, p.stderr)
	if p.env["GOGC"] == "" {
		debug.SetGCPercent(gcPercent)
		memory, rest := context.WithCancel(ctx)
		var looking sync.WaitGroup
		defer looking.Wait()
		defer rest()
		looking.Go(func() { minimizeMemory(memory) })
	}
	if limit := softLimit(containerLimits()); limit > 0 && p.env["GOMEMLIMIT"] == "" {
		debug.SetMemoryLimit(limit)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w; choose another address with --listen", err)
	}
	defer listener.Close()
	if _, port, _ := net.SplitHostPort(c.Listen); port == "0" {
		c = c.withAddress(listener.Addr().String())
	}
	shown, err := readCertificate(c)
	if err != nil {
		return err
	}
	shown.log = log
	for _, warning := range c.exposed() {
		log.Warn("a file may be read by everybody", "error", warning)
	}

	if warning := c.mailWarning(); warning != "" {
		log.Warn("mail is off", "consequence", warning)
	}

	running, err := open(ctx, c, shown, log)
	if err != nil && !service.Down(err) {
		return err
	}
	face := newFace()
	if err := face.trust(c); err != nil {
		return err
	}
	face.show(running)
	servers, listenErr := p.servers(ctx, c, face, shown, listener, log)
	if listenErr != nil {
		return errors.Join(listenErr, running.Close())
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { // ends with ctx, and is waited for below
		ended <- runServers(ctx, servers, c.ShutdownTimeout, log)
		stop()
	}()
	if err != nil {
		if running, err = await(ctx, c, shown, err, log); err == nil {
			face.show(running)
		}
	}
	var playing *playground
	if err == nil && c.demoListen != "" {
		playing, err = startDemo(ctx, c, running.Service, log)
		defer playing.close()
	}
	if err == nil {
		p.announce(c, playing)
		log.InfoContext(ctx, "ready", "issuer", c.Issuer, "listen", listener.Addr().String(), "version", version())
		running.live(ctx, func() { reload(ctx, c, read, running.Service, shown, face, level, log) }, signals)
	} else if ctx.Err() != nil {
		err = nil // stopped while it waited
	}
	stop()
	return errors.Join(err, <-ended, running.Close())
}

// opened is a service and its figures. Nil is none.
type opened struct {
	*service.Service
	figures *prometheus.Registry
}

// open opens the database and builds the service over it.
func open(ctx context.Context, c Config, shown *certificate, log *slog.Logger) (*opened, error) {
	store, err := service.OpenCurrentStore(ctx, c.Config, log)
	if err != nil {
		return nil, err
	}
	figures := prometheus.NewRegistry()
	figures.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	c.fitIntoFiles(openFiles())
	figures.MustRegister(ownFigures(shown)...)
	running, err := service.New(ctx, c.Config, store, log, figures)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return &opened{running, figures}, nil
}

// ownFigures are those of the program.
func ownFigures(shown *certificate) []prometheus.Collector {
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "handstamp_build_info", Help: "1, with the version of the program and of Go.",
	}, []string{"version", "go_version"})
	build.WithLabelValues(version(), runtime.Version()).Set(1)
	return []prometheus.Collector{
		build,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "handstamp_certificate_end_timestamp_seconds",
			Help: "When the TLS certificate expires; 0 without one. Alert a week before.",
		}, func() float64 {
			if end := shown.ends(); !end.IsZero() {
				return float64(end.Unix())
			}
			return 0
		}),
	}
}

// await opens again and again, until the database is no longer down.
func await(ctx context.Context, c Config, shown *certificate, err error, log *slog.Logger) (running *opened, _ error) {
	for pause := firstPause; service.Down(err) && ctx.Err() == nil; pause = min(2*pause, longestPause) {
		log.WarnContext(ctx, "waiting for the database", "error", err, "next_try_in", pause.String())
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		running, err = open(ctx, c, shown, log)
	}
	return running, err
}

// live reloads after each signal until ctx ends.
func (o *opened) live(ctx context.Context, reload func(), signals <-chan os.Signal) {
	var background sync.WaitGroup
	defer background.Wait()
	background.Go(func() { returnMemory(ctx, o.Hasher.Stats) })
	for {
		select {
		case <-ctx.Done():
			o.API.Stop() // open streams would keep the listener from closing
			return
		case <-signals:
			reload()
		}
	}
}

// Close closes the service, if there is one.
func (o *opened) Close() error {
	if o == nil {
		return nil
	}
	return o.Service.Close()
}

// The pauses between two attempts to reach the database at the start.
const (
	firstPause   = 500 * time.Millisecond
	longestPause = 10 * time.Second
)

// face is what the listeners show: that the service waits, and later the service. And it is whom they trust.
type face struct {
	service, metrics atomic.Pointer[http.Handler]
	proxies          atomic.Pointer[door.TrustedProxies]
}

// trust takes the trusted proxies from settings.
func (f *face) trust(c Config) error {
	proxies, err := door.ParseTrustedProxies(c.TrustedProxies)
	if err == nil {
		f.proxies.Store(&proxies)
	}
	return err
}

func newFace() *face {
	waiting, metrics := http.Handler(http.HandlerFunc(operate.Waiting)), metricsHandler(prometheus.NewRegistry())
	f := new(face)
	f.service.Store(&waiting)
	f.metrics.Store(&metrics)
	return f
}

// show shows the service, if there is one.
func (f *face) show(running *opened) {
	if running == nil {
		return
	}
	serving, metrics := http.Handler(running.API), metricsHandler(running.figures)
	f.service.Store(&serving)
	f.metrics.Store(&metrics)
}

// of is a handler that does what another does at the time.
func of(current *atomic.Pointer[http.Handler]) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*current.Load()).ServeHTTP(w, r) })
}

// withAddress puts the address in force into what was derived from port 0.
func (c Config) withAddress(addr string) Config {
	derived := strings.HasSuffix(c.Issuer, "://"+c.Listen)
	if derived {
		old := c.Issuer
		c.Issuer = strings.TrimSuffix(c.Issuer, c.Listen) + addr
		if len(c.Audience) == 1 && c.Audience[0] == old {
			c.Audience = []string{c.Issuer}
		}
	}
	c.Listen = addr
	return c
}

// announce tells a person where the service is and what to try next.
func (p *program) announce(c Config, playing *playground) {
	if playing != nil {
		fmt.Fprintf(p.stdout, "Handstamp %s is ready at %s\n\nThe demo is at %s/ - open it, and press its buttons. Stop with Ctrl-C.\n",
			version(), c.Issuer, playing.origin)
		return
	}
	fmt.Fprintf(p.stdout, `Handstamp %s is ready at %s

Try it, in a second terminal:
  curl -s %s/v1/signup -H 'Content-Type: application/json' -d '{"email":"me@example.com","password":"violet-otter-93"}'
  curl -s %s/.well-known/jwks.json

The contract is at %s/openapi.yaml, and the README has a walk of five minutes. Stop with Ctrl-C.
`, version(), c.Issuer, c.Issuer, c.Issuer, c.Issuer)
}

// server is one listener and what it serves.
type server struct {
	name     string
	listener net.Listener
	http     *http.Server
}

// Limits of a connection: a client that sends or reads slowly delays no other.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 16 << 10
)

func newServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: handler, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnContext: door.WithConnection,
		HTTP2:       &http.HTTP2Config{MaxConcurrentStreams: 100},
	}
}

// servers opens every listener but the main one, which is open already.
func (p *program) servers(ctx context.Context, c Config, shown *face, own *certificate, listener net.Listener,
	log *slog.Logger) ([]server, error) {
	main := newServer(of(&shown.service), log)
	if c.TLSCert != "" {
		main.TLSConfig = &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: own.get,
			NextProtos:     []string{"h2", "http/1.1"},
		}
	}
	bounded := newConnections(listener, openFiles(), &shown.proxies)
	main.ConnState = bounded.state
	servers := []server{{"service", bounded, main}}
	closeAll := func() {
		for _, s := range servers[1:] {
			_ = s.listener.Close()
		}
	}
	if c.TLSRedirectListen != "" {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.TLSRedirectListen)
		if err != nil {
			closeAll()
			return nil, fmt.Errorf("listen for redirects: %w; choose another address with --tls-redirect-listen", err)
		}
		servers = append(servers, server{"redirect", l, newServer(redirectTo(c.Issuer), log)})
	}
	if c.MetricsListen != "" {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.MetricsListen)
		switch {
		case err == nil:
			servers = append(servers, server{"metrics", l, newServer(of(&shown.metrics), log)})
		case c.metricsListenSet:
			closeAll()
			return nil, fmt.Errorf("listen for metrics: %w; choose another address with --metrics-listen", err)
		default:
			log.WarnContext(ctx, "metrics are not served: the default address is in use; set metrics_listen", "address", c.MetricsListen)
		}
	}
	return servers, nil
}

// runServers serves until ctx ends or a listener fails, then finishes what is running.
func runServers(ctx context.Context, servers []server, timeout time.Duration, log *slog.Logger) error {
	failed := make(chan error, len(servers))
	for _, s := range servers {
		go func() { // ends with Shutdown below
			var err error
			if s.http.TLSConfig != nil {
				err = s.http.ServeTLS(s.listener, "", "")
			} else {
				err = s.http.Serve(s.listener)
			}
			if !errors.Is(err, http.ErrServerClosed) {
				err = fmt.Errorf("%s: %w", s.name, err)
			} else {
				err = nil
			}
			failed <- err
		}()
	}
	var errs []error
	running := len(servers)
	select {
	case <-ctx.Done():
	case err := <-failed:
		errs = append(errs, err)
		running--
	}
	log.InfoContext(context.WithoutCancel(ctx), "stopping, running requests are finished first")
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	for _, s := range servers {
		if err := s.http.Shutdown(stopCtx); err != nil {
			errs = append(errs, fmt.Errorf("%s: requests were cut off: %w", s.name, err), s.http.Close())
		}
	}
	for range running {
		errs = append(errs, <-failed)
	}
	return errors.Join(errs...)
}

// redirectTo sends plain http to the issuer. The host of the request is not believed, and a body is never sent twice (308 would).
func redirectTo(issuer string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			http.Error(w, "use "+issuer, http.StatusForbidden)
			return
		}
		target := issuer + (&url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath}).EscapedPath()
		if r.URL.RawQuery != "" {
			target += "?" + r.URL.RawQuery
		}
		http.Redirect(w, r, target, http.StatusMovedPermanently) //nolint:gosec // the host is the configured issuer's
	})
}

// metricsHandler serves metrics and profiles. It has its own listener, on loopback by default.
func metricsHandler(registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}
