package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
)

// Explain says in plain words why a mail did not leave, and what to do about it.
func (s *Sender) Explain(err error) string {
	e, ok := errors.AsType[*SendError](err)
	if !ok || s.link == nil {
		return err.Error()
	}
	server, host := s.link.server, s.link.server.Host
	address := fmt.Sprintf("%s, port %d", host, server.Port)
	switch e.Step {
	case StepConnect:
		return explainConnect(e, server, address)
	case StepTLS:
		return explainTLS(e, host, address)
	case StepLogin:
		if e.Code == 0 {
			return fmt.Sprintf("The mail server (%s) offers no way to log in that Handstamp knows: SCRAM, PLAIN or LOGIN. "+
				"If it wants no login, leave user and password out of smtp_url. It was: %s.", address, e.Reply)
		}
		return fmt.Sprintf("The mail server refuses the login: %d %s. Check the user and the password in smtp_url; "+
			"characters of the password that mean something in a URL (@ : / ? # %%) are written as %%XX, and some "+
			"providers want a password made for programs.", e.Code, e.Reply)
	case StepSender:
		if e.Code == 530 {
			return fmt.Sprintf("The mail server wants a login: %d %s. Put user and password into smtp_url.", e.Code, e.Reply)
		}
		if e.Code == 0 {
			return fmt.Sprintf("The connection to the mail server (%s) broke: %s.", address, e.Reply)
		}
		return fmt.Sprintf("The mail server refuses the sender %s: %d %s. Set mail_from to an address that this login may "+
			"send from.", s.from.Address, e.Code, e.Reply)
	case StepRecipient:
		return explainRecipient(e)
	case StepContent:
		if e.Code == 0 {
			return fmt.Sprintf("The connection to the mail server (%s) broke while the mail was sent: %s.", address, e.Reply)
		}
		return fmt.Sprintf("The mail server has read the mail and refuses it: %d %s. If it takes it for spam, set SPF, "+
			"DKIM and DMARC up for the domain of %s.", e.Code, e.Reply, s.from.Address)
	}
	return e.Error()
}

func explainConnect(e *SendError, server Server, address string) string {
	dns, isDNS := errors.AsType[*net.DNSError](e.err)
	timeout, isNet := errors.AsType[net.Error](e.err)
	switch {
	case e.Code != 0:
		return fmt.Sprintf("The mail server (%s) does not want to talk to this machine: %d %s.", address, e.Code, e.Reply)
	case isDNS && dns.IsNotFound:
		return fmt.Sprintf("There is no host %s: the name servers do not know it. Check the host in smtp_url.", server.Host)
	case isDNS:
		return fmt.Sprintf("The name servers do not answer for %s: %s. Check the network of this machine.", server.Host,
			e.Reply)
	case errors.Is(e.err, syscall.ECONNREFUSED):
		return fmt.Sprintf("The connection to the mail server (%s) was refused: nothing listens there. Check the port in "+
			"smtp_url: 587 for smtp://, 465 for smtps://.", address)
	case isNet && timeout.Timeout(), errors.Is(e.err, context.DeadlineExceeded):
		return fmt.Sprintf("The mail server (%s) does not answer in time. A firewall is in the way, as many hosting "+
			"providers have one for mail, or the port wants %s.", address, other(server))
	}
	return fmt.Sprintf("The mail server (%s) hung up: %s. Perhaps the port wants %s.", address, e.Reply, other(server))
}

// other is the scheme that the server is not.
func other(s Server) string {
	if s.TLS {
		return "smtp:// (STARTTLS)"
	}
	return "smtps:// (TLS from the start)"
}

func explainTLS(e *SendError, host, address string) string {
	wrongName, isName := errors.AsType[x509.HostnameError](e.err)
	_, unknown := errors.AsType[x509.UnknownAuthorityError](e.err)
	invalid, isInvalid := errors.AsType[x509.CertificateInvalidError](e.err)
	_, noTLS := errors.AsType[tls.RecordHeaderError](e.err)
	switch {
	case isName && wrongName.Certificate != nil:
		return fmt.Sprintf("The certificate of the mail server is not for %s, but for %s. Set the host in smtp_url to one "+
			"of these names.", host, strings.Join(wrongName.Certificate.DNSNames, ", "))
	case unknown:
		return fmt.Sprintf("The certificate of the mail server (%s) is from an authority that this machine does not know. "+
			"Add the authority's certificate to the machine, or name its file in SSL_CERT_FILE.", address)
	case isInvalid && invalid.Reason == x509.Expired:
		return fmt.Sprintf("The certificate of the mail server (%s) has expired, or the clock of this machine is wrong.",
			address)
	case noTLS:
		return fmt.Sprintf("The mail server (%s) does not speak TLS from the start. Write smtp:// in smtp_url, for "+
			"STARTTLS.", address)
	case strings.Contains(e.Reply, "does not support STARTTLS"):
		return fmt.Sprintf("The mail server (%s) offers no STARTTLS, so passwords and links would cross the network in "+
			"the clear. Use another port (587, or smtps:// with 465), or turn TLS on at the server.", address)
	}
	return fmt.Sprintf("TLS with the mail server (%s) failed: %s.", address, e.Reply)
}

func explainRecipient(e *SendError) string {
	switch {
	case e.Code >= 400 && e.Code < 500:
		return fmt.Sprintf("The mail server does not take the mail for this recipient just now: %d %s. The service would "+
			"try again by itself, for a day.", e.Code, e.Reply)
	case e.Code == 0:
		return fmt.Sprintf("The connection to the mail server broke: %s.", e.Reply)
	case strings.Contains(strings.ToLower(e.Reply), "relay"):
		return fmt.Sprintf("The mail server passes no mail on for us: %d %s. It probably wants a login: put user and "+
			"password into smtp_url.", e.Code, e.Reply)
	case !e.permanent():
		return fmt.Sprintf("The mail server refuses the mail because of its sender: %d %s. Check the login in smtp_url, "+
			"and mail_from.", e.Code,
			e.Reply)
	}
	return fmt.Sprintf("The mail server refuses this recipient: %d %s.", e.Code, e.Reply)
}
