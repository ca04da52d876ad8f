package service

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/pkg/mail"
	"github.com/handstamp/handstamp/pkg/outbox"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/store/sqlite"
)

// MailOn says whether mails are written: there is a server for them, or this is loopback, where they are kept in files.
func (c Config) MailOn() bool { return c.SMTPURL != "" || c.onLoopback() }

// onLoopback says whether nobody but the user of this machine reaches the service.
func (c Config) onLoopback() bool {
	issuer, err := url.Parse(c.Issuer)
	if err != nil {
		return false
	}
	ip := net.ParseIP(issuer.Hostname())
	return issuer.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// MailFolder is where mails are kept without a server: beside the database, if that is a file.
func (c Config) MailFolder() string {
	if c.MailDir != "" {
		return c.MailDir
	}
	if path, ok := strings.CutPrefix(string(c.DatabaseURL), sqlite.Prefix); ok && !strings.Contains(path, ":memory:") {
		path, _, _ = strings.Cut(path, "?")
		return filepath.Join(filepath.Dir(path), "mail")
	}
	return filepath.Join("data", "mail")
}

// notices are the mails that need no master key; nil if mail is off.
func notices(c Config) *mail.Notices {
	if !c.MailOn() {
		return nil
	}
	return mail.NewNotices()
}

// NewMailSender returns what sends mails, in the look that looks returns.
func NewMailSender(c Config, master seal.MasterKey, rows outbox.Source, looks func() *pages.Renderer,
	log *slog.Logger) (*mail.Sender, error) {
	return mail.NewSender(mail.Config{
		Issuer:  c.Issuer,
		Server:  c.SMTPURL,
		From:    c.MailFrom,
		ReplyTo: c.MailReplyTo,
		Name:    func() string { return looks().BrandName() },
		Dir:     c.MailFolder(),
		Now:     c.Clock.Now,
	}, master, rows, func(m mail.Content) (mail.Rendered, error) { return render(looks(), m) }, log)
}

// render puts a mail into words by the language files and the branding of the pages.
func render(r *pages.Renderer, m mail.Content) (mail.Rendered, error) {
	text, err := r.Mail(r.Language(m.Locale, m.Languages), pages.Mail{
		Name:    string(m.Name),
		Link:    m.Link,
		Code:    m.Code,
		Lasts:   m.Lasts,
		At:      m.At,
		IP:      m.IP,
		Agent:   m.UserAgent,
		Address: m.Address,
		Factor:  m.Factor,
	})
	return mail.Rendered{
		Subject:  text.Subject,
		Text:     text.Text,
		HTML:     text.HTML,
		Logo:     text.Logo,
		LogoType: text.LogoType,
	}, err
}

// SendTestMail sends a mail at once. The explanation says in plain words why it did not leave, and is empty if it did.
func SendTestMail(ctx context.Context, c Config, to, languages string,
	log *slog.Logger) (messageID, explanation string, err error) {
	look, err := newPages(c)
	if err != nil {
		return "", "", err
	}
	sender, err := NewMailSender(c, anyKey(), nil, func() *pages.Renderer { return look }, log)
	if err != nil {
		return "", "", err
	}
	if messageID, err = sender.SendTest(ctx, c.Clock.Now(), to, languages); err != nil {
		return messageID, sender.Explain(err), nil
	}
	return messageID, "", nil
}

// anyKey is a master key for what seals and opens nothing.
func anyKey() seal.MasterKey {
	key := make([]byte, 32)
	rand.Read(key)
	master, err := seal.ParseMasterKey(base64.StdEncoding.EncodeToString(key))
	if err != nil {
		panic(err) // 32 bytes
	}
	return master
}

// mail builds what writes mails and what sends them.
func (b *builder) mail(context.Context) (err error) {
	if b.config.MailOn() {
		b.Mails = mail.NewWriter(b.master, mail.Rate{Burst: b.config.MailRecipientLimit, Every: b.config.MailRecipientEvery})
	}
	b.mailer, err = NewMailSender(b.config, b.master, b.Store, b.looks.Load, b.log)
	return err
}
