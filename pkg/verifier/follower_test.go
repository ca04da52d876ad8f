package verifier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// session returns a token of its own session.
func (i *issuer) session(sid string) string {
	return i.mint(i.signers[0], "sid", `"`+sid+`"`)
}

func expect(t *testing.T, v *Verifier, step, raw string, want error) {
	t.Helper()
	if _, err := v.Verify(t.Context(), raw); !errors.Is(err, want) {
		t.Errorf("%s: Verify = %v, want %v", step, err, want)
	}
}

func expectFeed(t *testing.T, v *Verifier, step string, want FeedMode) {
	t.Helper()
	if s := v.Status(); s.Feed != want {
		t.Errorf("%s: feed is %s, want %s (%+v)", step, s.Feed, want, s)
	}
}

func TestFollowStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newBubbleIssuer(t, newSigner("k"))
		i.block(BlockSID, "old")
		var modes []FeedMode
		var mu sync.Mutex
		v := i.follow(t, WithHooks(Hooks{FeedMode: func(m FeedMode) { mu.Lock(); modes = append(modes, m); mu.Unlock() }}))
		expect(t, v, "revoked before the start", i.session("old"), ErrBlocked)
		a, b := i.session("a"), i.session("b")
		expect(t, v, "ok", a, nil)
		synctest.Wait()
		expectFeed(t, v, "after the start", FeedStream)
		i.block(BlockSID, "a")
		synctest.Wait() // no time passes
		expect(t, v, "revoked", a, ErrBlocked)
		expect(t, v, "another session", b, nil)
		time.Sleep(time.Second)
		expect(t, v, "minted after the entry", i.session("a"), nil)
		time.Sleep(10 * time.Minute)
		expectFeed(t, v, "after ten quiet minutes", FeedStream)
		if s := v.Status(); s.Staleness > 6*time.Second || s.Entries != 2 || s.Keys != 1 || s.FeedErr != nil || s.KeysErr != nil ||
			s.KeysAge > 5*time.Minute {
			t.Errorf("status = %+v", s)
		}
		if n := i.count(feedPath); n > 3 {
			t.Errorf("%d polls beside a working stream", n)
		}
		if n := i.count(streamPath); n != 1 {
			t.Errorf("%d streams, want 1", n)
		}
		mu.Lock()
		defer mu.Unlock()
		if len(modes) == 0 || modes[len(modes)-1] != FeedStream {
			t.Errorf("modes = %v", modes)
		}
	})
}

func TestFollowWithoutStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, breakStream := range map[string]func(*issuer){
			"refused":              func(i *issuer) { i.fail[streamPath] = http.StatusNotFound },
			"held back by a proxy": func(i *issuer) { i.silent = true },
		} {
			i := newBubbleIssuer(t, newSigner("k"))
			i.set(breakStream)
			v := i.follow(t)
			for n := range 60 {
				sid := "s" + strconv.Itoa(n)
				raw := i.session(sid)
				expect(t, v, name, raw, nil)
				i.block(BlockSID, sid)
				time.Sleep(time.Second)
				expect(t, v, name, raw, ErrBlocked)
				expectFeed(t, v, name, FeedPolling)
			}
			if n := i.count(streamPath); n > 10 {
				t.Errorf("%s: %d attempts to stream in a minute", name, n)
			}
		}
	})
}

// A connection that is lost without a word (a half-open proxy) is noticed, polling takes over, and the stream comes back.
func TestREV07_StreamFallsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newBubbleIssuer(t, newSigner("k"))
		v := i.follow(t)
		time.Sleep(time.Minute)
		expectFeed(t, v, "before", FeedStream)
		raw := i.session("a")
		i.set(func(i *issuer) { i.silent = true })
		i.block(BlockSID, "a")
		time.Sleep(streamSilence + 2*time.Second)
		expect(t, v, "after the silence", raw, ErrBlocked)
		i.set(func(i *issuer) { i.silent = false })
		time.Sleep(2 * time.Minute)
		expectFeed(t, v, "after", FeedStream)
	})
}

func TestFollowThroughRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newBubbleIssuer(t, newSigner("k"))
		v := i.follow(t)
		time.Sleep(time.Second)
		kept := i.session("kept")
		i.block(BlockSID, "kept")
		for range 5 {
			i.set(func(i *issuer) { i.fail[streamPath], i.fail[feedPath] = 503, 503 })
			time.Sleep(20 * time.Second)
			i.set(func(i *issuer) { clear(i.fail) })
			time.Sleep(20 * time.Second)
		}
		expect(t, v, "kept", kept, ErrBlocked)
		time.Sleep(time.Minute)
		expectFeed(t, v, "afterwards", FeedStream)
	})
}

// A stream that breaks now and then, as each deployment of the issuer breaks it, is back within two seconds each time.
// The client's own time limit has no part in that.
func TestStreamComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newBubbleIssuer(t, newSigner("k"))
		i.client.Timeout = time.Second
		v := i.follow(t)
		for n := range 10 {
			time.Sleep(time.Minute)
			if got := i.count(streamPath); got != n+1 {
				t.Fatalf("%d streams, want %d", got, n+1)
			}
			i.set(func(i *issuer) { i.fail[streamPath] = 503 })
			synctest.Wait()
			expectFeed(t, v, "broken", FeedPolling)
			i.set(func(i *issuer) { clear(i.fail) })
			time.Sleep(2 * time.Second)
			expectFeed(t, v, "again", FeedStream)
		}
	})
}

// The issuer forgets old cursors, or lost some of its entries with a database: the follower starts over and forgets nothing.
func TestCursorGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, streaming := range []bool{true, false} {
			i := newBubbleIssuer(t, newSigner("k"))
			if !streaming {
				i.set(func(i *issuer) { i.fail[streamPath] = 404 })
			}
			v := i.follow(t)
			lost, fresh := i.session("lost"), i.session("new")
			i.block(BlockSID, "lost")
			time.Sleep(2 * time.Second)
			i.set(func(i *issuer) { i.epoch++; i.log = nil })
			i.block(BlockSID, "new")
			time.Sleep(3 * time.Second)
			expect(t, v, "made by the new timeline", fresh, ErrBlocked)
			expect(t, v, "lost by the issuer", lost, ErrBlocked)
			if streaming {
				time.Sleep(5 * time.Second)
				expectFeed(t, v, "afterwards", FeedStream)
			}
		}
	})
}

// An issuer that resets every stream is not asked in a tight loop.
func TestEndlessResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newBubbleIssuer(t, newSigner("k"))
		v := i.follow(t)
		for range 120 {
			i.set(func(i *issuer) { i.epoch++ })
			time.Sleep(500 * time.Millisecond)
		}
		if n := i.counts(); n[streamPath] > 20 || n[feedPath] > 400 {
			t.Errorf("requests in a minute: %v", n)
		}
		_ = v
	})
}

func TestREV06_ColdStart(t *testing.T) {
	for name, policy := range map[string]Policy{"fail open": FailOpen, "fail closed": FailClosed} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := newBubbleIssuer(t, newSigner("k"))
				i.set(func(i *issuer) { i.fail[feedPath] = 503 })
				v := i.follow(t, WithMaxStaleness(time.Minute, policy))
				raw, revoked := i.session("a"), i.session("b")
				i.block(BlockSID, "b")
				for range 10 {
					expect(t, v, "no blocklist", raw, ErrUnavailable)
					expectFeed(t, v, "no blocklist", FeedLoading)
					if v.Ready() {
						t.Error("ready without a blocklist")
					}
					time.Sleep(10 * time.Second)
				}
				i.set(func(i *issuer) { clear(i.fail) })
				time.Sleep(pollLimit + time.Second)
				expect(t, v, "loaded", raw, nil)
				expect(t, v, "loaded", revoked, ErrBlocked)
				if !v.Ready() {
					t.Error("not ready with a blocklist")
				}
			})
		})
	}
}

func TestIssuerDownAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newBubbleIssuer(t, newSigner("k"))
		i.set(func(i *issuer) { i.fail[metaPath] = 502 })
		v := i.follow(t)
		raw := i.session("a")
		expect(t, v, "issuer down", raw, ErrUnavailable)
		i.set(func(i *issuer) { clear(i.fail) })
		time.Sleep(pollLimit + time.Second)
		expect(t, v, "issuer up", raw, nil)
	})
}

func TestIssuerMismatch(t *testing.T) {
	i := newIssuer(t, newSigner("k"))
	real := i.url
	for _, wrong := range []string{real + "/", strings.Replace(real, "127.0.0.1", "localhost", 1)} {
		v, err := New(t.Context(), wrong, WithAudience(testAudience))
		if !errors.Is(err, ErrIssuerMismatch) {
			t.Errorf("New for %q at %q = %v, want ErrIssuerMismatch", wrong, real, err)
		}
		if v != nil {
			v.Close()
		}
	}
}

// A replica that has lost its database sends heartbeats that say so.
func TestStalenessPolicies(t *testing.T) {
	outages := map[string]func(*issuer){
		"issuer gone": func(i *issuer) {
			i.fail[streamPath], i.fail[feedPath], i.fail[jwksPath], i.fail[metaPath] = 503, 503, 503, 503
		},
		"frozen replica":   func(i *issuer) { i.frozen = time.Now() },
		"says nothing":     func(i *issuer) { i.silent = true; i.fail[feedPath] = 504 },
		"connections hang": func(i *issuer) { i.silent = true; i.fail[feedPath], i.fail[jwksPath] = hang, hang },
		"malformed answer": func(i *issuer) { i.fail[streamPath] = 200; i.fail[feedPath] = 200 },
	}
	for name, outage := range outages {
		for policy, want := range map[Policy]error{FailOpen: nil, FailClosed: ErrUnavailable} {
			t.Run(name+" "+strconv.Itoa(int(policy)), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					i := newBubbleIssuer(t, newSigner("k"))
					v := i.follow(t, WithMaxStaleness(time.Minute, policy))
					known := i.session("known")
					i.block(BlockSID, "known")
					time.Sleep(10 * time.Second)
					i.set(outage)
					time.Sleep(50 * time.Second)
					raw := i.session("a")
					expect(t, v, "not yet stale", raw, nil)
					time.Sleep(40 * time.Second)
					begin := time.Now()
					expect(t, v, "stale", raw, want)
					expect(t, v, "stale", known, ErrBlocked)
					expectFeed(t, v, "stale", FeedSilent)
					if v.Ready() != (want == nil) {
						t.Errorf("Ready = %v", v.Ready())
					}
					if waited := time.Since(begin); waited > 0 {
						t.Errorf("tokens waited %v in an outage", waited)
					}
					i.set(func(i *issuer) { clear(i.fail); i.frozen, i.silent = time.Time{}, false })
					time.Sleep(requestTimeout + pollLimit + time.Second)
					expect(t, v, "over", raw, nil)
					time.Sleep(2 * time.Minute)
					expectFeed(t, v, "over", FeedStream)
				})
			})
		}
	}
}

// A stream that speaks but has nothing fresh to say is not enough: polling takes over beside it.
func TestStreamOfOldNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newBubbleIssuer(t, newSigner("k"))
		var frozen atomic.Bool
		begin := time.Now()
		handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != streamPath || !frozen.Load() {
				i.ServeHTTP(w, r)
				return
			}
			w.Header().Set("Content-Type", "text/event-stream")
			for r.Context().Err() == nil {
				data, _ := json.Marshal(Heartbeat{begin})
				fmt.Fprintf(w, "event: heartbeat\ndata: %s\n\n", data)
				_ = http.NewResponseController(w).Flush()
				select {
				case <-r.Context().Done():
				case <-time.After(5 * time.Second):
				}
			}
		})
		i.client = serveBubble(t, handler)
		frozen.Store(true)
		v := i.follow(t, WithMaxStaleness(20*time.Second, FailClosed))
		for range 60 {
			expect(t, v, "beside a frozen stream", i.session("a"), nil)
			if s := v.Status().Staleness; s > streamSilence+2*time.Second {
				t.Fatalf("staleness is %v", s)
			}
			time.Sleep(time.Second)
		}
	})
}

// TM-03: a process that was suspended decides nothing before it has heard what it missed.
func TestTM03_SuspendedProcess(t *testing.T) {
	for name, policy := range map[string]Policy{"fail open": FailOpen, "fail closed": FailClosed} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := newBubbleIssuer(t, newSigner("k"))
				v := i.follow(t, WithMaxStaleness(time.Minute, policy), WithPollInterval(time.Hour))
				raw := i.session("a")
				time.Sleep(time.Second)
				// The process was away for ten minutes and so was everything in it: what it had heard is that old.
				f := v.follower
				f.mu.Lock()
				f.fresh = f.fresh.Add(-10 * time.Minute)
				f.polled = f.polled.Add(-10 * time.Minute)
				f.mu.Unlock()
				i.mu.Lock() // no stream is woken
				now := uint32(time.Now().Unix())
				i.log = append(i.log, Entry{KeyOf(BlockSID, "a"), now, now + 3600})
				i.mu.Unlock()
				var wg sync.WaitGroup
				for range 10 {
					wg.Go(func() { expect(t, v, "after waking up", raw, ErrBlocked) })
				}
				wg.Wait()
				expectFeed(t, v, "after waking up", FeedStream)
			})
		})
	}
}

// Heartbeats that waited in the socket while the process was suspended count from when they were sent.
func TestOldWordsAreNotFresh(t *testing.T) {
	f := newFollower(nil, &settings{maxStaleness: time.Minute})
	now := time.Now()
	f.creditAsOf(now.Add(-10*time.Minute), now)
	if age := now.Sub(f.fresh); age < 10*time.Minute-clockTolerance {
		t.Errorf("a heartbeat ten minutes old counts as %v old", age)
	}
	f.creditAsOf(now.Add(20*time.Second), now) // the issuer's clock is ahead
	if !f.fresh.Equal(now) {
		t.Errorf("fresh = %v, want now", f.fresh.Sub(now))
	}
	f.creditAsOf(now.Add(20*time.Second), now.Add(5*time.Second)) // and it has not looked again
	if !f.fresh.Equal(now) {
		t.Errorf("repeating an instant made it fresh: %v", f.fresh.Sub(now))
	}
	f.creditAsOf(now.Add(-15*time.Second), now.Add(10*time.Second)) // another replica, whose clock is behind
	if !f.fresh.Equal(now.Add(10 * time.Second)) {
		t.Errorf("fresh = %v, want 10 s", f.fresh.Sub(now))
	}
}

func TestREV05_PurgeUnderClockChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newBubbleIssuer(t, newSigner("k"))
		v := i.follow(t)
		i.set(func(i *issuer) {
			now := uint32(time.Now().Unix())
			i.log = append(i.log, Entry{KeyOf(BlockSID, "a"), now, now + 900})
		})
		time.Sleep(time.Second)
		f := v.follower
		set := func(issuer, ours time.Duration) int { // both clocks, from the drop_after of the entry
			f.mu.Lock()
			f.asOf = time.Now().Add(issuer)
			f.mu.Unlock()
			if ours > 0 {
				time.Sleep(ours)
			}
			f.purge()
			return v.Status().Entries
		}
		if n := set(time.Hour, 0); n != 1 {
			t.Errorf("the issuer's clock alone removed the entry")
		}
		time.Sleep(900 * time.Second)
		if n := set(0, 0); n != 1 {
			t.Errorf("the entry is gone without a margin")
		}
		time.Sleep(purgeMargin + purgePause + 10*time.Second)
		if n := v.Status().Entries; n != 0 {
			t.Errorf("%d entries long after the last token has expired", n)
		}
	})
}

func TestCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the bubble fails if a goroutine is left
		i := newBubbleIssuer(t, newSigner("k"))
		v := i.follow(t)
		raw := i.session("a")
		time.Sleep(time.Second)
		v.Close()
		v.Close()
		expect(t, v, "known key", raw, nil)
		expect(t, v, "unknown key", newSigner("x").sign(newSigner("x").header(), claims(i.url)), ErrUnavailable)
		time.Sleep(time.Hour)
		i.mu.Lock()
		raw = i.session("b")
		i.mu.Unlock()
		begin := time.Now()
		expect(t, v, "stale, fail open", raw, nil)
		if time.Since(begin) > 0 {
			t.Error("waited for a poll that will not come")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		i.set(func(i *issuer) { i.fail[metaPath] = 502 })
		if v, err := New(ctx, i.url, WithAudience(testAudience), WithHTTPClient(i.client)); err == nil {
			v.Close() // both attempts may have ended first, which is as good
		}
	})
}

// What a broken or hostile issuer sends is bounded and is taken for no word at all.
func TestFeedOfNonsense(t *testing.T) {
	for name, body := range map[string]string{
		"not JSON":       "<html>",
		"another issuer": `{"iss":"https://other.example","cursor":"c","as_of":"2026-01-01T00:00:00Z","entries":""}`,
		"no cursor":      `{"iss":"ISS","as_of":"2026-01-01T00:00:00Z","entries":""}`,
		"cut entries":    `{"iss":"ISS","cursor":"c","as_of":"2026-01-01T00:00:00Z","entries":"AAAA"}`,
		"bad base64":     `{"iss":"ISS","cursor":"c","as_of":"2026-01-01T00:00:00Z","entries":"!"}`, "empty": "",
	} {
		t.Run("fail/"+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := newBubbleIssuer(t, newSigner("k"))
				handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == feedPath {
						_, _ = w.Write([]byte(strings.Replace(body, "ISS", i.url, 1)))
						return
					}
					i.ServeHTTP(w, r)
				})
				i.client = serveBubble(t, handler)
				var failures int
				v := i.follow(t, WithHooks(Hooks{FeedFailed: func(error) { failures++ }}))
				expect(t, v, "nonsense", i.session("a"), ErrUnavailable)
				if s := v.Status(); s.FeedErr == nil || s.Feed != FeedLoading || failures == 0 {
					t.Errorf("status = %+v after %d failures", s, failures)
				}
			})
		})
	}
}

func TestEventReader(t *testing.T) {
	read := func(s string) (list []event, err error) {
		er := eventReader{r: newSmallReader(s), heard: func() {}}
		for {
			e, err := er.next()
			if err != nil {
				return list, err
			}
			list = append(list, e)
		}
	}
	list, _ := read(": comment\nretry: 250\n\nevent:a\nid: 1\ndata: x\ndata:y\r\n\r\n\n\ndata: unnamed\n\nevent: b\ndata\nother: " +
		"z\n\nevent: cut\ndata: off")
	if len(list) != 3 || list[0].retry != 250*time.Millisecond || list[1].name != "a" || list[1].id != "1" ||
		string(list[1].data) != "x\ny" || list[2].name != "b" {
		t.Errorf("events = %+v", list)
	}
	if _, err := read("data: " + strings.Repeat("x", maxEvent)); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("an endless line: %v", err)
	}
	if _, err := read(strings.Repeat("data: "+strings.Repeat("x", 1<<20)+"\n", 20)); err == nil ||
		!strings.Contains(err.Error(), "more than") {
		t.Errorf("an endless event: %v", err)
	}
}
