package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/handstamp/handstamp/pkg/egress"
)

// metadataAge is how long a provider's metadata is used before it is fetched again.
const metadataAge = time.Hour

// metadata is what is known of a provider at the moment, from its discovery document (OpenID Connect Discovery 1.0,
// section 3) or from the configuration.
type metadata struct {
	Issuer        string
	Authorization string
	Token         string
	Userinfo      string // empty if there is none
	JWKS          string
	Algorithms    []string // of ID tokens
	TokenAuth     []string // the ways in which clients authenticate
	Scopes        []string
	// IssParameter promises an iss in every authorization response (RFC 9207, section 3).
	IssParameter bool

	keys *keySet // nil for providers without ID tokens
}

// metadata returns what is known of the provider, fetching it if need be.
func (p *Provider) metadata(ctx context.Context) (*metadata, error) {
	m, err := p.discovered.load(ctx, metadataAge)
	if err != nil {
		return nil, p.callFailed("read metadata", err)
	}
	return m, nil
}

// discover reads the discovery document.
func (p *Provider) discover(ctx context.Context, previous *metadata) (*metadata, error) {
	var c claims
	if err := get(ctx, p.client, strings.TrimSuffix(p.cfg.Issuer, "/")+"/.well-known/openid-configuration", "", &c); err != nil {
		return nil, err
	}
	m := metadata{
		Issuer:        c.text("issuer"),
		Authorization: c.text("authorization_endpoint"),
		Token:         c.text("token_endpoint"),
		Userinfo:      c.text("userinfo_endpoint"),
		JWKS:          c.text("jwks_uri"),
		Algorithms:    c.texts("id_token_signing_alg_values_supported"),
		TokenAuth:     c.texts("token_endpoint_auth_methods_supported"),
		Scopes:        c.texts("scopes_supported"),
		IssParameter:  c.isTrue("authorization_response_iss_parameter_supported"),
	}
	// Discovery, section 4.3: the document must be the issuer's own.
	if m.Issuer != p.cfg.Issuer && (p.cfg.Type != Microsoft || !sameMicrosoft(m.Issuer, p.cfg.Issuer)) {
		return nil, p.fail(ErrInvalidAnswer, "read metadata",
			fmt.Errorf("the document is of issuer %q, not %q", cleanText(m.Issuer, 200), p.cfg.Issuer))
	}
	// The browser is sent to one of these and the client secret to another, so they keep the rules of the configuration.
	for _, endpoint := range []struct{ name, address string }{
		{"authorization_endpoint", m.Authorization}, {"token_endpoint", m.Token}, {"jwks_uri", m.JWKS},
	} {
		if err := egress.CheckURL(endpoint.address, p.cfg.egress()); err != nil {
			return nil, p.fail(ErrInvalidAnswer, "read metadata", fmt.Errorf("%s: %w", endpoint.name, err))
		}
	}
	if err := egress.CheckURL(m.Userinfo, p.cfg.egress()); err != nil && m.Userinfo != "" { // a provider may be without it
		p.passOver(ctx, "userinfo_endpoint of the metadata", err)
		m.Userinfo = ""
	}
	m.Algorithms = slices.DeleteFunc(m.Algorithms, func(a string) bool { return !slices.Contains(signatureAlgorithms(), a) })
	if len(m.Algorithms) == 0 {
		m.Algorithms = []string{"RS256"} // Discovery, section 3: it must be supported
	}
	if previous != nil && previous.JWKS == m.JWKS && slices.Equal(previous.Algorithms, m.Algorithms) {
		m.keys = previous.keys
	} else {
		m.keys = newKeySet(p, m.JWKS, m.Algorithms)
	}
	return &m, nil
}

// configured makes the metadata of a provider that publishes none.
func (p *Provider) configured(context.Context, *metadata) (*metadata, error) {
	e := p.cfg.Endpoints
	return &metadata{Issuer: p.cfg.Issuer, Authorization: e.Authorization, Token: e.Token, Userinfo: e.Userinfo}, nil
}

// Microsoft serves many tenants, each an issuer of its own, from documents that name none of them.
const (
	tenantPlaceholder = "{tenantid}"
	tenantIDPattern   = `[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`
)

func isTenantID(s string) bool { return regexp.MustCompile(`^` + tenantIDPattern + `$`).MatchString(s) }

// microsoftIssuer reports whether an issuer has the form .../TENANT/v2.0.
func microsoftIssuer(issuer string) bool {
	u, err := url.Parse(issuer)
	return err == nil && regexp.MustCompile(`^/[^/]+/v2\.0$`).MatchString(u.Path)
}

// sameMicrosoft reports whether the discovered issuer stands for the tenants behind the configured one: same place, with
// the placeholder or a tenant ID for the alias (common, organizations, consumers).
func sameMicrosoft(discovered, configured string) bool {
	base, ok := strings.CutSuffix(discovered, "/v2.0")
	if !ok {
		return false
	}
	for _, alias := range []string{"common", "organizations", "consumers"} {
		place, ok := strings.CutSuffix(configured, "/"+alias+"/v2.0")
		tenant, same := strings.CutPrefix(base, place+"/")
		if ok && same && (tenant == tenantPlaceholder || isTenantID(tenant)) {
			return true
		}
	}
	return false
}

// errIssuer is not more precise on purpose: the values are in the token, which is not quoted.
var errIssuer = errors.New("issuer does not match")
