package seal

// Label names the purpose of a secret. Each purpose has a label of its own, and so a secret of its own: the label is the info of
// HKDF (RFC 5869, section 3.2). A label is never changed and never used again for something else.
type Label string

// The labels of all secrets that the service derives from the master key.
const (
	SigningKeys         Label = "handstamp/v1/signing-key-seal"     // seals the private halves of signing keys
	UpstreamTokens      Label = "handstamp/v1/upstream-tokens"      // seals the tokens of upstream providers
	SignalAuthorization Label = "handstamp/v1/signal-authorization" // seals the Authorization headers that receivers of events want
	PageStates          Label = "handstamp/v1/page-state"           // seals the state that a hosted page carries
	Mails               Label = "handstamp/v1/mails"                // seals the links and codes of mails that wait

	FactorSecrets Label = "handstamp/v1/factor-secrets" // seals the secrets of authenticators
	PendingLogins Label = "handstamp/v1/pending-logins" // seals logins that wait for a second factor

	UpstreamAttempts  Label = "handstamp/v1/upstream-attempts"   // PKCE verifiers and nonces of logins at upstream providers
	RefreshTokenTag   Label = "handstamp/v1/refresh-token-tag"   // masks the nonces of sessions
	RefreshTokenCheck Label = "handstamp/v1/refresh-token-check" // check values of refresh tokens
	StatusIndex       Label = "handstamp/v1/status-index"        // the order of the indexes of a status list
	KnownDevices      Label = "handstamp/v1/known-devices"       // seals what a browser remembers of earlier logins
	GatewayLogins     Label = "handstamp/v1/gateway-logins"      // seals the state and the cookie of a login at a gateway

	keyID Label = "handstamp/v1/key-id" // public: which master key has sealed a value
)

// oldFormat is how the values of a label were sealed before all labels had one format.
type oldFormat int

const (
	formNone    oldFormat = iota // there was none
	formBare                     // nonce, ciphertext, tag
	formVersion                  // the byte 1, nonce, ciphertext, tag
)

// oldFormat returns the format that values of the label may still have in databases.
func (l Label) oldFormat() oldFormat {
	switch l {
	case SigningKeys, UpstreamTokens:
		return formVersion
	case SignalAuthorization:
		return formBare
	case PageStates, Mails, FactorSecrets, PendingLogins, UpstreamAttempts, RefreshTokenTag, RefreshTokenCheck, StatusIndex,
		KnownDevices, GatewayLogins, keyID:
		// nothing that still counts was sealed with these
	}
	return formNone
}
