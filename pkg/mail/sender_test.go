package mail_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/mail"
	"github.com/handstamp/handstamp/pkg/mail/mailtest"
	"github.com/handstamp/handstamp/pkg/outbox"
	"github.com/handstamp/handstamp/pkg/seal"
)

const (
	issuer = "https://login.example.test"
	ann    = "ann@example.test"
)

func master(t testing.TB) seal.MasterKey {
	t.Helper()
	m, err := seal.ParseMasterKey("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func noon() time.Time { return time.Now().Truncate(time.Second) }

// plain is a mail without a look.
func plain(c mail.Content) (mail.Rendered, error) {
	return mail.Rendered{
		Subject: "About " + string(c.Name),
		Text:    "link " + c.Link + "\ncode " + c.Code + "\nfactor " + c.Factor + "\n",
		HTML:    "<p>link " + c.Link + "</p>",
	}, nil
}

// sent is a sender with its log.
type sent struct {
	*mail.Sender
	log *bytes.Buffer
}

// sender returns a sender for a server. The host of the address is looked up in the server, unless it is loopback.
func sender(t testing.TB, server *mailtest.Server, address string, change ...func(*mail.Config)) sent {
	t.Helper()
	c := mail.Config{
		Issuer: issuer,
		Server: seal.Secret(address),
		From:   "no-reply@example.test",
		Name:   func() string { return "Acme" },
		Now:    time.Now,
	}
	if server != nil {
		c.Roots = server.Roots
		c.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, server.Addr)
		}
	}
	for _, f := range change {
		f(&c)
	}
	var text bytes.Buffer
	s, err := mail.NewSender(c, master(t), nil, plain, slog.New(slog.NewJSONHandler(&text, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return sent{s, &text}
}

// row is a letter as the store leaves it in the outbox.
func row(t testing.TB, l mail.Letter, to string) outbox.Row {
	t.Helper()
	var p map[string]any
	if err := json.Unmarshal([]byte(l.Payload), &p); err != nil {
		t.Fatal(err)
	}
	p["to"], p["locale"] = to, ""
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return outbox.Row{ID: 1, Kind: mail.KindMail, Destination: mail.Destination, Payload: text, CreatedAt: l.At}
}

func (s sent) deliver(t testing.TB, l mail.Letter, to string) error {
	t.Helper()
	return s.Kind().Deliver(t.Context(), row(t, l, to))
}

func writer(t testing.TB) *mail.Writer {
	t.Helper()
	return mail.NewWriter(master(t), mail.Rate{Burst: 5, Every: time.Minute})
}

// reset is a letter with everything.
func reset(t testing.TB) mail.Letter {
	t.Helper()
	at := noon()
	return writer(t).Reset(at, mail.Recipient{Address: ann}, mail.Proof{
		Path:      "/password/reset",
		Token:     "tok en&1",
		Code:      "48213097",
		ExpiresAt: at.Add(30 * time.Minute),
	})
}

// parts returns the texts of a mail by their media type.
func parts(t testing.TB, m mailtest.Mail) map[string]string {
	t.Helper()
	parsed := m.Parse(t)
	found := map[string]string{}
	var walk func(contentType, encoding string, body io.Reader)
	walk = func(contentType, encoding string, body io.Reader) {
		kind, params, err := mime.ParseMediaType(contentType)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(kind, "multipart/") {
			for r := multipart.NewReader(body, params["boundary"]); ; {
				part, err := r.NextRawPart()
				if errors.Is(err, io.EOF) {
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				walk(part.Header.Get("Content-Type"), part.Header.Get("Content-Transfer-Encoding"), part)
			}
		}
		if encoding == "quoted-printable" {
			body = quotedprintable.NewReader(body)
		}
		text, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		found[kind] = strings.ReplaceAll(string(text), "\r\n", "\n")
	}
	walk(parsed.Header.Get("Content-Type"), parsed.Header.Get("Content-Transfer-Encoding"), parsed.Body)
	return found
}

func TestSend(t *testing.T) {
	for name, c := range map[string]struct {
		server  *mailtest.Server
		address string
		tls     bool
		user    string
	}{
		"ok/STARTTLS and a login": {
			&mailtest.Server{STARTTLS: true, User: "ann", Password: "p@ss/word"},
			"smtp://ann:p%40ss%2Fword@mail.example.test:2525", true, "ann",
		},
		"ok/TLS from the start": {
			&mailtest.Server{TLS: true, User: "ann", Password: "p"}, "smtps://ann:p@mail.example.test", true, "ann",
		},
		"ok/loopback in the clear": {&mailtest.Server{User: "ann", Password: "p"}, "smtp://ann:p@127.0.0.1:25", false, "ann"},
		"ok/loopback with STARTTLS": {
			&mailtest.Server{STARTTLS: true, Names: []string{"other.test"}}, "smtp://localhost", true, "",
		},
		"ok/STARTTLS, and nobody logs in":   {&mailtest.Server{STARTTLS: true}, "smtp://mail.example.test", true, ""},
		"ok/an address that needs RFC 6531": {&mailtest.Server{STARTTLS: true, UTF8: true}, "smtp://mail.example.test", true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			server := c.server
			server.Start(t)
			s := sender(t, server, c.address)
			l := reset(t)
			to := ann
			if server.UTF8 {
				to = "jürgen@bücher.example"
			}
			if err := s.deliver(t, l, to); err != nil {
				t.Fatal(err)
			}
			got := server.Got()
			if len(got) != 1 || got[0].TLS != c.tls || got[0].User != c.user || got[0].From != "no-reply@example.test" {
				t.Fatalf("%+v", got)
			}
			if want := strings.Replace(to, "bücher", "xn--bcher-kva", 1); got[0].To != want {
				t.Errorf("to %q, want %q", got[0].To, want)
			}
			head := got[0].Parse(t).Header
			var h mail.Head
			if h, _ = mail.HeadOf([]byte(l.Payload)); head.Get("Message-Id") != "<"+h.ID+"@example.test>" {
				t.Errorf("Message-ID %q", head.Get("Message-Id"))
			}
			for name, want := range map[string]string{
				"From":           `"Acme" <no-reply@example.test>`,
				"Subject":        "About reset",
				"Auto-Submitted": "auto-generated",
				"Date":           l.At.UTC().Format(time.RFC1123Z),
			} {
				if head.Get(name) != want {
					t.Errorf("%s: %q, want %q", name, head.Get(name), want)
				}
			}
			texts := parts(t, got[0])
			const link = issuer + "/password/reset?token=tok+en%261"
			if texts["text/plain"] != "link "+link+"\ncode 48213097\nfactor \n" || texts["text/html"] != "<p>link "+link+"</p>" {
				t.Errorf("%q", texts)
			}
		})
	}
}

func TestMailsShareAConnection(t *testing.T) {
	server := &mailtest.Server{TLS: true}
	server.Start(t)
	s := sender(t, server, "smtps://mail.example.test")
	for range 5 {
		if err := s.deliver(t, reset(t), ann); err != nil {
			t.Fatal(err)
		}
	}
	if len(server.Got()) != 5 || server.Connections() != 1 {
		t.Errorf("%d mails, %d connections", len(server.Got()), server.Connections())
	}
	server.Kill() // the connection that is kept is gone
	server.Again(t)
	if err := s.deliver(t, reset(t), ann); err != nil {
		t.Errorf("after the server was started again: %v", err)
	}
}

// TestRefused has one row for each way in which a mail does not leave: whether it is given up, and what an operator is told.
func TestRefused(t *testing.T) {
	at := func(step mailtest.Step, err error) func(mailtest.Step, string) error {
		return func(s mailtest.Step, _ string) error {
			if s == step {
				return err
			}
			return nil
		}
	}
	const starttls, password = "smtp://mail.example.test", "violet-otter"
	for name, c := range map[string]struct {
		server  *mailtest.Server
		address string
		to      string
		dead    bool
		told    string
	}{
		"fail/dead: no such user": {
			server: &mailtest.Server{At: at(mailtest.Recipient, mailtest.Answer(550, 5, 1, 1, "<"+ann+">: no such user"))},
			dead:   true, told: "refuses this recipient: 550 5.1.1 <[recipient]>: no such user",
		},
		"fail/dead: content refused": {
			server: &mailtest.Server{At: at(mailtest.Refusable, mailtest.Answer(554, 5, 7, 1, "spam"))},
			dead:   true, told: "set SPF, DKIM and DMARC up",
		},
		"fail/dead: no server for this address": {to: "jürgen@example.test", dead: true, told: "RFC 6531"},
		"fail/later: greylisting": {
			server: &mailtest.Server{At: at(mailtest.Recipient, mailtest.Answer(451, 4, 7, 1, "try again in 5 minutes"))},
			told:   "just now: 451 4.7.1 try again",
		},
		"fail/later: content not now": {
			server: &mailtest.Server{At: at(mailtest.Refusable, mailtest.Answer(452, 4, 3, 1, "disk full"))}, told: "452 4.3.1 disk full",
		},
		"fail/later: sender refused": {
			server: &mailtest.Server{At: at(mailtest.Sender, mailtest.Answer(553, 5, 7, 1, "not yours"))},
			told:   "refuses the sender no-reply@example.test: 553 5.7.1 not yours. Set mail_from",
		},
		"fail/later: sender refused with the recipient": {
			server: &mailtest.Server{At: at(mailtest.Recipient, mailtest.Answer(550, 5, 1, 8, "bad sender"))},
			told:   "because of its sender",
		},
		"fail/later: no relay": {
			server: &mailtest.Server{At: at(mailtest.Recipient, mailtest.Answer(554, 5, 7, 1, "Relay access denied"))},
			told:   "wants a login",
		},
		"fail/later: login wanted": {server: &mailtest.Server{User: "ann", Password: password}, told: "wants a login: 530 5.7.0"},
		"fail/later: login refused": {
			server:  &mailtest.Server{User: "ann", Password: password},
			address: "smtp://ann:wrong@mail.example.test", told: "refuses the login: 535 5.7.8",
		},
		"fail/later: no login":    {address: "smtp://ann:" + password + "@mail.example.test", told: "no way to log in"},
		"fail/later: no STARTTLS": {address: "no STARTTLS", told: "offers no STARTTLS"},
		"fail/later: wrong name": {
			server: &mailtest.Server{Names: []string{"a.test", "b.test"}}, told: "not for mail.example.test, but for a.test, b.test",
		},
		"fail/later: unknown authority":   {address: "unknown", told: "SSL_CERT_FILE"},
		"fail/later: no TLS at the start": {address: "smtps://mail.example.test", told: "does not speak TLS from the start"},
		"fail/later: refused":             {address: "refused", told: "nothing listens there"},
		"fail/later: unknown host":        {address: "dns", told: "There is no host mail.example.test"},
		"fail/later: hung up":             {server: &mailtest.Server{At: at(mailtest.Connected, mailtest.ErrCut)}, told: "hung up"},
		"fail/later: not wanted here": {
			server: &mailtest.Server{At: at(mailtest.Connected, mailtest.Answer(554, 5, 7, 1, "you are on a list"))}, told: "554",
		},
		"fail/later: dies with the sender":    {server: &mailtest.Server{At: at(mailtest.Sender, mailtest.ErrCut)}, told: "broke"},
		"fail/later: dies with the recipient": {server: &mailtest.Server{At: at(mailtest.Recipient, mailtest.ErrCut)}, told: "broke"},
		"fail/later: dies in mid-data":        {server: &mailtest.Server{At: at(mailtest.Half, mailtest.ErrCut)}, told: "broke"},
		"fail/later: dies unanswered":         {server: &mailtest.Server{At: at(mailtest.Taken, mailtest.ErrCut)}, told: "broke"},
	} {
		t.Run(name, func(t *testing.T) {
			server := c.server
			if server == nil {
				server = &mailtest.Server{}
			}
			server.STARTTLS = c.address != "no STARTTLS"
			server.Start(t)
			address := starttls
			if strings.Contains(c.address, "://") {
				address = c.address
			}
			s := sender(t, server, address, func(config *mail.Config) {
				switch c.address {
				case "unknown":
					config.Roots = nil
				case "refused":
					server.Kill()
				case "dns":
					config.Dial = func(context.Context, string, string) (net.Conn, error) {
						return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "mail.example.test", IsNotFound: true}}
					}
				}
			})
			to := ann
			if c.to != "" {
				to = c.to
			}
			err := s.deliver(t, reset(t), to)
			if err == nil {
				t.Fatal("sent")
			}
			if errors.Is(err, outbox.ErrPermanent) != c.dead {
				t.Errorf("given up: %v, want %v: %v", !c.dead, c.dead, err)
			}
			if told := s.Explain(err); !strings.Contains(told, c.told) {
				t.Errorf("told %q, want %q", told, c.told)
			}
			for _, secret := range []string{to, password, "wrong", "48213097", "tok en", "tok+en"} {
				if strings.Contains(s.log.String()+err.Error(), secret) {
					t.Errorf("%q is in the log or the reason: %s %v", secret, s.log, err)
				}
			}
			if s.log.Len() == 0 {
				t.Error("nothing is logged")
			}
		})
	}
}

// A server that does not answer holds a letter until its time is over, and the end of the service ends the wait.
func TestSlowServer(t *testing.T) {
	for _, step := range []mailtest.Step{mailtest.Connected, mailtest.Sender, mailtest.Recipient, mailtest.Half, mailtest.Taken} {
		t.Run("fail/"+string(step), func(t *testing.T) {
			reached, release := make(chan struct{}), make(chan struct{})
			server := &mailtest.Server{STARTTLS: true, At: func(s mailtest.Step, _ string) error {
				if s == step {
					close(reached)
					<-release
				}
				return nil
			}}
			server.Start(t)
			t.Cleanup(func() { close(release) })
			s := sender(t, server, "smtp://mail.example.test")
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-reached
				cancel()
			}()
			if err := s.Kind().Deliver(ctx, row(t, reset(t), ann)); err == nil || errors.Is(err, outbox.ErrPermanent) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestLetters(t *testing.T) {
	server := &mailtest.Server{STARTTLS: true}
	server.Start(t)

	t.Run("ok/the outbox reveals no token and no code", func(t *testing.T) {
		if l := reset(t); strings.Contains(l.Payload, "48213097") || strings.Contains(l.Payload, "tok en") {
			t.Errorf("%s", l.Payload)
		}
	})

	t.Run("fail/sealed for another letter", func(t *testing.T) {
		s := sender(t, server, "smtp://mail.example.test")
		var mine, other map[string]any
		for into, l := range map[*map[string]any]mail.Letter{&mine: reset(t), &other: reset(t)} {
			if err := json.Unmarshal([]byte(l.Payload), into); err != nil {
				t.Fatal(err)
			}
		}
		mine["sealed"], mine["to"] = other["sealed"], "thief@example.test"
		text, err := json.Marshal(mine)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Kind().Deliver(t.Context(), outbox.Row{Payload: text}); !errors.Is(err, outbox.ErrPermanent) {
			t.Errorf("%v", err)
		}
	})

	t.Run("fail/expired", func(t *testing.T) {
		s := sender(t, server, "smtp://mail.example.test", func(c *mail.Config) {
			c.Now = func() time.Time { return time.Now().Add(time.Hour) }
		})
		if err := s.deliver(t, reset(t), ann); !errors.Is(err, outbox.ErrPermanent) {
			t.Errorf("%v", err)
		}
	})

	t.Run("fail/TestEM01 a link leads to the issuer, whatever the path is", func(t *testing.T) {
		for _, path := range []string{"//evil.example/x", "@evil.example", ".evil.example", "\\evil.example"} {
			before := len(server.Got())
			l := writer(t).Verify(noon(), mail.Recipient{Address: ann}, mail.Proof{Path: path, Token: "t"})
			if err := sender(t, server, "smtp://mail.example.test").deliver(t, l, ann); err != nil {
				t.Fatal(err)
			}
			if text := parts(t, server.Got()[before])["text/plain"]; !strings.HasPrefix(text, "link "+issuer+"/") {
				t.Errorf("%q: %s", path, text)
			}
		}
	})

	t.Run("fail/TestEM11 a name breaks out of no header", func(t *testing.T) {
		const hostile = "x\r\nBcc: victim@example.test\r\n\r\n=?utf-8?q?=0D=0ABcc:_victim@example.test?="
		before := len(server.Got())
		s := sender(t, server, "smtp://mail.example.test", func(c *mail.Config) {
			c.Name = func() string { return hostile }
			c.ReplyTo = "Help <help@example.test>"
		})
		if err := s.deliver(t, writer(t).FactorAdded(noon(), hostile, audit.Origin{UserAgent: hostile, IP: hostile}), ann); err != nil {
			t.Fatal(err)
		}
		got := server.Got()[before]
		head := got.Parse(t).Header
		to, err := head.AddressList("To")
		if err != nil || len(to) != 1 || to[0].Address != ann || to[0].Name != "" || head.Get("Bcc") != "" || head.Get("Cc") != "" {
			t.Errorf("%v %v %v", to, err, head)
		}
		if from, err := head.AddressList("From"); err != nil || len(from) != 1 || from[0].Address != "no-reply@example.test" {
			t.Errorf("%v %v", from, err)
		}
		if head.Get("Reply-To") != `"Help" <help@example.test>` {
			t.Errorf("Reply-To %q", head.Get("Reply-To"))
		}
	})

	t.Run("fail/an address that is two", func(t *testing.T) {
		before := len(server.Got())
		for _, to := range []string{
			ann + ", victim@example.test", ann + "\r\nRCPT TO:<victim@example.test>", ann + "> <victim@example.test",
		} {
			if err := sender(t, server, "smtp://mail.example.test").deliver(t, reset(t), to); err == nil {
				t.Errorf("%q: sent", to)
			}
		}
		if got := server.Got()[before:]; len(got) != 0 {
			t.Errorf("%+v", got)
		}
	})
}

// Without a server mails are files that only their owner reads, and the log names link and code.
func TestKeep(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data", "mail")
	s := sender(t, nil, "", func(c *mail.Config) { c.Dir = dir })
	if err := s.deliver(t, reset(t), ann); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(dir + "/*")
	if err != nil || len(files) != 1 || !strings.HasSuffix(files[0], ".eml") {
		t.Fatalf("%v %v", files, err)
	}
	for name, want := range map[string]os.FileMode{files[0]: 0o600, dir: 0o700} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
	raw, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if to := (mailtest.Mail{Raw: raw}).Parse(t).Header.Get("To"); to != "<"+ann+">" {
		t.Errorf("to %q", to)
	}
	for _, want := range []string{issuer + "/password/reset?token=tok+en%261", "48213097"} {
		if !strings.Contains(strings.ReplaceAll(s.log.String(), `\u0026`, "&"), want) {
			t.Errorf("the log does not name %s: %s", want, s.log)
		}
	}
}

func TestParseServer(t *testing.T) {
	for address, want := range map[string]mail.Server{
		"smtp://mail.example.com":                   {Host: "mail.example.com", Port: 587},
		"smtps://mail.example.com":                  {Host: "mail.example.com", Port: 465, TLS: true},
		"smtp://ann%40example.com:a%3Ab@m.test:25/": {Host: "m.test", Port: 25, User: "ann@example.com", Password: "a:b"},
		"smtp://[::1]:1025":                         {Host: "::1", Port: 1025},
	} {
		if got, err := mail.ParseServer(seal.Secret(address)); err != nil || got != want {
			t.Errorf("%s: %+v, %v", address, got, err)
		}
	}
	for _, address := range []string{
		"", "mail.example.com", "http://m.test", "smtp://", "smtp://m.test/path", "smtp://m.test?a=violet", "smtp://ann@m.test",
		"smtp://:violet@m.test", "smtp://m.test:0", "smtp://m.test:99999", "smtp://ann:vi%olet@m.test",
	} {
		if got, err := mail.ParseServer(seal.Secret(address)); err == nil || strings.Contains(err.Error(), "violet") {
			t.Errorf("%s: %+v, %v", address, got, err)
		}
	}
}

func TestPausesGrowForADay(t *testing.T) {
	k := sender(t, nil, "", func(c *mail.Config) { c.Dir = t.TempDir() }).Kind()
	var last time.Duration
	for n := range 100 {
		wait := k.Wait(n)
		if wait < last || wait > 15*time.Minute {
			t.Errorf("pause %d is %v after %v", n, wait, last)
		}
		last = wait
	}
	if k.Wait(0) != 15*time.Second || last != 15*time.Minute || k.Age != 24*time.Hour || k.Attempts != 0 || k.Places != 1 ||
		k.Lease <= k.Timeout {
		t.Errorf("%+v", fmt.Sprint(k.Age, k.Attempts, k.Places, k.Lease, k.Timeout))
	}
}
