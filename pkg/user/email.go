package user

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// ParseEmail returns the address in NFC, without space around it, if mail can be sent to it, else ErrInvalidEmail. It takes
// what an e-mail field of HTML takes (HTML Standard, section 4.10.5.1.5), so also what RFC 5322 calls obsolete: "a..b@" is a
// real mailbox in Japan. Beyond that it takes the letters of other scripts (RFC 6531). The domain stays as it was typed:
// "bücher.example" and "xn--bcher-kva.example" are two spellings of one, see [EmailKey].
func ParseEmail(s string) (string, error) {
	s = strings.TrimSpace(s)
	disguised := strings.ContainsFunc(s, disguisesASCII)
	s = norm.NFC.String(s)
	local, domain, found := strings.Cut(s, "@")
	if !found || disguised || len(s) > MaxEmailLength || len(local) > 64 || !utf8.ValidString(s) ||
		strings.ContainsFunc(s, unprintable) {
		return "", ErrInvalidEmail
	}
	if local == "" || strings.ContainsFunc(local, notInLocal) || !isDomain(domain) {
		return "", ErrInvalidEmail
	}
	return s, nil
}

// disguisesASCII reports whether NFC makes an ASCII character of r, as it does of the Kelvin sign. A mail server may well
// hold the two apart.
func disguisesASCII(r rune) bool {
	return r > unicode.MaxASCII && norm.NFC.String(string(r))[0] <= unicode.MaxASCII
}

func notInLocal(r rune) bool {
	return r <= unicode.MaxASCII && !isAlphanumeric(r) && !strings.ContainsRune(".!#$%&'*+/=?^_`{|}~-", r)
}

func isDomain(domain string) bool {
	ascii, err := asciiOf(domain)
	if err != nil || len(ascii) > 253 {
		return false
	}
	for label := range strings.SplitSeq(ascii, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || strings.ContainsFunc(label, notInLabel) {
			return false
		}
	}
	return true
}

func notInLabel(r rune) bool { return !isAlphanumeric(r) && r != '-' }

func isAlphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

func unprintable(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsControl(r) || r == utf8.RuneError || unicode.Is(unicode.Cf, r)
}

// international reports whether a domain has a second spelling.
func international(domain string) bool {
	return strings.ContainsFunc(domain, func(r rune) bool { return r > unicode.MaxASCII }) ||
		strings.Contains(strings.ToLower(domain), "xn--")
}

// asciiOf returns the spelling of a domain that the name servers know (UTS 46, non-transitional), in lower case.
func asciiOf(domain string) (string, error) {
	if !international(domain) {
		return strings.ToLower(domain), nil
	}
	return idna.Lookup.ToASCII(domain)
}

// EmailKey is the form under which an address is unique, found and limited: NFC, case folded, the domain as it reads. The
// fold is wide. It holds "fußball" and "fussball" for one, so that nobody signs up with an address that looks like
// another's; so it proves nothing, see [SameMailbox]. Both databases store it, so that neither one's collation decides
// who is who.
func EmailKey(email string) string {
	local, domain, found := strings.Cut(norm.NFC.String(email), "@")
	if found && international(domain) {
		if readable, err := idna.Lookup.ToUnicode(domain); err == nil {
			domain = readable
		}
	}
	if found {
		domain = "@" + domain
	}
	return norm.NFC.String(cases.Fold().String(local + domain))
}

// SameMailbox reports whether two addresses name one mailbox for certain, so that proof of the one is proof of the other.
// Both come from [ParseEmail]. Domains are compared as the name servers do, local parts without regard to the case of ASCII
// letters only: whether "ſ" and "s" reach the same person is known to that mail server alone.
func SameMailbox(a, b string) bool {
	localA, domainA, foundA := strings.Cut(a, "@")
	localB, domainB, foundB := strings.Cut(b, "@")
	if !foundA || !foundB || asciiLower(localA) != asciiLower(localB) {
		return false
	}
	asciiA, err := asciiOf(domainA)
	if err != nil {
		return false
	}
	asciiB, err := asciiOf(domainB)
	return err == nil && asciiA == asciiB
}

func asciiLower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + ('a' - 'A')
		}
		return r
	}, s)
}
