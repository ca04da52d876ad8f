package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// playground is a service on this machine, with a provider and a client for this application.
type playground struct {
	issuer, provider, secret string
	server                   *http.Server
}

func (p *playground) close() { p.server.Close() }

// startPlayground builds and starts Handstamp, and registers this application there.
func startPlayground(ctx context.Context, programs *programs, o options, stdout io.Writer) (*playground, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &playground{issuer: "http://" + o.service, provider: "example=Example ID"}
	provider := &exampleProvider{
		callback: p.issuer + "/oauth2/callback/example",
		codes:    map[string]login{},
		tokens:   map[string]login{},
	}
	p.server = &http.Server{Handler: provider.routes(), ReadHeaderTimeout: 5 * time.Second}
	programs.group.Go(func() { _ = p.server.Serve(listener) }) // ends with close

	program, config := filepath.Join(o.data, "handstamp"), filepath.Join(o.data, "handstamp.yaml")
	// JSON is YAML.
	text, err := json.MarshalIndent(map[string]any{
		"listen":         o.service,
		"metrics_listen": "",
		"log_level":      "warn",
		"database_url":   "sqlite:" + filepath.Join(o.data, "handstamp.db"),
		"keys_dir":       filepath.Join(o.data, "keys"),
		"providers":      []any{provider.settings("http://" + listener.Addr().String())},
	}, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(config, text, 0o600); err != nil {
		return nil, err
	}
	fmt.Fprintln(stdout, "Building Handstamp ...")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/handstamp") //nolint:gosec // in our own directory
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("run it at the top of the repository: %w\n%s", err, out)
	}
	if err := programs.start(ctx, " is ready at ", nil, program, "serve", "--config", config); err != nil {
		return nil, err
	}
	if p.secret, err = register(ctx, program, config, o); err != nil {
		return nil, err
	}
	fmt.Fprintf(stdout, "To become an administrator: %s user roles set --config %s --email ann@example.com admin\n", program, config)
	return p, nil
}

// register registers this application as a client of the service, and keeps its secret.
func register(ctx context.Context, program, config string, o options) (string, error) {
	file := filepath.Join(o.data, "secret")
	if secret, err := os.ReadFile(file); err == nil {
		return string(secret), nil
	}
	//nolint:gosec // the program that was just built
	out, err := exec.CommandContext(ctx, program, "client", "create", "--config", config, "--id", o.clientID,
		"--type", "confidential", "--redirect-uri", o.url+"/auth/callback",
		"--post-logout-redirect-uri", o.url+"/", "--backchannel-logout-uri", o.url+"/auth/backchannel-logout",
		"--grant", "authorization_code", "--grant", "refresh_token",
		"--scope", "openid profile email", "--output", "json").Output()
	if err != nil {
		return "", fmt.Errorf("register the client: %w", err)
	}
	var client struct {
		Secret string `json:"client_secret"`
	}
	if err := json.Unmarshal(out, &client); err != nil {
		return "", err
	}
	return client.Secret, os.WriteFile(file, []byte(client.Secret), 0o600)
}
