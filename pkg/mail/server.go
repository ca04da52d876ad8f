package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"
	"golang.org/x/net/idna"

	"github.com/handstamp/handstamp/pkg/seal"
)

const (
	dialTimeout = 20 * time.Second // for the connection, the greeting, TLS and the login
	idleTimeout = 5 * time.Second  // that a connection is kept for the next letter
)

// Server is an SMTP server that takes our mail (RFC 5321; RFC 6409 calls it a submission server).
type Server struct {
	Host     string
	Port     int
	TLS      bool // from the first byte on (RFC 8314): smtps
	User     string
	Password seal.Secret
}

// ParseServer reads smtp://USER:PASSWORD@HOST:PORT or smtps://... The errors do not show the password.
func ParseServer(address seal.Secret) (Server, error) {
	u, err := url.Parse(string(address))
	if err != nil {
		return Server{}, errors.New("is not an address such as smtp://USER:PASSWORD@mail.example.com:587; characters of the " +
			"password that are none of a URL are written as %XX")
	}
	s := Server{Host: u.Hostname(), TLS: u.Scheme == "smtps", User: u.User.Username()}
	password, _ := u.User.Password()
	s.Password = seal.Secret(password)
	port := u.Port()
	switch {
	case u.Scheme != "smtp" && u.Scheme != "smtps":
		return Server{}, errors.New("must begin with smtp:// or smtps://")
	case s.Host == "":
		return Server{}, errors.New("names no host")
	case strings.TrimPrefix(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return Server{}, errors.New("must end after the host and the port")
	case (s.User == "") != (s.Password == ""):
		return Server{}, errors.New("has a user without a password, or a password without a user")
	case port == "" && s.TLS:
		port = "465"
	case port == "":
		port = "587"
	}
	if s.Port, err = strconv.Atoi(port); err != nil || s.Port < 1 || s.Port > 65535 {
		return Server{}, errors.New("has a port that is none")
	}
	return s, nil
}

// loopback says whether the server is on this machine, so that nobody listens on the way to it.
func (s Server) loopback() bool {
	ip := net.ParseIP(s.Host)
	return s.Host == "localhost" || ip != nil && ip.IsLoopback()
}

// Step is what a letter was about to do when its way ended.
type Step string

// The steps.
const (
	StepConnect   Step = "connect"
	StepTLS       Step = "start TLS"
	StepLogin     Step = "log in"
	StepSender    Step = "name the sender"
	StepRecipient Step = "name the recipient"
	StepContent   Step = "send the content"
)

// SendError is why a letter did not leave.
type SendError struct {
	Step  Step
	Code  int    // the server's answer (RFC 5321, section 4.2); 0 if it gave none
	Reply string // its words, without the recipient's address and the password
	err   error
}

// Error implements error.
func (e *SendError) Error() string {
	if e.Code != 0 {
		return fmt.Sprintf("%s: the mail server answered %d %s", e.Step, e.Code, e.Reply)
	}
	return fmt.Sprintf("%s: %s", e.Step, e.Reply)
}

// Unwrap returns the cause, which may quote the recipient's address.
func (e *SendError) Unwrap() error { return e.err }

// permanent says whether the server will never take this letter for this recipient. That it refuses us, or our sender, is for the
// operator to mend: the letter waits.
func (e *SendError) permanent() bool {
	if e.Code < 500 || e.Step != StepRecipient && e.Step != StepContent {
		return false
	}
	for _, ours := range []string{"5.1.7", "5.1.8", "5.7.0", "5.7.8", "5.7.14"} { // RFC 3463: the sender's address, and no login
		if strings.HasPrefix(e.Reply, ours+" ") {
			return false
		}
	}
	// RFC 4954, section 6; and a server that passes no mail on for us names the recipient only since it came to that.
	return e.Code != 530 && e.Code != 535 && !strings.Contains(strings.ToLower(e.Reply), "relay")
}

// link is how letters get to a server. One letter is on its way at a time.
type link struct {
	server Server
	roots  *x509.CertPool // nil for those of the machine
	dialer func(ctx context.Context, network, address string) (net.Conn, error)
	name   string // ours, for EHLO

	mu   sync.Mutex
	conn net.Conn
	smtp *smtp.Client
	used time.Time
}

// close ends the connection that is kept, if there is one.
func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.smtp == nil {
		return
	}
	_ = l.conn.SetDeadline(time.Now().Add(time.Second))
	_ = l.smtp.Quit()
	l.drop()
}

func (l *link) drop() {
	if l.conn != nil {
		_ = l.conn.Close()
	}
	l.conn, l.smtp = nil, nil
}

// carry sends a message from one address to another. *SendError.
func (l *link) carry(ctx context.Context, from, to string, m *gomail.Msg) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.smtp != nil && time.Since(l.used) > idleTimeout {
		_ = l.conn.SetDeadline(time.Now().Add(time.Second))
		_ = l.smtp.Quit()
		l.drop()
	}
	if l.smtp != nil { // it may be gone by now
		_ = l.conn.SetDeadline(time.Now().Add(dialTimeout))
		if l.smtp.Reset() != nil {
			l.drop()
		}
	}
	if l.smtp == nil {
		if err := l.dial(ctx); err != nil {
			l.drop()
			return l.told(err, to)
		}
	}
	// What ends the attempt ends the connection: there is no other way to make it stop.
	conn := l.conn
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	err := l.transfer(from, to, m)
	if stop(); err != nil {
		if err.Code == 0 || err.Step == StepContent {
			l.drop()
		}
		if ctx.Err() != nil && err.Code == 0 {
			err.err = ctx.Err()
		}
		return l.told(err, to)
	}
	l.used = time.Now()
	return nil
}

// transfer is one mail transaction (RFC 5321, section 3.3). Its success is the answer to the end of the content.
func (l *link) transfer(from, to string, m *gomail.Msg) *SendError {
	ascii, international := envelope(to)
	utf8, _ := l.smtp.Extension("SMTPUTF8")
	if international && !utf8 {
		return &SendError{Step: StepRecipient, Code: 553, err: errors.New("5.6.7 the mail server takes no address with letters " +
			"beyond ASCII before the @ (RFC 6531)")}
	}
	l.smtp.SkipSMTPUTF8(!international) // a server that is asked for it may hand the mail to none that lacks it
	if err := l.smtp.Mail("<" + from + ">"); err != nil {
		return &SendError{Step: StepSender, err: err}
	}
	if err := l.smtp.Rcpt("<" + ascii + ">"); err != nil {
		return &SendError{Step: StepRecipient, err: err}
	}
	w, err := l.smtp.Data()
	if err != nil {
		return &SendError{Step: StepContent, err: err}
	}
	if _, err := m.WriteTo(w); err != nil {
		return &SendError{Step: StepContent, err: err}
	}
	if err := w.Close(); err != nil {
		return &SendError{Step: StepContent, err: err}
	}
	return nil
}

// envelope is an address as SMTP takes it: the domain as the name servers know it. It says whether what is left needs RFC 6531.
func envelope(address string) (ascii string, international bool) {
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return address, false
	}
	if domain, err := idna.Lookup.ToASCII(address[at+1:]); err == nil {
		address = address[:at+1] + domain
	}
	return address, strings.ContainsFunc(address, func(r rune) bool { return r > 127 })
}

// dial connects and logs in.
func (l *link) dial(ctx context.Context) *SendError {
	stop := func() bool { return true }
	config := l.tls()
	connect := func(dialing context.Context, network, address string) (net.Conn, error) {
		conn, err := l.dialer(dialing, network, address)
		if err != nil {
			return nil, err
		}
		l.conn = conn
		stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
		if !l.server.TLS {
			return conn, nil
		}
		secured := tls.Client(conn, config)
		return secured, secured.HandshakeContext(dialing)
	}
	options := []gomail.Option{
		gomail.WithPort(l.server.Port),
		gomail.WithTimeout(dialTimeout),
		gomail.WithTLSPolicy(l.policy()),
		gomail.WithTLSConfig(config),
		gomail.WithHELO(l.name),
		gomail.WithDialContextFunc(connect),
	}
	if l.server.User != "" {
		options = append(options, gomail.WithUsername(l.server.User), gomail.WithPassword(string(l.server.Password)),
			gomail.WithOpportunisticSMTPAuth(l.logins()...))
	}
	client, err := gomail.NewClient(l.server.Host, options...)
	if err != nil {
		return &SendError{Step: StepConnect, err: err}
	}
	connected, err := client.DialToSMTPClientWithContext(ctx)
	if stop(); err != nil {
		return &SendError{Step: dialStep(err), err: err}
	}
	l.smtp = connected
	return nil
}

func (l *link) tls() *tls.Config {
	return &tls.Config{
		ServerName: l.server.Host,
		RootCAs:    l.roots,
		MinVersion: tls.VersionTLS12,
		// What does not leave the machine needs no TLS. Where it is demanded, the certificate is seldom made for this name.
		InsecureSkipVerify: l.server.loopback(), //nolint:gosec // see above
	}
}

// policy says when STARTTLS is used: always, but on the way to this machine, and in TLS.
func (l *link) policy() gomail.TLSPolicy {
	switch {
	case l.server.TLS:
		return gomail.NoTLS
	case l.server.loopback():
		return gomail.TLSOpportunistic
	}
	return gomail.TLSMandatory
}

// logins are the ways to log in that we know, the best first.
func (l *link) logins() []gomail.SMTPAuthType {
	if l.server.loopback() {
		return []gomail.SMTPAuthType{
			gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthSCRAMSHA1, gomail.SMTPAuthPlainNoEnc, gomail.SMTPAuthLoginNoEnc,
		}
	}
	return []gomail.SMTPAuthType{
		gomail.SMTPAuthSCRAMSHA256PLUS, gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthSCRAMSHA1PLUS, gomail.SMTPAuthSCRAMSHA1,
		gomail.SMTPAuthPlain, gomail.SMTPAuthLogin,
	}
}

// dialStep finds out where an attempt to connect has failed. The library has no types for the lack of STARTTLS and for logins.
func dialStep(err error) Step {
	text := err.Error()
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, header := errors.AsType[tls.RecordHeaderError](err)
	_, alert := errors.AsType[tls.AlertError](err)
	_, network := errors.AsType[*net.OpError](err)
	switch {
	case certificate, header, alert, strings.Contains(text, "STARTTLS"), strings.HasPrefix(text, "tls: "):
		return StepTLS
	case !network && strings.Contains(strings.ToUpper(text), "AUTH"):
		return StepLogin
	}
	return StepConnect
}

// told puts into an error what an operator is told: the server's words, or ours.
func (l *link) told(e *SendError, to string) *SendError {
	text := e.err.Error()
	if reply, ok := errors.AsType[*textproto.Error](e.err); ok {
		e.Code, text = reply.Code, reply.Msg
	}
	ascii, _ := envelope(to)
	secret := string(l.server.Password)
	pairs := []string{to, "[recipient]", ascii, "[recipient]"}
	if secret != "" {
		pairs = append(pairs, secret, "[redacted]")
	}
	e.Reply = printable(strings.NewReplacer(pairs...).Replace(text))
	return e
}

// printable keeps a text to one line of 300 bytes at most.
func printable(text string) string {
	breaks := func(r rune) bool { return r < ' ' || r == 127 || r == '\u2028' || r == '\u2029' }
	text = strings.Join(strings.FieldsFunc(text, breaks), " ")
	if len(text) > 300 {
		text = strings.ToValidUTF8(text[:300], "")
	}
	return text
}

// ParseSender reads mail_from or mail_reply_to: an address, perhaps with a name before it.
func ParseSender(s string) (*mail.Address, error) {
	a, err := mail.ParseAddress(s)
	if err != nil || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 127 }) {
		return nil, fmt.Errorf("%q is not an address such as no-reply@example.com or Shop <no-reply@example.com>", s)
	}
	return a, nil
}
