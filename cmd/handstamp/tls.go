package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificate is a certificate that is read again when its files change, or none.
type certificate struct {
	log *slog.Logger

	mu                sync.Mutex
	certFile, keyFile string
	current           *tls.Certificate
	modified          [2]time.Time
	checkedAt         time.Time
}

// certificateCheckEvery is how often a handshake looks whether the files have changed.
const certificateCheckEvery = time.Second

// readCertificate reads the certificate that the settings name, if they name one.
func readCertificate(settings Config) (*certificate, error) {
	c := &certificate{certFile: settings.TLSCert, keyFile: settings.TLSKey}
	if c.certFile == "" {
		return c, nil
	}
	return c, c.load()
}

// take replaces the certificate by another that was just read.
func (c *certificate) take(next *certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.certFile, c.keyFile, c.current, c.modified = next.certFile, next.keyFile, next.current, next.modified
}

// ends is when the certificate expires, the zero time if there is none.
func (c *certificate) ends() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == nil || c.current.Leaf == nil {
		return time.Time{}
	}
	return c.current.Leaf.NotAfter
}

// load reads the files, unless they are as they were.
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
