package verifier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// How the feed is followed.
const (
	pollLimit      = 15 * time.Second // between polls that fail
	purgePause     = time.Minute
	purgeMargin    = 10 * time.Minute // beyond drop_after, for clocks that are set
	resyncWait     = 2 * time.Second  // how long a token waits for a poll after the process was suspended
	suspended      = 30 * time.Second // a pause between polls that only a suspended process makes
	clockTolerance = 30 * time.Second // between the issuer's clock and ours
)

// FeedMode is the way in which the revocation feed is followed.
type FeedMode string

// The modes of the feed.
const (
	FeedOff     FeedMode = "off"     // not wanted, or the blocklist is in-process
	FeedLoading FeedMode = "loading" // the first snapshot is not here yet; Verify answers ErrUnavailable
	FeedStream  FeedMode = "stream"  // entries arrive as they are made
	FeedPolling FeedMode = "polling" // the stream cannot be had
	FeedSilent  FeedMode = "silent"  // what is known is older than MaxStaleness; the policy holds
)

// The reasons why the blocklist may not be relied on.
var (
	errStale     = errors.New("the blocklist is stale")
	errNotLoaded = errors.New("the blocklist is not loaded")
)

// follower keeps a BlockSet up to date with the issuer's feed. Two goroutines work at it: listen (stream.go) holds the
// stream, poll fetches the first snapshot and whatever the stream does not bring. Both may merge the same entries; that
// changes nothing.
type follower struct {
	*settings
	remote *remote
	set    *BlockSet
	merged func(*BlockSet) // called after entries were merged; may be nil
	tried  chan struct{}   // closed after the first attempt
	wake   chan struct{}   // of poll, to poll now
	ready  chan struct{}   // of listen, there may be a cursor

	mu       sync.Mutex
	cursor   string        // empty until there is a snapshot, and when the issuer has forgotten it
	loaded   bool          // there was a snapshot
	live     bool          // the stream speaks
	fresh    time.Time     // every revocation before this instant of our clock is known
	asOf     time.Time     // the issuer's last word on that, by its clock
	polled   time.Time     // when the last poll began
	resynced chan struct{} // closed when the poll that tokens wait for has ended; nil if none do
	mode     FeedMode
	err      error // of the last poll or of the stream; nil after a success
	closed   bool
}

func newFollower(r *remote, s *settings) *follower {
	return &follower{
		settings: s,
		remote:   r,
		set:      NewBlockSet(),
		tried:    make(chan struct{}),
		wake:     make(chan struct{}, 1),
		ready:    make(chan struct{}, 1),
		mode:     FeedLoading,
	}
}

// blocked is the BlockCheck of a Verifier that follows the feed.
func (f *follower) blocked(ctx context.Context, keys []BlockKey, iat int64) (bool, error) {
	err := f.current()
	if errors.Is(err, errStale) && f.resync(ctx) {
		err = f.current()
	}
	if f.set.Blocked(keys, iat) {
		return true, nil
	}
	if errors.Is(err, errStale) && f.policy == FailOpen {
		return false, nil
	}
	return false, err
}

// current returns nil if the blocklist is as fresh as it should be.
func (f *follower) current() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !f.loaded:
		return errNotLoaded
	case since(f.fresh) > f.maxStaleness:
		return errStale
	}
	return nil
}

// since returns the time since t. The monotonic clock may stand still while the machine sleeps, and the wall clock may
// be set; the larger difference is the careful one.
func since(t time.Time) time.Duration {
	now := time.Now()
	return max(now.Sub(t), now.Round(0).Sub(t.Round(0)))
}

// resync waits for a poll if the process was suspended: all that a token then lacks is one answer of the issuer. In an
// outage polls go on failing, and tokens do not wait for them. It reports whether it waited.
func (f *follower) resync(ctx context.Context) bool {
	f.mu.Lock()
	resynced := f.resynced
	if resynced == nil && !f.closed && since(f.polled) > suspended {
		resynced = make(chan struct{})
		f.resynced = resynced
		notify(f.wake)
	}
	f.mu.Unlock()
	if resynced == nil {
		return false
	}
	timer := time.NewTimer(resyncWait)
	defer timer.Stop()
	select {
	case <-resynced:
	case <-timer.C:
	case <-ctx.Done():
	}
	return true
}

// poll fetches the first snapshot and, while the stream does not speak, the changes.
func (f *follower) poll(ctx context.Context) {
	defer f.close()
	retry := backoff{first: f.pollInterval, limit: max(pollLimit, f.pollInterval)}
	tried, swept := f.tried, time.Now()
	for woken := true; ; {
		wait := jitter(f.pollInterval)
		if woken || !f.streaming() {
			if err := f.fetch(ctx); err != nil {
				wait = retry.next()
			} else {
				retry.reset()
			}
			if tried != nil {
				close(tried)
				tried = nil
			}
		}
		if time.Since(swept) >= purgePause {
			f.purge()
			swept = time.Now()
		}
		f.report()
		var ok bool
		if woken, ok = sleep(ctx, wait, f.wake); !ok {
			return
		}
	}
}

// streaming reports whether the stream brings everything.
func (f *follower) streaming() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.live && f.cursor != "" && since(f.fresh) < streamSilence
}

// fetch polls once.
func (f *follower) fetch(ctx context.Context) error {
	f.mu.Lock()
	cursor := f.cursor
	f.polled = time.Now()
	f.mu.Unlock()
	err := f.get(ctx, cursor)
	if status, ok := errors.AsType[*statusError](err); ok && status.status == http.StatusGone {
		err = f.get(ctx, "") // the issuer no longer knows what changed since then
	}
	if err == nil {
		notify(f.ready)
	} else {
		f.remote.forget()
	}
	f.mu.Lock()
	if f.resynced != nil {
		close(f.resynced)
		f.resynced = nil
	}
	f.mu.Unlock()
	f.note(err)
	return err
}

// get asks for the changes since cursor, or a snapshot without one, and merges them.
func (f *follower) get(ctx context.Context, cursor string) error {
	timeout, etag := requestTimeout, ""
	if cursor == "" {
		timeout = snapshotTimeout
	} else {
		etag = `"` + cursor + `"` // which is what the issuer's ETag is
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	m, err := f.remote.metadata(ctx)
	if err != nil {
		return err
	}
	begin := time.Now()
	a, err := f.remote.get(ctx, after(m.Blocklist, cursor), etag, "application/json", maxFeed)
	if err != nil {
		return err
	}
	if a.status == http.StatusNotModified {
		f.mu.Lock()
		f.credit(begin.Add(-a.age()))
		f.mu.Unlock()
		return nil
	}
	var doc Feed
	if err := json.Unmarshal(a.body, &doc); err != nil {
		return fmt.Errorf("blocklist: %w", err)
	}
	return f.take(&doc, begin.Add(-a.age()), cursor == "")
}

// after adds the cursor to the address of the feed.
func after(address, cursor string) string {
	u, err := url.Parse(address)
	if err != nil || cursor == "" {
		return address
	}
	q := u.Query()
	q.Set("after", cursor)
	u.RawQuery = q.Encode()
	return u.String()
}

// take merges a feed document that was complete at the instant now.
func (f *follower) take(doc *Feed, now time.Time, snapshot bool) error {
	if doc.Issuer != f.remote.issuer {
		return fmt.Errorf("blocklist: of issuer %q", doc.Issuer)
	}
	if doc.Cursor == "" {
		return errors.New("blocklist: no cursor")
	}
	if err := f.set.Merge(doc.Entries); err != nil {
		return err
	}
	f.mu.Lock()
	f.cursor = doc.Cursor // only now, so that nothing is passed over
	f.loaded = f.loaded || snapshot
	f.creditAsOf(doc.AsOf, now)
	f.mu.Unlock()
	if n := doc.Entries.Len(); n > 0 {
		if f.merged != nil {
			f.merged(f.set)
		}
		if f.hooks.Entries != nil {
			f.hooks.Entries(n, doc.AsOf)
		}
	}
	return nil
}

// creditAsOf notes that the issuer said, at the instant now of our clock, that it had looked at the instant asOf of its
// own. Saying the same again shows that it has not looked since; and what was said long ago and waited on the way for a
// suspended process counts from when it was said. The caller holds f.mu.
func (f *follower) creditAsOf(asOf, now time.Time) {
	if asOf.Equal(f.asOf) {
		return
	}
	f.asOf = asOf
	if lag := now.Sub(asOf); lag > clockTolerance {
		now = now.Add(-lag)
	}
	f.credit(now)
}

// credit notes that everything before t is known. The caller holds f.mu.
func (f *follower) credit(t time.Time) {
	if t.After(f.fresh) {
		f.fresh = t
	}
}

// forget gives up a cursor that the issuer refused, unless there is another by now.
func (f *follower) forget(cursor string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cursor == cursor {
		f.cursor = ""
	}
}

// note keeps the outcome of an attempt.
func (f *follower) note(err error) {
	f.mu.Lock()
	f.err = err
	f.mu.Unlock()
	if err != nil && f.hooks.FeedFailed != nil {
		f.hooks.FeedFailed(err)
	}
}

// report tells the hook about a change of mode.
func (f *follower) report() {
	f.mu.Lock()
	mode := f.currentMode()
	changed := mode != f.mode
	f.mode = mode
	f.mu.Unlock()
	if changed && f.hooks.FeedMode != nil {
		f.hooks.FeedMode(mode)
	}
}

// currentMode is called with f.mu held.
func (f *follower) currentMode() FeedMode {
	switch {
	case !f.loaded:
		return FeedLoading
	case since(f.fresh) > f.maxStaleness:
		return FeedSilent
	case f.live:
		return FeedStream
	}
	return FeedPolling
}

// purge drops the entries that can refuse nothing any more: both by our clock, which decides when a token has expired
// here, and by the issuer's, so that setting one of them forward brings no token back.
func (f *follower) purge() {
	f.mu.Lock()
	t := f.asOf
	f.mu.Unlock()
	if now := time.Now(); now.Before(t) {
		t = now
	}
	f.set.Purge(t.Add(-purgeMargin - f.leeway))
}

// close lets go who waits for a poll that will not come.
func (f *follower) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.resynced != nil {
		close(f.resynced)
		f.resynced = nil
	}
}
