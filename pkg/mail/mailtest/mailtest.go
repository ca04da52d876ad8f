// Package mailtest is a real SMTP server for tests: another implementation of the protocol than the one under test, over real
// sockets and real TLS. It keeps the mails that it takes, and misbehaves where a test tells it to.
package mailtest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/mail"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// Step is where a connection is.
type Step string

// The steps, in their order.
const (
	Connected Step = "connected"
	LoggedIn  Step = "logged in"
	Sender    Step = "sender"
	Recipient Step = "recipient"
	Data      Step = "data"      // the content is about to come
	Half      Step = "half"      // some of it has
	Taken     Step = "taken"     // all of it, and the mail is kept, but the sender was not told
	Refusable Step = "refusable" // all of it, and the mail is not kept yet
)

// ErrCut ends the connection without an answer.
var ErrCut = errors.New("cut")

// Answer refuses what a step was about, for example with Answer(550, 5, 1, 1, "no such user").
func Answer(code, class, subject, detail int, text string) error {
	return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{class, subject, detail}, Message: text}
}

// Mail is a mail that the server has taken.
type Mail struct {
	From, To string // of the envelope
	Raw      []byte
	TLS      bool
	User     string // who has logged in
}

// Parse reads the mail's head.
func (m Mail) Parse(t testing.TB) *mail.Message {
	t.Helper()
	parsed, err := mail.ReadMessage(bytes.NewReader(m.Raw))
	if err != nil {
		t.Fatalf("the mail cannot be read: %v\n%s", err, m.Raw)
	}
	return parsed
}

// Server is an SMTP server. Set its fields before it starts.
type Server struct {
	STARTTLS       bool
	TLS            bool     // from the start
	Names          []string // of the certificate; default mail.example.test
	User, Password string   // that a sender must log in with; empty for none
	UTF8           bool     // RFC 6531
	// At, if not nil, is asked at each step: it may wait, or return ErrCut or an Answer. to is empty before the recipient.
	At func(step Step, to string) error

	Addr  string         // once it runs
	Roots *x509.CertPool // the authority of its certificate

	mu          sync.Mutex
	got         []Mail
	connections int
	server      *smtp.Server
	listener    net.Listener
	certificate tls.Certificate
	served      chan struct{}
}

// Start runs the server until the test ends.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	s.certify(t)
	s.Addr = "127.0.0.1:0"
	s.Again(t)
	t.Cleanup(s.Kill)
}

// Again starts a server that was killed, at the same address. It has the mails that it had.
func (s *Server) Again(t testing.TB) {
	t.Helper()
	server := smtp.NewServer(smtp.BackendFunc(s.session))
	server.Domain = "mail.example.test"
	server.ErrorLog = log.New(io.Discard, "", 0)
	server.AllowInsecureAuth = true
	server.EnableSMTPUTF8 = s.UTF8
	config := &tls.Config{Certificates: []tls.Certificate{s.certificate}, MinVersion: tls.VersionTLS12}
	if s.STARTTLS {
		server.TLSConfig = config
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	if s.Addr != listener.Addr().String() { // the first time: senders read it meanwhile
		s.Addr = listener.Addr().String()
	}
	if s.TLS {
		listener = tls.NewListener(listener, config)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server, s.listener, s.served = server, listener, served
}

// Kill ends the server and all connections, at once.
func (s *Server) Kill() {
	s.mu.Lock()
	server, listener, served := s.server, s.listener, s.served
	s.server = nil
	s.mu.Unlock()
	if server == nil {
		return
	}
	_ = listener.Close() // the server may not know it yet
	_ = server.Close()
	<-served
}

// Got returns the mails that were taken so far.
func (s *Server) Got() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

// Connections is how many there were; STARTTLS makes one two.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connections
}

// certify makes an authority and a certificate of it.
func (s *Server) certify(t testing.TB) {
	t.Helper()
	names := s.Names
	if names == nil {
		names = []string{"mail.example.test"}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "test"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		DNSNames:     names,
		IsCA:         true,
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,

		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	s.Roots = x509.NewCertPool()
	s.Roots.AddCert(parsed)
	s.certificate = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// session begins a connection.
func (s *Server) session(c *smtp.Conn) (smtp.Session, error) {
	s.mu.Lock()
	s.connections++
	s.mu.Unlock()
	n := &session{server: s, conn: c}
	if err := n.at(Connected); err != nil {
		return nil, err
	}
	return n, nil
}

// session is one connection.
type session struct {
	server   *Server
	conn     *smtp.Conn
	user     string
	from, to string
}

func (n *session) at(step Step) error {
	if n.server.At == nil {
		return nil
	}
	err := n.server.At(step, n.to)
	if errors.Is(err, ErrCut) {
		_ = n.conn.Conn().Close()
	}
	return err
}

// AuthMechanisms implements smtp.AuthSession.
func (n *session) AuthMechanisms() []string {
	if n.server.User == "" {
		return nil
	}
	return []string{sasl.Plain}
}

// Auth implements smtp.AuthSession.
func (n *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != n.server.User || password != n.server.Password {
			return Answer(535, 5, 7, 8, "Authentication credentials invalid")
		}
		n.user = user
		return n.at(LoggedIn)
	}), nil
}

// Mail implements smtp.Session.
func (n *session) Mail(from string, _ *smtp.MailOptions) error {
	if n.server.User != "" && n.user == "" {
		return Answer(530, 5, 7, 0, "Authentication required")
	}
	n.from, n.to = from, ""
	return n.at(Sender)
}

// Rcpt implements smtp.Session.
func (n *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	n.to = to
	return n.at(Recipient)
}

// Data implements smtp.Session.
func (n *session) Data(r io.Reader) error {
	if err := n.at(Data); err != nil {
		return err
	}
	head := make([]byte, 100)
	if _, err := io.ReadFull(r, head); err != nil {
		return err
	}
	if err := n.at(Half); err != nil {
		return err
	}
	rest, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if err := n.at(Refusable); err != nil {
		return err
	}
	_, secured := n.conn.TLSConnectionState()
	n.server.mu.Lock()
	n.server.got = append(n.server.got, Mail{n.from, n.to, append(head, rest...), secured, n.user})
	n.server.mu.Unlock()
	return n.at(Taken)
}

// Reset implements smtp.Session.
func (n *session) Reset() { n.from, n.to = "", "" }

// Logout implements smtp.Session.
func (*session) Logout() error { return nil }
