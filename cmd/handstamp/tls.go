package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificate is a certificate that is read again when its files change.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu        sync.Mutex
	current   *tls.Certificate
	modified  [2]time.Time
	checkedAt time.Time
}

// certificateCheckEvery is how often a handshake looks whether the files have changed.
const certificateCheckEvery = time.Second

func newCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	if err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *certificate) load() error {
	var modified [2]time.Time
	for i, name := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return fmt.Errorf("tls: %w", err)
		}
		modified[i] = info.ModTime()
	}
	if c.current != nil && modified == c.modified {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("tls: %w", err)
	}
	if c.current != nil {
		c.log.Info("certificate read again", "file", c.certFile)
	}
	c.current, c.modified = &pair, modified
	return nil
}

// get implements tls.Config.GetCertificate. While the new files cannot be used (one of the two was written, the other not yet)
// the certificate from before serves on.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checkedAt) >= certificateCheckEvery {
		c.checkedAt = time.Now()
		if err := c.load(); err != nil {
			c.log.Warn("certificate cannot be read again, the one from before serves on", "error", err)
		}
	}
	return c.current, nil
}
