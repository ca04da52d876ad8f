package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
)

// hearSignals hears of SIGHUP, and takes SIGPIPE off the process: a reader of the log that goes away must not end the service.
// What is written to nobody is lost, and writing goes on. forget gives both signals back.
func hearSignals() (reload <-chan os.Signal, forget func()) {
	hup, pipe := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	signal.Notify(pipe, syscall.SIGPIPE)
	return hup, func() {
		signal.Stop(hup)
		signal.Stop(pipe)
	}
}

// reloaded are the settings that SIGHUP changes: those of service.Service.Reload, and the program's own.
func reloaded() []string {
	return []string{
		"providers", "signup", "password_min_length", "brand_name", "brand_logo", "brand_logo_dark", "brand_accent",
		"brand_accent_dark", "support_url", "privacy_url", "terms_url", "languages_dir", "scopes", "home_url", "change_password_url",
		"trusted_proxies", "tls_cert", "tls_key",
		"log_level",
	}
}

func reloadedList() string {
	var b strings.Builder
	width := 0
	for i, name := range reloaded() {
		switch {
		case i == 0:
		case width > 100:
			b.WriteString(",\n")
			width = 0
		default:
			b.WriteString(", ")
		}
		b.WriteString(name)
		width += len(name) + 2
	}
	return b.String()
}

// reload puts the settings into force that can be changed while the service runs: all of them, or none if there is a fault.
func reload(ctx context.Context, c Config, read func() (Config, error), running *service.Service, shown *certificate,
	face *face, level *slog.LevelVar, log *slog.Logger) {
	next, err := read()
	if err == nil {
		if _, port, _ := net.SplitHostPort(next.Listen); port == "0" {
			next = next.withAddress(c.Listen)
		}
		if (next.TLSCert == "") != (c.TLSCert == "") {
			err = errors.New("tls_cert: from http to https, and back, leads only a restart")
		}
	}
	var renewed *certificate
	if err == nil {
		renewed, err = readCertificate(next)
	}
	if err == nil {
		err = running.Reload(ctx, next.Config)
	}
	if err == nil {
		err = face.trust(next)
	}
	if err != nil {
		log.ErrorContext(ctx, "the settings cannot be read again, those from before stay in force", "error", err)
		return
	}
	shown.take(renewed)
	level.Set(next.levelOf())
	late := []string{}
	before := settings(&c)
	secret := map[string]bool{"master_key": next.MasterKey != c.MasterKey, "database_url": next.DatabaseURL != c.DatabaseURL}
	for i, s := range settings(&next) {
		if !slices.Contains(reloaded(), s.name) && (s.value.show() != before[i].value.show() || secret[s.name]) {
			late = append(late, s.name)
		}
	}
	log.InfoContext(ctx, "the settings were read again", "waiting_for_a_restart", late)
}
