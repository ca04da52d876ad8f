package service

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/api/signin"
)

// newPages prepares the hosted pages in the operator's look.
func newPages(c Config) (*pages.Renderer, error) {
	b := pages.Branding{
		Name:       c.BrandName,
		Accent:     c.BrandAccent,
		AccentDark: c.BrandAccentDark,
		SupportURL: c.SupportURL,
		PrivacyURL: c.PrivacyURL,
		TermsURL:   c.TermsURL,
	}
	for _, scope := range c.Scopes {
		name, text, _ := strings.Cut(scope, "=")
		b.Scopes = append(b.Scopes, pages.Scope{Name: strings.TrimSpace(name), Text: strings.TrimSpace(text)})
	}
	for _, logo := range []struct {
		file string
		into *[]byte
	}{{c.BrandLogo, &b.Logo}, {c.BrandLogoDark, &b.LogoDark}} {
		if logo.file == "" {
			continue
		}
		content, err := os.ReadFile(logo.file)
		if err != nil {
			return nil, fmt.Errorf("brand logo: %w", err)
		}
		*logo.into = content
	}
	if c.LanguagesDir == "" {
		return pages.New(b, nil)
	}
	return pages.New(b, os.DirFS(c.LanguagesDir))
}

// hosted prepares what the hosted pages need.
func (b *builder) hosted(context.Context) (err error) {
	b.states = signin.NewStates(b.master)
	if b.pages, err = newPages(b.config); err != nil {
		return err
	}
	b.looks.CompareAndSwap(nil, b.pages)
	return nil
}
