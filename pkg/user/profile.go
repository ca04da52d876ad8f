package user

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"golang.org/x/text/language"
)

// maxURLLength and maxTagLength bound attributes, in bytes (BCP 47, section 4.4.1, for language tags; the longest name of a time
// zone has 32).
const (
	maxURLLength = 2048
	maxTagLength = 64
)

// ErrInvalidAttribute says that a text cannot be the value of an attribute; the error's text says of which, and why.
var ErrInvalidAttribute = errors.New("attribute")

// Profile are the optional attributes of a user, named as in OpenID Connect Core, section 5.1. Empty ones are not set.
type Profile struct {
	GivenName         string `json:"given_name,omitempty"`
	FamilyName        string `json:"family_name,omitempty"`
	PreferredUsername string `json:"preferred_username,omitempty"`
	Picture           string `json:"picture,omitempty"`
	Website           string `json:"website,omitempty"`
	Locale            string `json:"locale,omitempty"`
	Zoneinfo          string `json:"zoneinfo,omitempty"`
}

// Change says what to change in a user's record.
type Change struct {
	Name    *string            // nil leaves it
	Profile map[string]*string // attributes by name; nil removes one
}

// Set notes that an attribute becomes a text, which is checked. An empty one removes the attribute. ErrInvalidAttribute.
func (c *Change) Set(name, text string) error {
	if c.Profile == nil {
		c.Profile = map[string]*string{}
	}
	if text = strings.TrimSpace(text); text == "" {
		c.Profile[name] = nil
		return nil
	}
	value, err := parseAttribute(name, text)
	if err != nil {
		return err
	}
	c.Profile[name] = &value
	return nil
}

// ProfileOf returns the attributes among texts by name, without those that are not valid: somebody else's word for them is not
// worth refusing a login.
func ProfileOf(text func(name string) string) (p Profile) {
	for name, to := range map[string]*string{
		"given_name": &p.GivenName, "family_name": &p.FamilyName, "preferred_username": &p.PreferredUsername, "picture": &p.Picture,
		"website": &p.Website, "locale": &p.Locale, "zoneinfo": &p.Zoneinfo,
	} {
		if value, err := parseAttribute(name, strings.TrimSpace(text(name))); err == nil {
			*to = value
		}
	}
	return p
}

// parseAttribute returns an attribute in the form in which it is kept.
func parseAttribute(name, text string) (string, error) {
	fault := func(must string) (string, error) {
		return "", fmt.Errorf("%w %s must be %s", ErrInvalidAttribute, name, must)
	}
	switch name {
	case "given_name", "family_name", "preferred_username":
		// Applications that look people up by preferred_username must not find another's address in it.
		if name == "preferred_username" && strings.Contains(text, "@") {
			return fault("without @: an address is the claim email")
		}
		value, err := ParseName(text)
		if err != nil {
			return fault(fmt.Sprintf("at most %d characters without control characters", MaxNameLength))
		}
		return value, nil
	case "picture", "website":
		u, err := url.Parse(text)
		if err != nil || len(text) > maxURLLength || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
			return fault("an absolute http or https address of at most 2048 bytes")
		}
		return text, nil
	case "locale":
		// Some providers write de_DE (OpenID Connect Core, section 5.1).
		tag, err := language.Parse(text)
		if err != nil || len(text) > maxTagLength {
			return fault("a language tag such as de or pt-BR")
		}
		return tag.String(), nil
	case "zoneinfo":
		if len(text) > maxTagLength || !strings.Contains(text, "/") && text != "UTC" || strings.ContainsFunc(text, notInZone) {
			return fault("the name of a time zone such as Europe/Vienna")
		}
		return text, nil
	}
	return fault("an attribute that is known")
}

func notInZone(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_/+-", r)
}
