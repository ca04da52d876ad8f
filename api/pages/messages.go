package pages

import (
	"strings"
	"time"
)

// MessageID names a text that exists in every language. Unknown ones show the text of a general failure.
type MessageID string

// What a form says in #error. Texts with a placeholder take it by [MessageID.With].
const (
	InvalidCredentials MessageID = "error.invalid_credentials" // address or password wrong
	EmailInvalid       MessageID = "error.email_invalid"
	EmailTaken         MessageID = "error.email_taken" // only where the server says so to anybody: without e-mail verification
	NameInvalid        MessageID = "error.name_invalid"
	PasswordTooShort   MessageID = "error.password_too_short" // min: characters
	PasswordTooLong    MessageID = "error.password_too_long"  // max: characters
	PasswordCommon     MessageID = "error.password_common"    // known from a breach, or easily guessed
	PasswordInvalid    MessageID = "error.password_invalid"   // for example not UTF-8
	CodeInvalid        MessageID = "error.code_invalid"
	CodeExpired        MessageID = "error.code_expired"
	TooManyAttempts    MessageID = "error.too_many_attempts" // wait
	Overloaded         MessageID = "error.overloaded"        // wait; 503 of a form
	FormExpired        MessageID = "error.form_expired"
	ProviderCancelled  MessageID = "error.provider_cancelled" // provider: its name; the user came back without having logged in
	ProviderTooOld     MessageID = "error.provider_too_old"   // provider; the client demands a newer login than the provider states
	Failed             MessageID = "error.failed"             // what the other ones don't say
)

// What a form says in #notice, and [Done] in full.
const (
	CheckMailVerify MessageID = "done.check_mail_verify"
	CheckMailReset  MessageID = "done.check_mail_reset"
	EmailVerified   MessageID = "done.email_verified"
	PasswordChanged MessageID = "done.password_changed"
)

// What the page [Error] is about.
const (
	FaultRequest     MessageID = "fault.request"      // the authorization request is malformed
	FaultClient      MessageID = "fault.client"       // the client is unknown or disabled
	FaultRedirectURI MessageID = "fault.redirect_uri" // not one that the client has registered
	FaultExpired     MessageID = "fault.expired"      // the login took too long, or its state is gone
	FaultExpiredPage MessageID = "fault.expired_page" // the same, and the request is known: the page can be had again
	FaultCrossSite   MessageID = "fault.cross_site"   // the post didn't come from our own page
	FaultForbidden   MessageID = "fault.forbidden"    // logged in, but not allowed to use the client
	FaultDisabled    MessageID = "fault.disabled"     // the user is disabled
	FaultNotFound    MessageID = "fault.not_found"
	FaultLink        MessageID = "fault.link"         // the link of a mail is used up, expired or damaged
	FaultRateLimited MessageID = "fault.rate_limited" // wait
	// wait; 503: nothing was changed or the outcome is unknown; safe to retry
	FaultUnavailable         MessageID = "fault.unavailable"
	FaultInternal            MessageID = "fault.internal"
	FaultSignupClosed        MessageID = "fault.signup_closed"
	FaultProviderDenied      MessageID = "fault.provider_denied"      // provider; the user or the provider said no
	FaultProviderUnavailable MessageID = "fault.provider_unavailable" // provider; down, slow or unreachable
	FaultProviderAnswer      MessageID = "fault.provider_answer"      // provider; its answer failed verification
	FaultProviderEmail       MessageID = "fault.provider_email"       // provider; it vouches for no e-mail address
	FaultProviderConflict    MessageID = "fault.provider_conflict"    // provider; address or identity belongs to another user
)

// Message is a text with the values of its placeholders. The zero value is no message.
type Message struct {
	ID   MessageID
	args []string
	wait time.Duration // {wait} in the text
}

// With returns the message, with values for placeholders in the text: name, value, name, value.
func (id MessageID) With(args ...string) Message { return Message{ID: id, args: args} }

// Wait adds the time after which the user may try again, at least a second.
func (m Message) Wait(d time.Duration) Message {
	m.wait = max(d, time.Second)
	return m
}

// about reports whether the error message is about the input of that name.
func (m Message) about(input string) bool {
	switch m.ID {
	case InvalidCredentials:
		return input == "email" || input == "password"
	case EmailInvalid, EmailTaken:
		return input == "email"
	case NameInvalid:
		return input == "name"
	case CodeInvalid, CodeExpired:
		return input == "code"
	default:
		return strings.HasPrefix(string(m.ID), "error.password_") && input == "password"
	}
}
