package mail

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/mail"
	"net/url"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"

	"github.com/handstamp/handstamp/pkg/outbox"
	"github.com/handstamp/handstamp/pkg/seal"
)

// KindMail are the rows of the outbox that are letters. They have one destination, so that one replica sends one letter at a
// time.
const (
	KindMail    = "mail"
	Destination = "smtp"
)

// Limits of sending.
const (
	sendTimeout = 50 * time.Second // for one letter, with the connection
	sendLease   = time.Minute      // that no other replica sends, if this one dies
	sendAge     = 24 * time.Hour   // after which a letter is given up
	firstWait   = 15 * time.Second // after a failure; it doubles
	longestWait = 15 * time.Minute
)

// Content is what a mail says.
type Content struct {
	Name      Name
	Locale    string // of the user's profile; empty if there is none
	Languages string // as in Accept-Language
	Link      string
	Code      string
	Lasts     time.Duration // that link and code do; 0 for no end
	At        time.Time     // when it happened; zero for a mail that tells of nothing
	IP        string
	UserAgent string
	Address   string
	Factor    string
}

// Rendered is a mail in one language.
type Rendered struct {
	Subject string
	Text    string
	HTML    string
	// Logo is a picture that HTML shows as cid:logo; nil for none.
	Logo     []byte
	LogoType string // its media type
}

// Render puts a mail into words and into the operator's look.
type Render func(c Content) (Rendered, error)

// Config is how mail leaves.
type Config struct {
	Issuer  string      // where links lead
	Server  seal.Secret // see [ParseServer]; empty to keep mails in Dir
	From    string      // see [ParseSender]
	ReplyTo string      // empty for none
	Name    func() string
	Dir     string // where mails are kept without a server
	Now     func() time.Time

	// Roots are the authorities that the server's certificate may be from; nil for those of the machine.
	Roots *x509.CertPool
	// Dial opens connections; nil for the network's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Sender delivers letters.
type Sender struct {
	config  Config
	from    *mail.Address
	replyTo *mail.Address
	link    *link // nil to keep mails
	sealer  seal.Sealer
	render  Render
	source  outbox.Source
	log     *slog.Logger
}

// NewSender returns a sender. The errors name settings.
func NewSender(c Config, master seal.MasterKey, source outbox.Source, render Render, log *slog.Logger) (*Sender, error) {
	s := &Sender{config: c, sealer: seal.New(master, seal.Mails), render: render, source: source, log: log}
	issuer, err := url.Parse(c.Issuer)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	host := cmp.Or(issuer.Hostname(), "localhost")
	if s.from, err = ParseSender(cmp.Or(c.From, "no-reply@"+host)); err != nil {
		return nil, fmt.Errorf("mail_from: %w", err)
	}
	if c.ReplyTo != "" {
		if s.replyTo, err = ParseSender(c.ReplyTo); err != nil {
			return nil, fmt.Errorf("mail_reply_to: %w", err)
		}
	}
	if c.Server == "" {
		return s, nil
	}
	server, err := ParseServer(c.Server)
	if err != nil {
		return nil, fmt.Errorf("smtp_url: %w", err)
	}
	s.link = &link{server: server, roots: c.Roots, dialer: c.Dial, name: host}
	if s.link.dialer == nil {
		s.link.dialer = (&net.Dialer{}).DialContext
	}
	return s, nil
}

// Close ends the connection that is kept for the next letter.
func (s *Sender) Close() {
	if s.link != nil {
		s.link.close()
	}
}

// Kind says how letters are sent.
func (s *Sender) Kind() outbox.Kind {
	return outbox.Kind{
		Name:    KindMail,
		Source:  s.source,
		Deliver: s.deliver,
		Lease:   sendLease,
		Timeout: sendTimeout,
		Wait: func(attempts int) time.Duration { // 15 s, 30 s, 1 min, ... 15 min
			return min(longestWait, firstWait<<min(attempts, 10))
		},
		Age:    sendAge,
		Places: 1,
	}
}

// deliver sends one letter, or says in the log why not.
func (s *Sender) deliver(ctx context.Context, r outbox.Row) error {
	p, part, err := open(r.Payload, s.sealer)
	if err != nil {
		s.log.ErrorContext(ctx, "a mail cannot be read: its link was sealed under another master key, or by a newer program",
			"error", err)
		return fmt.Errorf("%w: %w", outbox.ErrPermanent, err)
	}
	if !p.ExpiresAt.IsZero() && !s.config.Now().Before(p.ExpiresAt) {
		s.log.WarnContext(ctx, "mail not sent, what it holds has expired", "mail", p.Mail, "message_id", s.messageID(p))
		return fmt.Errorf("%w: what it holds has expired before it could be sent", outbox.ErrPermanent)
	}
	err = s.send(ctx, p, part)
	if err == nil {
		return nil
	}
	failure, sent := errors.AsType[*SendError](err)
	s.log.WarnContext(ctx, "mail not sent", "mail", p.Mail, "message_id", s.messageID(p), "attempt", r.Attempts+1, "error", err)
	if sent && failure.permanent() {
		return fmt.Errorf("%w: %w", outbox.ErrPermanent, err)
	}
	return err
}

func (s *Sender) send(ctx context.Context, p payload, part sealedPart) error {
	c := s.content(p, part)
	rendered, err := s.render(c)
	if err != nil {
		return fmt.Errorf("%w: %w", outbox.ErrPermanent, err)
	}
	m, err := s.message(p, rendered)
	if err != nil {
		return fmt.Errorf("%w: %w", outbox.ErrPermanent, err)
	}
	if s.link == nil {
		return s.keep(ctx, p, c, m)
	}
	return s.link.carry(ctx, s.from.Address, p.To, m)
}

// content is what a letter says. Its link begins with the issuer, whatever the letter holds.
func (s *Sender) content(p payload, part sealedPart) Content {
	c := Content{
		Name:      p.Mail,
		Locale:    p.Locale,
		Languages: p.Languages,
		Code:      part.Code,
		IP:        p.IP,
		UserAgent: p.UserAgent,
		Address:   p.Address,
		Factor:    p.Factor,
	}
	if p.Mail.tells() {
		c.At = p.At
	}
	if part.Path != "" {
		c.Link = s.config.Issuer + "/" + strings.TrimLeft(part.Path, "/")
	}
	if part.Path != "" && part.Token != "" {
		c.Link += "?token=" + url.QueryEscape(part.Token)
	}
	if !p.ExpiresAt.IsZero() {
		c.Lasts = p.ExpiresAt.Sub(p.At)
	}
	return c
}

// messageID is the same for each attempt (RFC 5322, section 3.6.4), so that a mail server or a reader finds what came twice.
func (s *Sender) messageID(p payload) string {
	return p.ID + s.from.Address[strings.LastIndexByte(s.from.Address, '@'):]
}

// message makes the mail. No text that a user has chosen stands in its head: not even the name of the recipient.
func (s *Sender) message(p payload, r Rendered) (*gomail.Msg, error) {
	m := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	name := s.from.Name
	if name == "" && s.config.Name != nil {
		name = printable(s.config.Name())
	}
	if err := m.FromFormat(name, s.from.Address); err != nil {
		return nil, fmt.Errorf("name the sender: %w", err)
	}
	m.ToMailAddress(&mail.Address{Address: p.To})
	if s.replyTo != nil {
		if err := m.ReplyToFormat(s.replyTo.Name, s.replyTo.Address); err != nil {
			return nil, fmt.Errorf("name whom to reply to: %w", err)
		}
	}
	m.SetMessageIDWithValue(s.messageID(p))
	m.SetDateWithValue(p.At.UTC())
	m.Subject(printable(r.Subject))
	m.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no vacation notice comes back
	m.SetGenHeader("X-Auto-Response-Suppress", "All")  // the same for Exchange
	m.SetBodyString(gomail.TypeTextPlain, r.Text)
	m.AddAlternativeString(gomail.TypeTextHTML, r.HTML)
	if r.Logo != nil {
		err := m.EmbedReader("logo", strings.NewReader(string(r.Logo)), gomail.WithFileContentID("logo"),
			gomail.WithFileContentType(gomail.ContentType(r.LogoType)))
		if err != nil {
			return nil, fmt.Errorf("embed the logo: %w", err)
		}
	}
	return m, nil
}

// SendTest sends a mail to an address at once, past the outbox, for an operator who sets mail up. See [Explain].
func (s *Sender) SendTest(ctx context.Context, at time.Time, to, languages string) (messageID string, err error) {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	defer s.Close()
	p := payload{Mail: Test, ID: newID(), At: at, To: to, Languages: languages}
	return s.messageID(p), s.send(ctx, p, sealedPart{})
}
