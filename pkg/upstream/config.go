package upstream

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/handstamp/handstamp/pkg/egress"
	"github.com/handstamp/handstamp/pkg/seal"
)

// Type is the kind of a provider.
type Type string

// The types of providers.
const (
	Google    Type = "google"
	GitHub    Type = "github"
	Microsoft Type = "microsoft"
	Apple     Type = "apple"
	OIDC      Type = "oidc"   // any OpenID provider with a discovery document
	OAuth2    Type = "oauth2" // any OAuth 2 server with an endpoint that tells who the user is
)

// Config is one provider of the configuration file.
type Config struct {
	ID     string `yaml:"id"` // part of the callback: /oauth2/callback/{id}
	Type   Type   `yaml:"type"`
	Name   string `yaml:"name"`   // what the user reads on the button; the type's own name if empty
	Issuer string `yaml:"issuer"` // where the metadata is, and what ID tokens and callbacks must say; the type's own if empty

	ClientID string `yaml:"client_id"`
	// ClientSecret, or the content of ClientSecretFile. Apple has none, see Apple.
	ClientSecret     seal.Secret `yaml:"client_secret"`
	ClientSecretFile string      `yaml:"client_secret_file"`
	// NativeClientIDs are client IDs of our mobile applications at the provider: ID tokens for them are accepted
	// by VerifyIDToken as well.
	NativeClientIDs []string `yaml:"native_client_ids"`
	// TokenAuth is client_secret_basic or client_secret_post. If empty: what the provider's metadata says, else what the
	// provider is known to want, else client_secret_basic (RFC 6749, section 2.3.1).
	TokenAuth string `yaml:"token_endpoint_auth_method"`

	Scopes    []string  `yaml:"scopes"`    // replace the type's own; OpenID providers get openid in any case
	Endpoints Endpoints `yaml:"endpoints"` // of type github (an enterprise server) and oauth2
	Claims    Claims    `yaml:"claims"`    // of type oauth2

	HostedDomain string   `yaml:"hosted_domain"` // of type google: only users of this Workspace domain
	Tenants      []string `yaml:"tenants"`       // of type microsoft: only users of these tenant IDs; empty for any
	Apple        AppleKey `yaml:"apple"`         // of type apple

	// TrustEmail says that an address which this provider calls verified proves who the user is, so that it
	// links to an existing user and makes a new one verified. If not set: true for google, github, microsoft and apple,
	// which say "verified" only of what they proved; false for oidc and oauth2.
	TrustEmail *bool `yaml:"trust_email"`
	// KeepTokens asks for the provider's tokens to be handed on, to be kept sealed. Otherwise they are dropped.
	KeepTokens bool `yaml:"keep_tokens"`
	// DisableSignup keeps people out who are not users yet.
	DisableSignup bool `yaml:"disable_signup"`
	// AllowPrivateNetwork lets this provider be on a loopback or private address, and on loopback without TLS.
	AllowPrivateNetwork bool `yaml:"allow_private_network"`
}

// Endpoints are the URLs of a provider that publishes no metadata.
type Endpoints struct {
	Authorization string `yaml:"authorization"`
	Token         string `yaml:"token"`
	Userinfo      string `yaml:"userinfo"` // GitHub: .../user
	Emails        string `yaml:"emails"`   // GitHub only: .../user/emails
}

// Claims name the members of an OAuth 2 provider's user document. Empty ones stand for OpenID's names, except that
// EmailVerified has to be named: a member that is called so by chance proves nothing.
type Claims struct {
	Subject       string `yaml:"subject"`
	Email         string `yaml:"email"`
	EmailVerified string `yaml:"email_verified"`
	Name          string `yaml:"name"`
}

// AppleKey is the key that Apple wants client secrets to be signed with.
type AppleKey struct {
	TeamID string `yaml:"team_id"`
	KeyID  string `yaml:"key_id"`
	// PrivateKey is the .p8 file's text, or PrivateKeyFile names it.
	PrivateKey     seal.Secret `yaml:"private_key"`
	PrivateKeyFile string      `yaml:"private_key_file"`
}

// preset is what is known of a type of provider.
type preset struct {
	name      string
	issuer    string
	openID    bool // speaks OpenID Connect, with a discovery document
	scopes    []string
	endpoints Endpoints
	tokenAuth string
	trust     bool
}

func presetOf(t Type) (preset, bool) {
	switch t {
	case Google:
		return preset{name: "Google", issuer: "https://accounts.google.com", openID: true, trust: true,
			scopes: []string{"openid", "email", "profile"}}, true
	case Microsoft:
		return preset{name: "Microsoft", issuer: "https://login.microsoftonline.com/common/v2.0", openID: true, trust: true,
			scopes: []string{"openid", "email", "profile"}}, true
	case Apple:
		return preset{name: "Apple", issuer: "https://appleid.apple.com", openID: true, trust: true,
			scopes: []string{"openid", "email", "name"}, tokenAuth: authPost}, true
	case GitHub:
		return preset{name: "GitHub", issuer: "https://github.com/login/oauth", trust: true, tokenAuth: authPost,
			scopes: []string{"read:user", "user:email"},
			endpoints: Endpoints{
				Authorization: "https://github.com/login/oauth/authorize", Token: "https://github.com/login/oauth/access_token",
				Userinfo: "https://api.github.com/user", Emails: "https://api.github.com/user/emails",
			}}, true
	case OIDC:
		return preset{openID: true, scopes: []string{"openid", "email", "profile"}}, true
	case OAuth2:
		return preset{}, true
	}
	return preset{}, false
}

// The two ways to show a client secret (OpenID Connect Core 1.0, section 9).
const (
	authBasic = "client_secret_basic"
	authPost  = "client_secret_post"
)

// complete fills in what the type says. The configuration must be valid.
func (c Config) complete() Config {
	known, _ := presetOf(c.Type)
	if c.Name == "" {
		c.Name = known.name
	}
	if c.Name == "" {
		c.Name = c.ID
	}
	if c.Endpoints == (Endpoints{}) {
		c.Endpoints = known.endpoints
		if c.Issuer == "" {
			c.Issuer = known.issuer
		}
	} // else it is another server, whose issuer is not the preset's
	if len(c.Scopes) == 0 {
		c.Scopes = known.scopes
	}
	c.Scopes = slices.Clone(c.Scopes)
	if known.openID && !slices.Contains(c.Scopes, "openid") {
		c.Scopes = append(c.Scopes, "openid")
	}
	if c.TokenAuth == "" {
		c.TokenAuth = known.tokenAuth
	}
	if c.TrustEmail == nil {
		c.TrustEmail = &known.trust
	}
	if c.Claims.Subject == "" {
		c.Claims.Subject = "sub"
	}
	if c.Claims.Email == "" {
		c.Claims.Email = "email"
	}
	if c.Claims.Name == "" {
		c.Claims.Name = "name"
	}
	return c
}

// ReadFiles reads what ClientSecretFile and Apple.PrivateKeyFile name. All faults are reported together.
func (c *Config) ReadFiles() error {
	return errors.Join(
		c.readFile("client_secret", &c.ClientSecretFile, &c.ClientSecret),
		c.readFile("apple.private_key", &c.Apple.PrivateKeyFile, &c.Apple.PrivateKey),
	)
}

func (c *Config) readFile(setting string, path *string, into *seal.Secret) error {
	if *path == "" {
		return nil
	}
	if *into != "" {
		return c.fault(setting, "is given twice: remove either it or "+setting+"_file")
	}
	secret, err := seal.ReadFile(*path)
	if err != nil {
		return c.fault(setting+"_file", fmt.Sprintf("can't be read: %v", err))
	}
	*into = secret
	return nil
}

func (c Config) fault(setting, text string) error {
	return fmt.Errorf("providers[%s].%s %s", c.ID, setting, text)
}

// Validate reports every fault in the providers' configuration, each with its remedy; nil if there is none. Files are
// read before (ReadFiles).
func Validate(configs []Config) error {
	var faults []error
	seen := make(map[string]bool, len(configs))
	for _, c := range configs {
		if seen[c.ID] {
			faults = append(faults, c.fault("id", "is used twice: give each provider an ID of its own"))
		}
		seen[c.ID] = true
		faults = append(faults, c.faults()...)
	}
	return errors.Join(faults...)
}

// egress says what may be called on the provider's behalf.
func (c Config) egress() egress.Options {
	return egress.Options{PrivateNetworks: c.AllowPrivateNetwork}
}

func (c Config) faults() []error {
	known, ok := presetOf(c.Type)
	if !ok {
		return []error{c.fault("type", fmt.Sprintf("%q is not known: use google, github, microsoft, apple, oidc or oauth2", c.Type))}
	}
	effective := c.complete()
	url := func(s string) bool { return egress.CheckURL(s, c.egress()) == nil }
	e := effective.Endpoints
	_, keyErr := parseAppleKey(c.Apple.PrivateKey)
	rows := []struct {
		faulty        bool
		setting, text string
	}{
		{!regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`).MatchString(c.ID), "id",
			"must be 1 to 32 lower-case letters, digits or hyphens: it is part of the callback URL"},
		{c.ClientID == "", "client_id", "is missing: register Handstamp at the provider and copy the client ID"},
		{c.ClientSecret == "" && slices.Contains([]Type{Google, GitHub, Microsoft}, c.Type), "client_secret",
			"is missing: create a client secret at the provider, or name a file in client_secret_file"},
		{c.ClientSecret != "" && c.Type == Apple, "client_secret",
			"is not used for Apple: set apple.team_id, apple.key_id and apple.private_key instead"},
		{c.Type == Apple && c.Apple.TeamID == "", "apple.team_id",
			"is missing: it is shown in the Apple developer account's membership page"},
		{c.Type == Apple && c.Apple.KeyID == "", "apple.key_id",
			"is missing: it is shown beside the key in the Apple developer account"},
		{c.Type == Apple && keyErr != nil, "apple.private_key",
			"is not the text of a .p8 key: name the downloaded file in apple.private_key_file"},
		{c.Type != Apple && c.Apple != AppleKey{}, "apple", "is for type apple only: remove it"},
		{c.Type == OIDC && c.Issuer == "", "issuer",
			"is missing: set the provider's issuer URL, to which /.well-known/openid-configuration is added"},
		{c.Issuer != "" && !url(c.Issuer), "issuer", urlRemedy},
		{c.Type == Microsoft && !microsoftIssuer(effective.Issuer), "issuer",
			"must end in /TENANT/v2.0, for example https://login.microsoftonline.com/common/v2.0"},
		{known.openID && c.Endpoints != Endpoints{}, "endpoints",
			"are read from the provider's metadata: remove them, or use type oauth2"},
		{!known.openID && !url(e.Authorization), "endpoints.authorization", urlRemedy},
		{!known.openID && !url(e.Token), "endpoints.token", urlRemedy},
		{!known.openID && !url(e.Userinfo), "endpoints.userinfo", urlRemedy},
		{c.Type == GitHub && !url(e.Emails), "endpoints.emails", urlRemedy + "; an enterprise server needs all four"},
		{c.Type == OAuth2 && e.Emails != "", "endpoints.emails", "is for type github only: remove it"},
		{c.Type != OAuth2 && c.Claims != Claims{}, "claims", "are for type oauth2 only: remove them"},
		{c.TokenAuth != "" && c.TokenAuth != authBasic && c.TokenAuth != authPost, "token_endpoint_auth_method",
			"must be client_secret_basic or client_secret_post"},
		{c.HostedDomain != "" && c.Type != Google, "hosted_domain", "is for type google only: remove it"},
		{c.HostedDomain != strings.ToLower(c.HostedDomain) || strings.ContainsAny(c.HostedDomain, "@/ "), "hosted_domain",
			"must be a lower-case domain such as example.com"},
		{len(c.Tenants) > 0 && c.Type != Microsoft, "tenants", "are for type microsoft only: remove them"},
		{slices.ContainsFunc(c.Tenants, func(s string) bool { return !isTenantID(s) }), "tenants",
			"must be tenant IDs (lower-case GUIDs), not names: see the overview page of Entra ID"},
		{c.Type == Microsoft && !slices.Contains(effective.Scopes, "profile"), "scopes",
			"must contain profile: the oid claim, by which users are recognized, comes with it"},
		{len(c.NativeClientIDs) > 0 && !known.openID, "native_client_ids",
			"need ID tokens, which this type does not have: remove them"},
		{slices.Contains(c.NativeClientIDs, ""), "native_client_ids", "contain an empty ID: remove it"},
		{slices.ContainsFunc(c.Scopes, func(s string) bool { return s == "" || strings.ContainsAny(s, " \"\\") }), "scopes",
			"must be a list with one scope an entry"},
	}
	var faults []error
	for _, row := range rows {
		if row.faulty {
			faults = append(faults, c.fault(row.setting, row.text))
		}
	}
	return faults
}

const urlRemedy = "must be an https URL without user and fragment (http only on loopback, with allow_private_network)"

// parseAppleKey reads the .p8 file that Apple hands out: a P-256 key in PKCS #8.
func parseAppleKey(text seal.Secret) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("not PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("not PKCS #8")
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve.Params().BitSize != 256 {
		return nil, errors.New("not a P-256 key")
	}
	return key, nil
}
