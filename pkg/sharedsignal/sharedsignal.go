// Package sharedsignal tells registered receivers that sessions have ended. It sends CAEP session-revoked events in
// security event tokens (RFC 8417), by the OpenID Shared Signals Framework 1.0.
//
// An event is a row. The transaction that ends the session adds it for each stream, so a later failure of the service
// loses no event. The row stays until the receiver has acknowledged it, and its token has the same jti and claims each
// time it is sent. Events are pushed (RFC 8935) by [Sender] or fetched (RFC 8936).
package sharedsignal

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/handstamp/handstamp/pkg/session"
)

// Sentinels of the feature. Any other error of a [Store] is a storage failure.
var (
	// ErrStreamNotFound says that the client has no such stream.
	ErrStreamNotFound = errors.New("stream not found")
	// ErrStreamExists says that the client has a stream already.
	ErrStreamExists = errors.New("the client has a stream")
	// ErrTooSoon says that a verification was asked for a moment ago.
	ErrTooSoon = errors.New("verification was asked for a moment ago")
	// ErrTooManySubjects says that a stream cannot leave out more subjects.
	ErrTooManySubjects = errors.New("the stream leaves out as many subjects as it may")
	// ErrSubject says that a subject has a form that no event here has.
	ErrSubject = errors.New("subject is neither a user nor a session of this issuer")
	// ErrEndpoint says that events may not be pushed to an address.
	ErrEndpoint = errors.New("endpoint_url must be an https address without user and fragment")
)

// Scope is what a client's access token must have to manage its stream.
const Scope = "ssf"

// Methods of delivery, by their names in the framework.
const (
	MethodPush = "urn:ietf:rfc:8935"
	MethodPoll = "urn:ietf:rfc:8936"
)

// The events (OpenID CAEP 1.0, section 3.1; Shared Signals Framework 1.0, sections 8.1.4.1 and 8.1.5).
const (
	EventSessionRevoked = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"
	EventVerification   = "https://schemas.openid.net/secevent/ssf/event-type/verification"
	EventStreamUpdated  = "https://schemas.openid.net/secevent/ssf/event-type/stream-updated"
)

const (
	// VerifyEvery is the shortest time between two verifications of a stream.
	VerifyEvery = 10 * time.Second
	// Retention is how long an event waits for a receiver. A stream whose receiver leaves one so long is disabled.
	Retention = 7 * 24 * time.Hour
	// MaxSubjects is how many subjects a stream may leave out.
	MaxSubjects = 10_000
	// MaxRefusals is how often a receiver may refuse an event before it is dropped.
	MaxRefusals = 5
	// ReasonNotFetched is why a stream was disabled by the service.
	ReasonNotFetched = "events were not taken for seven days"
)

// Status says whether a stream delivers.
type Status string

// The states of a stream.
const (
	Enabled  Status = "enabled"
	Paused   Status = "paused"   // events are kept
	Disabled Status = "disabled" // events are not kept
)

// Valid reports whether it is one of the three.
func (s Status) Valid() bool { return slices.Contains([]Status{Enabled, Paused, Disabled}, s) }

// Stream is what one client hears.
type Stream struct {
	ID              string
	ClientID        string
	Method          string // MethodPush or MethodPoll
	EndpointURL     string // of a push
	Sealed          []byte // the Authorization header of a push, see Sealer; nil for none
	Description     string
	EventsRequested []string
	Status          Status
	StatusReason    string
	Attempts        int // to push that failed since one succeeded
	CreatedAt       time.Time
	UpdatedAt       time.Time
}

// Delivers reports whether the receiver wants to hear of ended sessions.
func (s Stream) Delivers() bool { return slices.Contains(s.EventsRequested, EventSessionRevoked) }

// NewStreamID makes the ID of a stream.
func NewStreamID() string { return "stm_" + strings.ToLower(rand.Text()) }

// Kind is what an event tells. The texts are those of the database.
type Kind string

// The kinds of events.
const (
	KindSessionRevoked Kind = "session-revoked"
	KindVerification   Kind = "verification"
	KindStreamUpdated  Kind = "stream-updated"
)

// Event is what a receiver has not acknowledged yet.
type Event struct {
	ID        int64
	JTI       string
	Kind      Kind
	UserID    string
	SessionID session.ID
	Reason    string
	State     string // of a verification; of a stream that was updated, its status
	At        time.Time
}

// Due is a stream that has something to push.
type Due struct {
	Stream
	Since time.Time // of its oldest event
}

// Push is what became of the events of a stream that was leased.
type Push struct {
	StreamID    string
	LeasedUntil time.Time // as it was leased
	Delivered   []string  // by their jti
	Refused     []string
	Attempts    int       // that failed since one succeeded
	DueAt       time.Time // LeasedUntil to keep the lease
}

// Subject is a user or a session.
type Subject struct {
	UserID    string // empty for a session
	SessionID session.ID
}

// Store is what the feature needs of a database. What ends a session adds an event to each stream that is not disabled,
// wants it and does not leave out its user or itself. A stream is found by its ID and its client.
type Store interface {
	StreamStore
	EventStore
}

// StreamStore keeps the streams.
type StreamStore interface {
	// CreateStream adds an enabled stream. ErrStreamExists.
	CreateStream(ctx context.Context, s Stream) error
	// Stream returns the client's stream. ErrStreamNotFound.
	Stream(ctx context.Context, clientID string) (Stream, error)
	// UpdateStream replaces what the receiver decides on: method, endpoint, authorization, description and events.
	// ErrStreamNotFound.
	UpdateStream(ctx context.Context, s Stream) error
	// SetStreamStatus changes the status. A disabled stream loses its events. ErrStreamNotFound.
	SetStreamStatus(ctx context.Context, id, clientID string, status Status, reason string, at time.Time) error
	// DeleteStream removes a stream with its events. ErrStreamNotFound.
	DeleteStream(ctx context.Context, id, clientID string) error
	// LeaveOut makes a stream leave a subject out, if it does not leave out limit already: ErrTooManySubjects.
	LeaveOut(ctx context.Context, streamID string, s Subject, limit int) error
	// TakeIn undoes LeaveOut.
	TakeIn(ctx context.Context, streamID string, s Subject) error
	// Verify adds a verification event unless one was asked for less than every ago: ErrTooSoon.
	Verify(ctx context.Context, streamID, state string, at time.Time, every time.Duration) error
}

// EventStore keeps the events of streams until they are delivered.
type EventStore interface {
	// SignalEvents lists at most limit events that a stream may deliver now, oldest first.
	SignalEvents(ctx context.Context, streamID string, limit int) ([]Event, error)
	// Acknowledge removes events of a stream.
	Acknowledge(ctx context.Context, streamID string, jtis []string) error
	// LeaseStreams returns at most limit streams that have something to push and are due, of enabled clients. Until a time
	// they are nobody else's.
	LeaseStreams(ctx context.Context, at, until time.Time, limit int) ([]Due, error)
	// FinishPush removes events that were delivered, counts the refusal of others, removes those that were refused
	// MaxRefusals times, and makes the stream due at a time. A stream whose lease has ended since, by another lease or a
	// change of its endpoint, is due when that one says.
	FinishPush(ctx context.Context, p Push) error
	// SweepSignals disables streams with an event from before a time, at most limit of them, puts an event that says so in
	// place of theirs, and removes events that belong to no stream or are older and of a disabled one. It says how many it
	// has changed.
	SweepSignals(ctx context.Context, before, at time.Time, limit int) (int, error)
}
