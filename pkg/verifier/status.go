package verifier

import (
	"errors"
	"time"
)

// Status is what a Verifier knows and how well, for health checks and metrics.
type Status struct {
	Keys      int           // keys that tokens can be verified with; 0 if they are in-process
	KeysAge   time.Duration // since they were last known to be the issuer's; 0 if they are in-process or were never fetched
	KeysErr   error         // of the last attempt to fetch them
	Feed      FeedMode
	Staleness time.Duration // age of what is known of revocations; 0 if the feed is not followed or not loaded
	Entries   int           // in the blocklist
	FeedErr   error         // of the last poll or of the stream
}

// Ready reports whether Verify can decide: keys and blocklist were loaded, and the policy of WithMaxStaleness does not forbid it.
func (v *Verifier) Ready() bool {
	if v.fetcher != nil && len(*v.fetcher.set.Load()) == 0 {
		return false
	}
	if v.follower == nil {
		return true
	}
	err := v.follower.current()
	return err == nil || errors.Is(err, errStale) && v.policy == FailOpen
}

// Status returns the present state.
func (v *Verifier) Status() Status {
	s := Status{Feed: FeedOff}
	if f := v.fetcher; f != nil {
		f.mu.Lock()
		s.Keys, s.KeysErr = len(*f.set.Load()), f.err
		if !f.fetched.IsZero() {
			s.KeysAge = since(f.fetched)
		}
		f.mu.Unlock()
	}
	if f := v.follower; f != nil {
		f.mu.Lock()
		s.Feed, s.FeedErr, s.Entries = f.currentMode(), f.err, f.set.Len()
		if f.loaded {
			s.Staleness = since(f.fresh)
		}
		f.mu.Unlock()
	}
	return s
}
