package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/pkg/account"
	"github.com/handstamp/handstamp/pkg/mail"
	"github.com/handstamp/handstamp/pkg/password"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/store/sqlite"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// Config is every setting. Each has a flag, an environment variable and a key in handstamp.yaml, which settings lists.
type Config struct {
	service.Config
	TLSCert           string
	TLSKey            string
	TLSRedirectListen string
	MetricsListen     string
	LogLevel          string
	LogFormat         string
	ShutdownTimeout   time.Duration

	// demoListen is the address of the demo, empty without it.
	demoListen string

	// file is where the settings were read from, empty if there was none, and secretsInFile says that secrets stand there.
	// metricsListenSet says that an operator asked for it.
	file             string
	secretsInFile    bool
	metricsListenSet bool
}

func defaultConfig() Config {
	return Config{
		Config:          service.DefaultConfig(),
		MetricsListen:   "127.0.0.1:9464",
		LogLevel:        "info",
		LogFormat:       "auto",
		ShutdownTimeout: 15 * time.Second,
	}
}

// setting is one row of the table of settings. Its name is the key in the file; the environment variable is HANDSTAMP_
// and the name in capitals, the flag has dashes for underscores.
type setting struct {
	name   string
	help   string
	secret bool // has a _FILE variant, and is not printed
	value  value
}

func (s setting) env() string  { return "HANDSTAMP_" + strings.ToUpper(s.name) }
func (s setting) flag() string { return strings.ReplaceAll(s.name, "_", "-") }

// value reads and prints one kind of setting.
type value struct {
	kind string
	set  func(string) error
	show func() string
}

func text(p *string) value {
	return value{"text", func(s string) error { *p = s; return nil }, func() string { return *p }}
}

func secret(p *seal.Secret) value {
	return value{"text", func(s string) error { *p = seal.Secret(s); return nil }, func() string { return p.String() }}
}

// address is a URL with a password in it, unless it is a path.
func address(p *seal.Secret) value {
	v := secret(p)
	v.show = func() string {
		if strings.HasPrefix(string(*p), sqlite.Prefix) {
			return string(*p)
		}
		return p.String()
	}
	return v
}

func list(p *[]string) value {
	return value{"list", func(s string) error {
		*p = nil
		for item := range strings.SplitSeq(s, ",") {
			if item = strings.TrimSpace(item); item != "" {
				*p = append(*p, item)
			}
		}
		return nil
	}, func() string { return strings.Join(*p, ",") }}
}

// labelled is a list of texts that have a name each, as NAME=TEXT. A comma in a text is one.
func labelled(p *[]string) value {
	return value{"list", func(s string) error {
		*p = nil
		for piece := range strings.SplitSeq(s, ",") {
			switch {
			case strings.Contains(piece, "="):
				*p = append(*p, strings.TrimSpace(piece))
			case len(*p) > 0:
				(*p)[len(*p)-1] += "," + piece
			case strings.TrimSpace(piece) != "":
				return fmt.Errorf("%q is not of the form NAME=TEXT", strings.TrimSpace(piece))
			}
		}
		return nil
	}, func() string { return strings.Join(*p, ",") }}
}

func number(p *int) value {
	return value{"number", func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", s)
		}
		*p = n
		return nil
	}, func() string { return strconv.Itoa(*p) }}
}

func toggle(p *bool) value {
	return value{"true|false", func(s string) error {
		b, err := strconv.ParseBool(s)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", s)
		}
		*p = b
		return nil
	}, func() string { return strconv.FormatBool(*p) }}
}

// duration reads Go durations such as 10s and 15m, and days: 30d.
func duration(p *time.Duration) value {
	return value{"duration", func(s string) error {
		if days, ok := strings.CutSuffix(s, "d"); ok {
			if n, err := strconv.Atoi(days); err == nil && n >= 0 && n <= 36500 {
				*p = time.Duration(n) * 24 * time.Hour
				return nil
			}
		}
		d, err := time.ParseDuration(s)
		if err != nil {
			return fmt.Errorf("%q is not a duration such as 10s, 15m or 30d", s)
		}
		*p = d
		return nil
	}, func() string { return p.String() }}
}

// settings is the one table of settings.
func settings(c *Config) []setting {
	return []setting{
		{"issuer", "public address of this service, the iss of its tokens; default http://LISTEN on loopback", false,
			text(&c.Issuer)},
		{"listen", "address to listen on", false, text(&c.Listen)},
		{"database_url", "sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE", true, address(&c.DatabaseURL)},
		{"migrate", "bring a PostgreSQL schema up to date when serve starts (serve always does so for SQLite)", false,
			toggle(&c.Migrate)},
		{"keys_dir", "directory of the master key; made at the first start", false, text(&c.KeysDir)},
		{"master_key", "master key in base64 (32 bytes) instead of the file in keys_dir; the same on every replica", true,
			secret(&c.MasterKey)},
		{"audience", "aud of tokens whose client has no audience of its own; default the issuer", false, list(&c.Audience)},
		{"access_token_lifetime", "lifetime of an access token, at most 1h", false, duration(&c.AccessTokenLifetime)},
		{"refresh_idle_lifetime", "a session ends after this long without a refresh", false, duration(&c.RefreshIdleLifetime)},
		{"refresh_lifetime", "a session ends after this long, no matter how often it is refreshed", false,
			duration(&c.RefreshLifetime)},
		{"refresh_grace", "how long a repeat of a rotated refresh token gets the same answer (0s to 300s)", false,
			duration(&c.RefreshGrace)},
		{"session_limit", "live sessions of one user; a new one beyond it ends the oldest", false, number(&c.SessionLimit)},
		{"signing_algorithm", "ES256, EdDSA or RS256; ES256 and RS256 are always available to clients", false,
			text(&c.SigningAlgorithm)},
		{"jwks_max_age", "how long verifiers may cache the public keys", false, duration(&c.JWKSMaxAge)},
		{"key_rotation", "how long a signing key signs", false, duration(&c.KeyRotation)},
		{"key_publish_ahead", "how long a scheduled key is published before it signs, at most half of key_rotation", false,
			duration(&c.KeyPublishAhead)},
		{"audit_retention", "how long the audit log keeps security events; 0 keeps them forever", false,
			duration(&c.AuditRetention)},
		{"status_list", "whether access tokens refer to a status list, for resource servers that do not follow the blocklist", false,
			toggle(&c.StatusList)},
		{"signals_private_network", "whether security events may be pushed to receivers in private networks, and on loopback with " +
			"plain http", false, toggle(&c.SignalsPrivate)},
		{"signup", "whether anyone may sign up", false, toggle(&c.Signup)},
		{"password_min_length", "minimum length of a new password in characters (NIST wants 15 without a second factor)", false,
			number(&c.PasswordMinLength)},
		{"password_memory", "argon2id memory in KiB", false, number(&c.Argon2Memory)},
		{"password_time", "argon2id passes", false, number(&c.Argon2Time)},
		{"password_threads", "argon2id lanes", false, number(&c.Argon2Threads)},
		{"password_concurrency", "passwords hashed at once; 0 for the number of processors less one", false,
			number(&c.PasswordConcurrency)},
		{"password_queue", "logins that may wait for their turn; 0 for 32 times password_concurrency", false,
			number(&c.PasswordQueue)},
		{"login_attempts", "password attempts that an account may use at once", false, number(&c.LoginAttempts)},
		{"login_attempt_interval", "an account gets one more attempt this often", false, duration(&c.LoginAttemptEvery)},
		{"login_ip_failures", "failed logins that one address (IPv6: a /64) may use at once; 0 for no limit", false,
			number(&c.LoginIPFailures)},
		{"login_ip_failure_interval", "an address gets one more failure this often", false, duration(&c.LoginIPFailureEvery)},
		{"login_ip_concurrency", "logins and sign-ups that one address may have under way; 0 for half of what may be under way at all",
			false, number(&c.LoginIPConcurrency)},
		{"signup_ip_limit", "sign-ups that one address may use at once; 0 for no limit", false, number(&c.SignupIPLimit)},
		{"signup_ip_interval", "an address gets one more sign-up this often", false, duration(&c.SignupIPEvery)},
		{"busy_ip_limit", "answers \"busy\" that one address may use up at once before its logins are refused for a while; 0 for no " +
			"limit", false, number(&c.BusyIPLimit)},
		{"busy_ip_interval", "an address gets one more such answer this often", false, duration(&c.BusyIPEvery)},
		{"refusal_hold", "how long the refusal of a login is held back at most while there are many, so that a client that ignores " +
			"Retry-After does not ask without a pause; 0 for not at all", false, duration(&c.RefusalHold)},
		{"refusals_held", "refusals that are held back at once; each takes up some 30 KB", false, number(&c.RefusalsHeld)},
		{"brand_name", "name at the head of the hosted pages", false, text(&c.BrandName)},
		{"brand_logo", "logo of the hosted pages: an SVG, PNG, JPEG or WebP file", false, text(&c.BrandLogo)},
		{"brand_logo_dark", "logo for the dark scheme", false, text(&c.BrandLogoDark)},
		{"brand_accent", "colour of buttons and links, #rrggbb", false, text(&c.BrandAccent)},
		{"brand_accent_dark", "the same for the dark scheme", false, text(&c.BrandAccentDark)},
		{"support_url", "help page, linked at the foot of the hosted pages", false, text(&c.SupportURL)},
		{"privacy_url", "privacy policy, linked at the foot of the hosted pages", false, text(&c.PrivacyURL)},
		{"terms_url", "terms of use, linked at the foot of the hosted pages", false, text(&c.TermsURL)},
		{"home_url", "your application: where a person goes on who opens the address of the service, or a bookmark of its login page",
			false, text(&c.HomeURL)},
		{"change_password_url", "page of your application where a person changes the password (/.well-known/change-password); " +
			"default home_url", false, text(&c.ChangePasswordURL)},
		{"languages_dir", "directory of further languages of the hosted pages, as LANGUAGE.json", false, text(&c.LanguagesDir)},
		{
			"scopes", "what your scopes mean, as SCOPE=TEXT, in the order in which the consent page shows them; a text " +
				"scope.SCOPE in languages_dir translates one",
			false, labelled(&c.Scopes),
		},
		{"feed_readers", "callers who read the blocklist at once; 0 for no limit", false, number(&c.FeedReaders)},
		{"feed_readers_per_address", "the same for one address; 0 for no limit", false, number(&c.FeedReadersPerAddress)},
		{"feed_streams", "streams of the blocklist at once; 0 for half of the connections that the limit of open files allows, at " +
			"most 10000", false, number(&c.FeedStreams)},
		{"feed_streams_per_address", "the same for one address; 0 for a quarter of feed_streams", false,
			number(&c.FeedStreamsPerAddress)},
		{"smtp_url", "mail server: smtp://USER:PASSWORD@HOST:587, which has to offer STARTTLS unless it is on loopback, or " +
			"smtps://USER:PASSWORD@HOST:465; without it a loopback issuer keeps mails as files beside the database (data/mail), and " +
			"others send none", true, secret(&c.SMTPURL)},
		{"mail_from", "sender of mails, as ADDRESS or NAME <ADDRESS>; the name defaults to brand_name", false, text(&c.MailFrom)},
		{"mail_reply_to", "address for answers to mails; empty for none", false, text(&c.MailReplyTo)},
		{"mail_recipient_limit", "mails that anybody may have sent to one address at once, by asking for links or codes; login codes " +
			"are counted apart", false, number(&c.MailRecipientLimit)},
		{"mail_recipient_interval", "an address gets one more this often", false, duration(&c.MailRecipientEvery)},
		{"email_verification", "off, optional (who signs up is sent a mail) or required (no session before the address is proven); " +
			"default optional with smtp_url, off without", false, text(&c.EmailVerification)},
		{"mail_ip_limit", "mails that one client address may ask for, and codes that it may try, at once; 0 for any number", false,
			number(&c.MailIPLimit)},
		{"mail_ip_interval", "a client address gets one more this often", false, duration(&c.MailIPEvery)},
		{"trusted_proxies", "addresses or networks of proxies whose X-Forwarded-For is trusted", false, list(&c.TrustedProxies)},
		{"tls_cert", "certificate chain in PEM, read again when it changes", false, text(&c.TLSCert)},
		{"tls_key", "private key of tls_cert in PEM", false, text(&c.TLSKey)},
		{"tls_redirect_listen", "address that redirects http to the issuer; empty for none", false, text(&c.TLSRedirectListen)},
		{"metrics_listen", "address for /metrics and /debug/pprof; empty for none", false, text(&c.MetricsListen)},
		{"log_level", "debug, info, warn or error", false, text(&c.LogLevel)},
		{"log_format", "json, text, or auto: text on a terminal", false, text(&c.LogFormat)},
		{"shutdown_timeout", "how long running requests may take to finish after a stop signal", false,
			duration(&c.ShutdownTimeout)},
	}
}

// addSettingFlags gives every command every setting, so that all of them find the same database and keys.
func addSettingFlags(root *cobra.Command) {
	c := defaultConfig()
	flags := root.PersistentFlags()
	flags.String("config", "", "settings file (default handstamp.yaml if it exists; HANDSTAMP_CONFIG)")
	for _, s := range settings(&c) {
		usage := fmt.Sprintf("%s (%s)", s.help, s.env())
		if d := s.value.show(); d != "" && !s.secret {
			usage += " [default " + d + "]"
		}
		flags.String(s.flag(), "", usage)
		if s.value.kind == "true|false" {
			flags.Lookup(s.flag()).NoOptDefVal = "true"
		}
	}
}

// config reads every setting: flag before environment before file before default. All faults are reported together.
func (p *program) config(cmd *cobra.Command) (Config, error) {
	c, faults := p.readConfig(cmd)
	if len(faults) > 0 {
		return Config{}, &configError{faults}
	}
	return c, nil
}

// readConfig returns the settings, and every fault that can be seen without a look at files and databases.
func (p *program) readConfig(cmd *cobra.Command) (Config, []error) {
	c := defaultConfig()
	table := settings(&c)
	var faults []error
	fault := func(name, source string, err error) {
		faults = append(faults, fmt.Errorf("%s (%s): %w", name, source, err))
	}

	fromFile, err := p.readFile(cmd, &c)
	if err != nil {
		faults = append(faults, err)
	}
	for _, s := range table {
		if v, ok := fromFile[s.name]; ok {
			if err := s.value.set(v); err != nil {
				fault(s.name, c.file, err)
			}
			delete(fromFile, s.name)
		}
	}
	for name := range fromFile {
		faults = append(faults, fmt.Errorf("%s (%s): no such setting%s", name, c.file, suggestion(name, table)))
	}
	faults = append(faults, p.readEnvironment(table)...)
	for _, s := range table {
		if f := cmd.Flags().Lookup(s.flag()); f != nil && f.Changed {
			if err := s.value.set(f.Value.String()); err != nil {
				fault("--"+s.flag(), "flag", err)
			}
		}
	}
	c.metricsListenSet = c.MetricsListen != defaultConfig().MetricsListen || p.env["HANDSTAMP_METRICS_LISTEN"] != ""
	return c, flat(append(faults, c.complete()...))
}

// flat takes joined errors apart.
func flat(errs []error) (out []error) {
	for _, err := range errs {
		several, ok := err.(interface{ Unwrap() []error })
		switch {
		case ok && errors.Join(several.Unwrap()...).Error() == err.Error(): // it says nothing of its own
			out = append(out, flat(several.Unwrap())...)
		case err != nil:
			out = append(out, err)
		}
	}
	return out
}

// configError is every fault of the configuration.
type configError struct{ faults []error }

func (e *configError) Error() string {
	var b strings.Builder
	if len(e.faults) == 1 {
		b.WriteString("the configuration has a fault:")
	} else {
		fmt.Fprintf(&b, "the configuration has %d faults:", len(e.faults))
	}
	for _, f := range e.faults {
		b.WriteString("\n  - " + strings.ReplaceAll(f.Error(), "\n", "\n    "))
	}
	return b.String()
}

func (e *configError) Unwrap() []error { return e.faults }

// readFile reads the settings file as texts by name.
func (p *program) readFile(cmd *cobra.Command, c *Config) (map[string]string, error) {
	path, _ := cmd.Flags().GetString("config")
	path = cmp.Or(path, p.env["HANDSTAMP_CONFIG"])
	asked := path != ""
	path = cmp.Or(path, "handstamp.yaml")
	c.file = path
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && !asked {
		c.file = ""
		return nil, nil //nolint:nilnil // no file, no settings
	}
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	var nodes map[string]yaml.Node
	if err := yaml.Unmarshal(content, &nodes); err != nil {
		return nil, fmt.Errorf("%s: not valid YAML: %w", path, err)
	}
	out := make(map[string]string, len(nodes))
	var faults []error
	if _, ok := nodes["providers"]; ok {
		delete(nodes, "providers")
		faults = append(faults, readProviders(content, path, c)...)
	}
	c.secretsInFile = c.secretsInFile || hasSecret(nodes)
	for name, node := range nodes {
		switch node.Kind {
		case yaml.ScalarNode:
			out[name] = node.Value
		case yaml.SequenceNode:
			var items []string
			if err := node.Decode(&items); err != nil {
				faults = append(faults, fmt.Errorf("%s (%s): must be a list of texts", name, path))
			}
			out[name] = strings.Join(items, ",")
		default:
			faults = append(faults, fmt.Errorf("%s (%s): must be a text or a list", name, path))
		}
	}
	return out, errors.Join(faults...)
}

// hasSecret reports whether a secret stands in the settings file, and not only the place of one.
func hasSecret(nodes map[string]yaml.Node) bool {
	if nodes["master_key"].Value != "" {
		return true
	}
	if u, err := url.Parse(nodes["smtp_url"].Value); err == nil {
		if _, has := u.User.Password(); has {
			return true
		}
	}
	u, err := url.Parse(nodes["database_url"].Value)
	if err != nil {
		return false
	}
	_, has := u.User.Password()
	return has || u.Query().Has("password") || u.Query().Has("sslpassword")
}

// Kubernetes puts such variables into every container beside a service named handstamp.
var kubernetesVariable = regexp.MustCompile(
	`^HANDSTAMP(_[A-Z0-9_]+)?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP)(_[A-Z]+)?)?)$`)

// readEnvironment takes over HANDSTAMP_ variables, and the files that HANDSTAMP_..._FILE names for secrets.
func (p *program) readEnvironment(table []setting) (faults []error) {
	known := map[string]setting{}
	for _, s := range table {
		known[s.env()] = s
		if s.secret {
			known[s.env()+"_FILE"] = s
		}
	}
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range p.env {
			if !yield(name) {
				return
			}
		}
	}) {
		if !strings.HasPrefix(name, "HANDSTAMP_") || name == "HANDSTAMP_CONFIG" || strings.HasPrefix(name, "HANDSTAMP_TEST_") ||
			kubernetesVariable.MatchString(name) {
			continue
		}
		s, ok := known[name]
		if !ok {
			faults = append(faults, fmt.Errorf("%s (environment): no such setting%s", name,
				suggestion(strings.ToLower(strings.TrimPrefix(name, "HANDSTAMP_")), table)))
			continue
		}
		v := p.env[name]
		// As if it were not set, which is how compose files leave one out, but for settings that an empty value switches off.
		if v == "" && !strings.Contains(s.help, "empty for none") {
			continue
		}
		if name != s.env() {
			if p.env[s.env()] != "" {
				faults = append(faults, fmt.Errorf("%s (environment): %s is set too; keep one of them", name, s.env()))
				continue
			}
			content, err := seal.ReadFile(v)
			if err != nil {
				faults = append(faults, fmt.Errorf("%s (environment): %w", name, err))
				continue
			}
			v = string(content)
		}
		if err := s.value.set(v); err != nil {
			faults = append(faults, fmt.Errorf("%s (environment): %w", name, err))
		}
	}
	return faults
}

// suggestion names the setting that was probably meant.
func suggestion(name string, table []setting) string {
	for _, s := range table {
		if strings.Contains(s.name, name) || strings.Contains(name, s.name) || strings.ReplaceAll(name, "-", "_") == s.name {
			return "; did you mean " + s.name + "?"
		}
	}
	return "; handstamp config print lists them"
}

// complete fills in what follows from other settings and reports every fault.
func (c *Config) complete() (faults []error) {
	fault := func(name, format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s: %w", name, fmt.Errorf(format, args...)))
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		fault("listen", "%q is not HOST:PORT; try 127.0.0.1:8080", c.Listen)
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		fault("tls_cert, tls_key", "set both or none")
	}
	if c.Issuer == "" && err == nil {
		if !loopback(host) {
			fault("issuer", "must be set when listening on %s: the address at which clients reach this service, such as "+
				"https://login.example.com", c.Listen)
		} else {
			scheme := "http://"
			if c.TLSCert != "" {
				scheme = "https://"
			}
			c.Issuer = scheme + c.Listen
		}
	} else if c.Issuer != "" {
		faults = append(faults, c.issuerFaults()...)
	}
	if len(c.Audience) == 0 && c.Issuer != "" {
		c.Audience = []string{c.Issuer}
	}
	scheme, _, _ := strings.Cut(string(c.DatabaseURL), ":")
	if !slices.Contains([]string{"sqlite", "postgres", "postgresql"}, scheme) {
		fault("database_url", "must be sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE")
	}
	between := func(name string, d, least, most time.Duration) {
		if d < least || d > most {
			fault(name, "%s is not between %s and %s", d, least, most)
		}
	}
	between("access_token_lifetime", c.AccessTokenLifetime, 10*time.Second, time.Hour)
	between("refresh_lifetime", c.RefreshLifetime, time.Minute, 10*365*24*time.Hour)
	between("refresh_idle_lifetime", c.RefreshIdleLifetime, time.Minute, c.RefreshLifetime)
	between("refresh_grace", c.RefreshGrace, 0, 300*time.Second)
	between("jwks_max_age", c.JWKSMaxAge, 0, 24*time.Hour)
	between("key_publish_ahead", c.KeyPublishAhead, time.Minute, 365*24*time.Hour)
	between("key_rotation", c.KeyRotation, c.JWKSMaxAge+2*time.Minute, 3650*24*time.Hour)
	if c.AuditRetention != 0 {
		between("audit_retention", c.AuditRetention, 24*time.Hour, 100*365*24*time.Hour)
	}
	between("shutdown_timeout", c.ShutdownTimeout, 0, 10*time.Minute)
	between("login_attempt_interval", c.LoginAttemptEvery, time.Millisecond, 24*time.Hour)
	between("login_ip_failure_interval", c.LoginIPFailureEvery, time.Millisecond, 24*time.Hour)
	between("signup_ip_interval", c.SignupIPEvery, time.Millisecond, 24*time.Hour)
	between("busy_ip_interval", c.BusyIPEvery, time.Millisecond, 24*time.Hour)
	between("mail_recipient_interval", c.MailRecipientEvery, time.Second, 24*time.Hour)
	ways := []account.Verification{"", account.Off, account.Optional, account.Required}
	if v := account.Verification(c.EmailVerification); !slices.Contains(ways, v) {
		fault("email_verification", "%q is not one of off, optional, required", c.EmailVerification)
	} else if v != "" && v != account.Off && c.Issuer != "" && !c.MailOn() {
		fault("email_verification", "%s needs mail: set smtp_url", v)
	}
	between("mail_ip_interval", c.MailIPEvery, time.Millisecond, 24*time.Hour)
	between("refusal_hold", c.RefusalHold, 0, 8*time.Second)
	if !slices.Contains([]string{verifier.ES256, verifier.EdDSA, verifier.RS256}, c.SigningAlgorithm) {
		fault("signing_algorithm", "%q is not one of ES256, EdDSA, RS256; HMAC is not offered, because a verifier could also sign",
			c.SigningAlgorithm)
	}
	if c.PasswordMinLength < password.MinLength || c.PasswordMinLength > 64 {
		fault("password_min_length", "%d is not between %d and 64", c.PasswordMinLength, password.MinLength)
	}
	for _, n := range []struct {
		name  string
		value int
		least int
		most  int
	}{
		{"session_limit", c.SessionLimit, 1, 10_000}, {"login_attempts", c.LoginAttempts, 1, 1000},
		{"login_ip_failures", c.LoginIPFailures, 0, 1_000_000}, {"login_ip_concurrency", c.LoginIPConcurrency, 0, 100_000},
		{"signup_ip_limit", c.SignupIPLimit, 0, 1_000_000}, {"busy_ip_limit", c.BusyIPLimit, 0, 1_000_000},
		{"refusals_held", c.RefusalsHeld, 0, 1_000_000},
		{"mail_recipient_limit", c.MailRecipientLimit, 1, 10_000},
		{"mail_ip_limit", c.MailIPLimit, 0, 1_000_000},
		{"feed_readers", c.FeedReaders, 0, 1_000_000}, {"feed_readers_per_address", c.FeedReadersPerAddress, 0, 1_000_000},
		{"feed_streams", c.FeedStreams, 0, 1_000_000}, {"feed_streams_per_address", c.FeedStreamsPerAddress, 0, 1_000_000},
		{"password_memory", c.Argon2Memory, 8, 256 << 10}, {"password_time", c.Argon2Time, 1, 64},
		{"password_threads", c.Argon2Threads, 1, 16},
		{"password_concurrency", c.PasswordConcurrency, 0, 1024}, {"password_queue", c.PasswordQueue, 0, 100_000},
	} {
		if n.value < n.least || n.value > n.most {
			fault(n.name, "%d is not between %d and %d", n.value, n.least, n.most)
		}
	}
	faults = append(faults, c.mailFaults()...)
	if _, err := door.ParseTrustedProxies(c.TrustedProxies); err != nil {
		fault("trusted_proxies", "%w", err)
	}
	for name, address := range map[string]string{"home_url": c.HomeURL, "change_password_url": c.ChangePasswordURL} {
		u, err := url.Parse(address)
		if address != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
			fault(name, "%q is not an address such as https://shop.example/login", address)
		}
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.LogLevel) {
		fault("log_level", "%q is not one of debug, info, warn, error", c.LogLevel)
	}
	if !slices.Contains([]string{"json", "text", "auto"}, c.LogFormat) {
		fault("log_format", "%q is not one of json, text, auto", c.LogFormat)
	}
	return faults
}

func (c *Config) issuerFaults() (faults []error) {
	u, err := url.Parse(c.Issuer)
	if err != nil || u.Host == "" {
		return []error{fmt.Errorf("issuer: %q is not an address such as https://login.example.com", c.Issuer)}
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		faults = append(faults, errors.New("issuer: must be https unless its host is loopback (RFC 8414, section 2); set tls_cert "+
			"and tls_key, or put a TLS proxy in front"))
	}
	if u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || strings.ToLower(c.Issuer) != c.Issuer {
		faults = append(faults, fmt.Errorf("issuer: %q must be scheme://host[:port] in lower case and nothing else, also no slash "+
			"at the end", c.Issuer))
	}
	return faults
}

func (c *Config) mailFaults() (faults []error) {
	if c.SMTPURL != "" {
		if _, err := mail.ParseServer(c.SMTPURL); err != nil {
			faults = append(faults, fmt.Errorf("smtp_url: %w", err))
		}
		if c.MailFrom == "" {
			faults = append(faults, errors.New("mail_from: must be set with smtp_url: the address that mails come from, such as "+
				"no-reply@example.com"))
		}
	}
	for name, address := range map[string]string{"mail_from": c.MailFrom, "mail_reply_to": c.MailReplyTo} {
		if address == "" {
			continue
		}
		if _, err := mail.ParseSender(address); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", name, err))
		}
	}
	return faults
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
