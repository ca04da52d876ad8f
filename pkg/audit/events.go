package audit

import "time"

// By says who acts, and from where.
type By struct {
	Actor    string // user ID, client ID, ActorCLI or ActorSystem
	ClientID string // the client that the actor acts through, empty if none
	Origin   Origin
}

// CLI is an operator at the command line.
func CLI() By { return By{Actor: ActorCLI} }

// SignedUp says that a user made an account, at a provider or, if that is empty, with a password.
func SignedUp(at time.Time, userID, provider string, origin Origin) Event {
	return byUser(at, KindSignedUp, userID, provider, origin)
}

// UserCreated says that another party created the user.
func UserCreated(at time.Time, userID string, by By) Event {
	return toUser(at, KindUserCreated, userID, "", by)
}

// UserDeleted says that a user is gone, with everything that belonged to the user.
func UserDeleted(at time.Time, userID, reason string, by By) Event {
	return toUser(at, KindUserDeleted, userID, reason, by)
}

// UserDisabled says that a user is kept out.
func UserDisabled(at time.Time, userID, reason string, by By) Event {
	return toUser(at, KindUserDisabled, userID, reason, by)
}

// UserEnabled says that a disabled user may log in again.
func UserEnabled(at time.Time, userID string, by By) Event {
	return toUser(at, KindUserEnabled, userID, "", by)
}

// RolesChanged says that a user has other roles.
func RolesChanged(at time.Time, userID string, by By) Event {
	return toUser(at, KindRolesChanged, userID, "", by)
}

// PasswordChanged says that a user has another password.
func PasswordChanged(at time.Time, userID, reason string, by By) Event {
	return toUser(at, KindPasswordChanged, userID, reason, by)
}

// PasswordResetAsked says that somebody, who need not be the user, was sent a mail to reset a password with. The user is empty
// if no user has the address.
func PasswordResetAsked(at time.Time, userID string, origin Origin) Event {
	return toUser(at, KindResetAsked, userID, "", By{Actor: ActorSystem, Origin: origin})
}

// VerificationAsked says that the user was sent a mail to prove the address with. The user is empty for an address of a sign-up.
func VerificationAsked(at time.Time, userID string, origin Origin) Event {
	return toUser(at, KindVerifyAsked, userID, "", By{Actor: ActorSystem, Origin: origin})
}

// EmailVerified says that somebody has shown that the user's address is theirs.
func EmailVerified(at time.Time, userID string, by By) Event {
	return toUser(at, KindEmailVerified, userID, "", by)
}

// LoggedIn says that a user began a session at a client.
func LoggedIn(at time.Time, userID, sessionID, clientID string, origin Origin) Event {
	e := byUser(at, KindLoggedIn, userID, "", origin)
	e.SessionID, e.ClientID = sessionID, clientID
	return e
}

// SessionForked says that a session began as the child of another, whose sid is the reason.
func SessionForked(at time.Time, userID, sessionID, parentID, clientID string, origin Origin) Event {
	e := byUser(at, KindSessionForked, userID, parentID, origin)
	e.SessionID, e.ClientID = sessionID, clientID
	return e
}

// LoginFailed says why a login was refused. The user is empty if no user has the address.
func LoginFailed(at time.Time, userID, reason string, origin Origin) Event {
	return toUser(at, KindLoginFailed, userID, reason, By{Actor: ActorSystem, Origin: origin})
}

// SessionEnded says that one session of a user is over.
func SessionEnded(at time.Time, userID, sessionID, reason string, by By) Event {
	e := toUser(at, KindSessionEnded, userID, reason, by)
	e.SessionID = sessionID
	return e
}

// SessionsEnded says that several sessions of a user are over.
func SessionsEnded(at time.Time, userID, reason string, by By) Event {
	return toUser(at, KindSessionsEnded, userID, reason, by)
}

// RefreshTokenReuse says that an old refresh token was shown again, which ended its session.
func RefreshTokenReuse(at time.Time, userID, sessionID, clientID string, origin Origin) Event {
	e := toUser(at, KindRefreshTokenReuse, userID, "reuse", By{Actor: ActorSystem, ClientID: clientID, Origin: origin})
	e.SessionID = sessionID
	return e
}

// TokenRevoked says that one access token was revoked. The subject is the client itself where the token has no user.
func TokenRevoked(at time.Time, subject, sessionID, reason string, by By) Event {
	e := toUser(at, KindTokenRevoked, subject, reason, by)
	e.SessionID = sessionID
	return e
}

// TokensBlocked says that all access tokens of this service were blocked that were minted before a time.
func TokensBlocked(at time.Time, reason string, by By) Event {
	return toUser(at, KindTokensBlocked, "", reason, by)
}

// ClientCreated says that a client was registered.
func ClientCreated(at time.Time, clientID string, by By) Event {
	return toClient(at, KindClientCreated, clientID, by)
}

// ClientUpdated says that a client has other properties, or another secret.
func ClientUpdated(at time.Time, clientID string, by By) Event {
	return toClient(at, KindClientUpdated, clientID, by)
}

// ClientEnabled says that a disabled client may get tokens again.
func ClientEnabled(at time.Time, clientID string, by By) Event {
	return toClient(at, KindClientEnabled, clientID, by)
}

// ClientDisabled says that a client is kept out.
func ClientDisabled(at time.Time, clientID string, by By) Event {
	return toClient(at, KindClientDisabled, clientID, by)
}

// ClientDeleted says that a client is gone for ever.
func ClientDeleted(at time.Time, clientID string, by By) Event {
	return toClient(at, KindClientDeleted, clientID, by)
}

// KeyRotated says that a signing key was made to take over.
func KeyRotated(at time.Time, kid string, by By) Event {
	return toKey(at, KindKeyRotated, kid, by)
}

// KeyRevoked says that nothing which a signing key signed is valid any more.
func KeyRevoked(at time.Time, kid string, by By) Event {
	return toKey(at, KindKeyRevoked, kid, by)
}

// IdentityLinked says that a user may log in through a provider. Adopted says that the user's address had not been
// proven before, and that the credentials from that time were removed.
func IdentityLinked(at time.Time, userID, provider string, adopted bool, origin Origin) Event {
	reason := provider
	if adopted {
		reason += "_unproven_credentials_removed"
	}
	return byUser(at, KindIdentityLinked, userID, reason, origin)
}

// IdentityRemoved says that a user may no longer log in through a provider.
func IdentityRemoved(at time.Time, userID, provider string, by By) Event {
	return toUser(at, KindIdentityRemoved, userID, provider, by)
}

// ConsentGranted says that a user allowed a client what it asked for.
func ConsentGranted(at time.Time, userID, clientID string, origin Origin) Event {
	e := byUser(at, KindConsentGranted, userID, "", origin)
	e.ClientID = clientID
	return e
}

// FactorAdded says that a user has another second factor. The reason is its kind.
func FactorAdded(at time.Time, userID, kind string, by By) Event {
	return toUser(at, KindFactorAdded, userID, kind, by)
}

// FactorRemoved says that a second factor is gone. The reason is its kind.
func FactorRemoved(at time.Time, userID, kind string, by By) Event {
	return toUser(at, KindFactorRemoved, userID, kind, by)
}

// RecoveryCodesReplaced says that a user has other recovery codes.
func RecoveryCodesReplaced(at time.Time, userID string, by By) Event {
	return toUser(at, KindRecoveryReplaced, userID, "", by)
}

// byUser is something that a user did, and that happened to the same user.
func byUser(at time.Time, kind Kind, userID, reason string, origin Origin) Event {
	return toUser(at, kind, userID, reason, By{Actor: userID, Origin: origin})
}

// toUser is something that happened to a user.
func toUser(at time.Time, kind Kind, userID, reason string, by By) Event {
	return Event{At: at, Kind: kind, Actor: by.Actor, UserID: userID, ClientID: by.ClientID, Reason: reason, Origin: by.Origin}
}

// toClient is something that happened to a client. The client that the actor acts through is not told.
func toClient(at time.Time, kind Kind, clientID string, by By) Event {
	return Event{At: at, Kind: kind, Actor: by.Actor, ClientID: clientID, Origin: by.Origin}
}

// toKey is something that happened to a signing key, which the reason names.
func toKey(at time.Time, kind Kind, kid string, by By) Event {
	return Event{At: at, Kind: kind, Actor: by.Actor, Reason: kid, Origin: by.Origin}
}
