package password

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
)

// BusyError says that the hasher has as much to do as it takes on, and that nothing was hashed. Answer 503 with Retry-After.
type BusyError struct {
	// RetryAfter is how long the work already accepted will take: whole seconds, at least one.
	RetryAfter time.Duration
}

// Error implements error.
func (e *BusyError) Error() string {
	return fmt.Sprintf("password hasher is busy, try again in %s", e.RetryAfter)
}

// Config sets up a Hasher. Its zero value is ready to use.
type Config struct {
	// Params is the cost of new hashes.
	Params Params
	// Concurrency is how many hashes are evaluated at once; zero means one less than the processors Go may use, and at least one.
	//
	// An evaluation keeps a processor for tens of milliseconds, and Go hands processors on only every ten, so work of microseconds,
	// such as a refresh, waits behind it. One processor left alone is what keeps that work quick: measured on two, under a flood of
	// logins, the median of a short request is 3 ms with one evaluation at once and 28 ms with two, and neither more Go processors
	// nor a process of its own at the lowest priority did better than the former. It also bounds memory: about four times
	// Params.Memory each, garbage included, or 256 MiB and more while hashes brought along from elsewhere ask for that.
	Concurrency int
	// Queue is how many logins may wait for their turn, and half as many of each other Share; zero means 32 for each of
	// Concurrency. A negative value means that nobody waits.
	Queue int
	// MaxWait is the longest that a caller waits for its turn; zero means two seconds.
	MaxWait time.Duration
}

// Hasher hashes and verifies passwords, a bounded number at a time. It is safe for concurrent use.
type Hasher struct {
	params  Params
	turns   chan struct{} // holds one element for each evaluation under way; waiting senders are served in order
	queue   *queue        // for a place near the turn
	places  int
	maxWait time.Duration
	nothing *argon2Hash // a hash that no password matches

	waiting     atomic.Int64
	evaluations atomic.Uint64
	refusals    atomic.Uint64
	lastCost    atomic.Int64 // nanoseconds that the last evaluation took
}

// NewHasher returns a Hasher, or an error that names the setting at fault.
func NewHasher(config Config) (*Hasher, error) {
	err := config.Params.Validate()
	if config.Concurrency < 0 {
		err = errors.Join(err, fmt.Errorf("concurrency of password hashing is %d: must not be negative", config.Concurrency))
	}
	if config.MaxWait < 0 {
		err = errors.Join(err, fmt.Errorf("wait for password hashing is %s: must not be negative", config.MaxWait))
	}
	if err != nil {
		return nil, err
	}
	if config.Concurrency == 0 {
		config.Concurrency = max(1, runtime.GOMAXPROCS(0)-1)
	}
	if config.Queue == 0 {
		config.Queue = 32 * config.Concurrency
	}
	if config.MaxWait == 0 {
		config.MaxWait = 2 * time.Second
	}
	// Beside those whose turn it is stand as many who prepare themselves, by a query or two, so that the hasher waits for nobody.
	waiting := max(0, config.Queue)
	next := min(config.Concurrency, waiting)
	h := &Hasher{
		params:  config.Params.orDefault(),
		turns:   make(chan struct{}, config.Concurrency),
		queue:   newQueue(config.Concurrency+next, waiting-next),
		places:  config.Concurrency + waiting,
		maxWait: config.MaxWait,
	}
	h.nothing = h.blank()
	rand.Read(h.nothing.key)
	return h, nil
}

// blank returns a hash of the current cost with a new salt and room for the key.
func (h *Hasher) blank() *argon2Hash {
	blank := &argon2Hash{variant: "argon2id", Params: h.params, salt: make([]byte, saltLength), key: make([]byte, keyLength)}
	rand.Read(blank.salt)
	return blank
}

// Hash returns the argon2id hash of plain in PHC string form. It asks no Policy, but an empty password is ErrTooShort under any.
// Errors besides: ErrMalformed, ErrTooLong, a *BusyError, or the cause of ctx if it ended while waiting. Its share is ForChange.
func (h *Hasher) Hash(ctx context.Context, plain string) (hash string, err error) {
	err = h.alone(ctx, ForChange, func(p *Place) (err error) {
		hash, err = h.hash(ctx, p, plain)
		return err
	})
	return hash, err
}

// alone runs do at a place of its own, for callers who have nothing to prepare. MaxWait bounds the whole wait.
func (h *Hasher) alone(ctx context.Context, share Share, do func(p *Place) error) error {
	late := time.NewTimer(h.maxWait)
	defer late.Stop()
	p, err := h.enter(ctx, share, late.C)
	if err != nil {
		return err
	}
	defer p.Leave()
	p.late = late.C
	return do(p)
}

func (h *Hasher) hash(ctx context.Context, p *Place, plain string) (string, error) {
	text, err := normalize(plain)
	if err != nil {
		return "", err
	}
	if text == "" {
		return "", ErrTooShort
	}
	made := h.blank()
	if err := p.inTurn(ctx, func() { made.key = made.derive(text) }); err != nil {
		return "", err
	}
	return made.String(), nil
}

// Verify reports whether plain is the password that stored was made from: a PHC string of argon2id or argon2i, or a bcrypt hash.
// An empty stored hash stands for a user who does not exist or has no password: it matches nothing, and costs what a hash of the
// current Params costs. Every call that is not refused costs exactly one evaluation.
//
// Errors: ErrMalformed and ErrTooLong for a password that no hash can be of (answer 400); a *BusyError or the cause of ctx, when
// nothing is known (answer 503); ErrUnknownHash if stored cannot be evaluated, after the same work as for an empty one.
func (h *Hasher) Verify(ctx context.Context, stored, plain string) (ok bool, err error) {
	if err := Validate(plain); err != nil {
		return false, err
	}
	err = h.alone(ctx, ForLogin, func(p *Place) (err error) {
		ok, err = h.verify(ctx, p, stored, plain)
		return err
	})
	return ok, err
}

// Validate returns ErrMalformed or ErrTooLong for a password that no hash can be of.
func Validate(plain string) error {
	_, err := normalize(plain)
	return err
}

func (h *Hasher) verify(ctx context.Context, p *Place, stored, plain string) (bool, error) {
	text, err := normalize(plain)
	if err != nil {
		return false, err
	}
	candidate, unknown := hash(h.nothing), error(nil)
	if stored != "" {
		if parsed, err := parseHash(stored); err != nil {
			unknown = err
		} else {
			candidate = parsed
		}
	}
	var matched bool
	if err := p.inTurn(ctx, func() { matched = candidate.matches(text) }); err != nil {
		return false, err
	}
	return matched && text != "", unknown
}

// NeedsRehash reports whether stored is anything but an argon2id hash of the current Params. Replace it after a
// successful Verify, only if the database still holds the same one: the password may have been changed meanwhile.
func (h *Hasher) NeedsRehash(stored string) bool {
	parsed, err := parseHash(stored)
	if err != nil {
		return true
	}
	own, ok := parsed.(*argon2Hash)
	return !ok || own.variant != "argon2id" || own.Params != h.params || len(own.salt) != saltLength || len(own.key) != keyLength
}

// Places is how many logins are let in at once: those whose turn it is, and those that wait for theirs.
func (h *Hasher) Places() int { return h.places }

// Stats tells what a Hasher has done and is doing.
type Stats struct {
	Evaluations uint64 // hashes evaluated since the start, those for nobody included
	Refusals    uint64 // calls answered with a BusyError since the start
	Running     int    // evaluations under way
	Waiting     int    // callers waiting for their turn
}

// Stats returns the present figures.
func (h *Hasher) Stats() Stats {
	return Stats{
		Evaluations: h.evaluations.Load(),
		Refusals:    h.refusals.Load(),
		Running:     len(h.turns),
		Waiting:     int(h.waiting.Load()),
	}
}

// busy refuses a call. The advice is the time in which the queue drains.
func (h *Hasher) busy() error {
	h.refusals.Add(1)
	drain := time.Duration(h.lastCost.Load() * (h.waiting.Load() + 1) / int64(cap(h.turns)))
	return &BusyError{RetryAfter: max(drain.Truncate(time.Second)+time.Second, time.Second)}
}
