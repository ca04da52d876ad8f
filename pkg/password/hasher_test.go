package password

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// cheap is a cost that keeps tests quick; nothing they hold depends on it.
func cheap() Params { return Params{Memory: 64, Time: 1, Threads: 1} }

func newHasher(t testing.TB, config Config) *Hasher {
	t.Helper()
	h, err := NewHasher(config)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func mustHash(t testing.TB, h *Hasher, plain string) string {
	t.Helper()
	stored, err := h.Hash(t.Context(), plain)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

// verifyNothing verifies a password of a user who does not exist.
func verifyNothing(ctx context.Context, h *Hasher, plain string) error {
	_, err := h.Verify(ctx, "", plain)
	return err
}

// occupy takes every turn of h, as evaluations under way do, and returns the function that ends one of them.
func occupy(h *Hasher) (release func()) {
	for range cap(h.turns) {
		h.queue.enter(ForLogin)
		h.turns <- struct{}{}
	}
	return func() {
		<-h.turns
		h.queue.leave()
	}
}

func TestHashAndVerify(t *testing.T) {
	h := newHasher(t, Config{Params: cheap()})
	for _, tt := range []struct {
		name          string
		chosen, typed string
		want          bool
	}{
		{"ok/same", passphrase, passphrase, true},
		{"ok/spaces kept", "  two spaces  ", "  two spaces  ", true},
		{"ok/line ends kept", "tab\tand\r\nline", "tab\tand\r\nline", true},
		{"ok/composed, typed decomposed", "caf\u00e9 au lait", "cafe\u0301 au lait", true},
		{"ok/decomposed, typed composed", "cafe\u0301 au lait", "caf\u00e9 au lait", true},
		{"ok/256 code points", strings.Repeat("🦊🐻", 128), strings.Repeat("🦊🐻", 128), true},
		{"fail/case", passphrase, strings.ToUpper(passphrase), false},
		{"fail/space trimmed", " leading space", "leading space", false},
		{"fail/space added", "leading space", "leading space ", false},
		{"fail/last of 256 code points", strings.Repeat("🦊🐻", 128), strings.Repeat("🦊🐻", 127) + "🦊🦊", false},
		{"fail/ligature is not its letters", "o\ufb00ice hours", "office hours", false},
		{"fail/empty", passphrase, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stored := mustHash(t, h, tt.chosen)
			if got, err := h.Verify(t.Context(), stored, tt.typed); got != tt.want || err != nil {
				t.Errorf("Verify = %t, %v", got, err)
			}
		})
	}
}

func TestHashIsSalted(t *testing.T) {
	h := newHasher(t, Config{Params: cheap()})
	if a, b := mustHash(t, h, passphrase), mustHash(t, h, passphrase); a == b {
		t.Errorf("the same password gave %s twice", a)
	}
}

func TestHashDefaultCost(t *testing.T) {
	stored := mustHash(t, newHasher(t, Config{}), passphrase)
	if !strings.HasPrefix(stored, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("default hash is %s", stored)
	}
}

func TestHashRefuses(t *testing.T) {
	h := newHasher(t, Config{Params: cheap()})
	for name, tt := range map[string]struct {
		plain string
		want  error
	}{
		"fail/empty":            {"", ErrTooShort},
		"fail/257 code points":  {strings.Repeat("k", 257), ErrTooLong},
		"fail/NUL":              {"a\x00a", ErrMalformed},
		"fail/invalid UTF-8":    {"caf\xe9 au lait", ErrMalformed},
		"fail/U+FFFD":           {"caf\ufffd au lait", ErrMalformed},
		"fail/surrogate halves": {"\xed\xa0\xbd\xed\xb8\x80", ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			if stored, err := h.Hash(t.Context(), tt.plain); stored != "" || !errors.Is(err, tt.want) {
				t.Errorf("Hash = %q, %v, want %v", stored, err, tt.want)
			}
		})
	}
	if n := h.Stats().Evaluations; n != 0 {
		t.Errorf("%d evaluations", n)
	}
}

func TestNeedsRehash(t *testing.T) {
	h := newHasher(t, Config{Params: cheap()})
	for name, stored := range foreignHashes() {
		if !h.NeedsRehash(stored) {
			t.Errorf("%s: kept", name)
		}
	}
	for _, stored := range append(damagedHashes(), "") {
		if !h.NeedsRehash(stored) {
			t.Errorf("%q: kept", stored)
		}
	}
	if h.NeedsRehash(mustHash(t, h, passphrase)) {
		t.Error("a fresh hash needs a rehash")
	}
	if !h.NeedsRehash(mustHash(t, newHasher(t, Config{Params: Params{Memory: 128, Time: 1}}), passphrase)) {
		t.Error("a hash of another cost is kept")
	}
	if newHasher(t, Config{}).NeedsRehash(foreignHashes()["argon2id"]) {
		t.Error("a foreign hash of exactly our cost needs a rehash")
	}
}

func TestNewHasherValidates(t *testing.T) {
	for name, config := range map[string]Config{
		"fail/memory":      {Params: Params{Memory: 1 << 30}},
		"fail/concurrency": {Concurrency: -1},
		"fail/wait":        {MaxWait: -time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			if h, err := NewHasher(config); err == nil || h != nil {
				t.Errorf("NewHasher(%+v) = %v, %v", config, h, err)
			}
		})
	}
}

// Every branch that a login can take costs exactly one evaluation, so that neither time nor load tells them apart.
func TestPW02_OneEvaluationInEveryBranch(t *testing.T) {
	h := newHasher(t, Config{Params: cheap()})
	own := mustHash(t, h, passphrase)
	long := strings.Repeat("k", 100)
	for _, tt := range []struct {
		name          string
		stored, plain string
		want          bool
		wantErr       error
	}{
		{"ok/right password", own, passphrase, true, nil},
		{"ok/imported argon2i", foreignHashes()["argon2i"], passphrase, true, nil},
		{"ok/imported bcrypt", foreignHashes()["bcrypt 2b"], passphrase, true, nil},
		{"fail/wrong password", own, "kx7vq2m", false, nil},
		{"fail/empty password", own, "", false, nil},
		{"fail/unknown user", "", passphrase, false, nil},
		{"fail/unknown user, empty password", "", "", false, nil},
		{"fail/more than 72 bytes, unknown user", "", long, false, nil},
		{"fail/more than 72 bytes, own hash", own, long, false, nil},
		{"fail/more than 72 bytes, bcrypt", foreignHashes()["bcrypt 2b"], long, false, nil},
		{"fail/damaged hash", "$2b$99$", passphrase, false, ErrUnknownHash},
		{"fail/password stored in clear", passphrase, passphrase, false, ErrUnknownHash},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := h.Stats().Evaluations
			got, err := h.Verify(t.Context(), tt.stored, tt.plain)
			if got != tt.want || !errors.Is(err, tt.wantErr) {
				t.Errorf("Verify = %t, %v, want %t, %v", got, err, tt.want, tt.wantErr)
			}
			if n := h.Stats().Evaluations - before; n != 1 {
				t.Errorf("%d evaluations", n)
			}
		})
	}
	t.Run("ok/nothing", func(t *testing.T) {
		before := h.Stats().Evaluations
		if err := verifyNothing(t.Context(), h, passphrase); err != nil {
			t.Error(err)
		}
		if n := h.Stats().Evaluations - before; n != 1 {
			t.Errorf("%d evaluations", n)
		}
	})
	if h.nothing.Params != cheap().orDefault() || h.NeedsRehash(h.nothing.String()) {
		t.Errorf("the hash of nothing is %s, not of the configured cost", h.nothing)
	}
}

// bcrypt reads 72 bytes and repeats what comes before a NUL, so these passwords would all match.
func TestPW08_BcryptReadsNoFurther(t *testing.T) {
	h := newHasher(t, Config{Params: cheap()})
	const (
		of72 = "$2b$04$qIvnek6elS8cfaxWzp2lY./WiDzYbezhY6EdkZuxclCSCT52ppV8C" // 72 times a
		ofA  = "$2b$04$oVmTeSb579nSwwPvFGJN9uVA3AD6HE1tFGvjdD4Q7ucYo/BgEJQry" // a
		of0  = "$2b$04$kXnqgWDNfoW9NhXC.92QTuPdFqbtyzLb9wXvKZ8uVS9W2hcX1c4FG" // the empty password
	)
	a72 := strings.Repeat("a", 72)
	for _, tt := range []struct {
		name          string
		stored, plain string
		want          bool
		wantErr       error
	}{
		{"ok/72 bytes", of72, a72, true, nil},
		{"fail/72 bytes and X", of72, a72 + "X", false, nil},
		{"fail/72 bytes and Y", of72, a72 + "Y", false, nil},
		{"fail/71 bytes", of72, a72[1:], false, nil},
		{"ok/a", ofA, "a", true, nil},
		{"fail/a NUL a", ofA, "a\x00a", false, ErrMalformed},
		{"fail/empty password", of0, "", false, nil},
		{"fail/NUL for the empty password", of0, "\x00", false, ErrMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := h.Verify(t.Context(), tt.stored, tt.plain); got != tt.want || !errors.Is(err, tt.wantErr) {
				t.Errorf("Verify = %t, %v, want %t, %v", got, err, tt.want, tt.wantErr)
			}
		})
	}
	// What we make is never bcrypt, so a long password keeps all its bytes.
	if ok, err := h.Verify(t.Context(), mustHash(t, h, a72+"X"), a72+"Y"); ok || err != nil {
		t.Errorf("Verify of another long password = %t, %v", ok, err)
	}
}

func TestPW10_Unicode(t *testing.T) {
	h := newHasher(t, Config{Params: cheap()})
	stored := mustHash(t, h, "\u00e9t\u00e9 \u1e69 \uac01") // é, ṩ, a Hangul syllable
	for name, tt := range map[string]struct {
		plain   string
		want    bool
		wantErr error
	}{
		"ok/composed":            {"\u00e9t\u00e9 \u1e69 \uac01", true, nil},
		"ok/decomposed":          {"e\u0301te\u0301 s\u0323\u0307 \u1100\u1161\u11a8", true, nil},
		"ok/marks out of order":  {"e\u0301te\u0301 s\u0307\u0323 \u1100\u1161\u11a8", true, nil},
		"fail/without the marks": {"ete s \uac00", false, nil},
		"fail/compatibility":     {"\u00e9t\u00e9 \u1e69\u3000\uac01", false, nil},
		"fail/Latin-1":           {"\xe9t\xe9 \u1e69 \uac01", false, ErrMalformed},
		"fail/lost in decoding":  {"\ufffdt\ufffd \u1e69 \uac01", false, ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := h.Verify(t.Context(), stored, tt.plain); got != tt.want || !errors.Is(err, tt.wantErr) {
				t.Errorf("Verify = %t, %v, want %t, %v", got, err, tt.want, tt.wantErr)
			}
		})
	}
}

func TestPW11_LongPasswordIsNotHashed(t *testing.T) {
	h := newHasher(t, Config{Params: cheap()})
	for _, length := range []int{257, 1<<10 + 1, 1 << 20, 100 << 20} {
		plain := strings.Repeat("k", length)
		if ok, err := h.Verify(t.Context(), "", plain); ok || !errors.Is(err, ErrTooLong) {
			t.Errorf("Verify of %d bytes = %t, %v", length, ok, err)
		}
		if err := (Policy{}).Check(plain); !errors.Is(err, ErrTooLong) {
			t.Errorf("Check of %d bytes = %v", length, err)
		}
	}
	if n := h.Stats().Evaluations; n != 0 {
		t.Errorf("%d evaluations", n)
	}
}

func TestPW13_Whitespace(t *testing.T) {
	h := newHasher(t, Config{Params: cheap()})
	const typed = " \t pass phrase with space \n"
	if err := (Policy{}).Check(typed); err != nil {
		t.Fatal(err)
	}
	stored := mustHash(t, h, typed)
	for plain, want := range map[string]bool{
		typed:                                true,
		strings.TrimSpace(typed):             false,
		typed[1:]:                            false,
		strings.ReplaceAll(typed, "\t", " "): false,
	} {
		if ok, err := h.Verify(t.Context(), stored, plain); ok != want || err != nil {
			t.Errorf("Verify(%q) = %t, %v", plain, ok, err)
		}
	}
}

func TestPW14_DamagedHashNeverMatchesNorPanics(t *testing.T) {
	h := newHasher(t, Config{Params: cheap()})
	for _, stored := range damagedHashes() {
		for _, plain := range []string{passphrase, "", "password"} {
			if ok, err := h.Verify(t.Context(), stored, plain); ok || !errors.Is(err, ErrUnknownHash) {
				t.Errorf("Verify(%.80q, %q) = %t, %v", stored, plain, ok, err)
			}
		}
	}
	for _, plain := range []string{passphrase, "", "password"} {
		if ok, err := h.Verify(t.Context(), "", plain); ok || err != nil {
			t.Errorf("Verify of an empty hash = %t, %v", ok, err)
		}
	}
}

func TestBusyWhenQueueIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHasher(t, Config{Params: cheap(), Concurrency: 2, Queue: 3})
		release := occupy(h)
		var waiting sync.WaitGroup
		for range 3 {
			waiting.Go(func() {
				if err := verifyNothing(t.Context(), h, passphrase); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if stats := h.Stats(); stats.Waiting != 3 || stats.Running != 2 {
			t.Errorf("stats = %+v", stats)
		}
		for range 100 {
			busy, ok := errors.AsType[*BusyError](verifyNothing(t.Context(), h, passphrase))
			if !ok || busy.RetryAfter < time.Second || busy.RetryAfter%time.Second != 0 {
				t.Fatalf("busy = %+v, %t", busy, ok)
			}
		}
		release()
		release()
		waiting.Wait()
		want := Stats{Evaluations: 3, Refusals: 100}
		if stats := h.Stats(); stats != want {
			t.Errorf("stats = %+v, want %+v", stats, want)
		}
	})
}

func TestBusyAfterMaxWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHasher(t, Config{Params: cheap(), Concurrency: 1, MaxWait: 3 * time.Second})
		release := occupy(h)
		start := time.Now()
		err := verifyNothing(t.Context(), h, passphrase)
		if _, ok := errors.AsType[*BusyError](err); !ok || time.Since(start) != 3*time.Second {
			t.Errorf("Verify = %v after %s", err, time.Since(start))
		}
		release()
		if err := verifyNothing(t.Context(), h, passphrase); err != nil {
			t.Error(err)
		}
		if stats := h.Stats(); stats != (Stats{Evaluations: 1, Refusals: 1}) {
			t.Errorf("stats = %+v", stats)
		}
	})
}

func TestBusyNobodyWaits(t *testing.T) {
	h := newHasher(t, Config{Params: cheap(), Concurrency: 1, Queue: -1})
	release := occupy(h)
	if _, ok := errors.AsType[*BusyError](verifyNothing(t.Context(), h, passphrase)); !ok {
		t.Error("a caller waited")
	}
	release()
	if err := verifyNothing(t.Context(), h, passphrase); err != nil {
		t.Error(err)
	}
}

func TestRetryAfterIsTheTimeOfTheQueue(t *testing.T) {
	h := newHasher(t, Config{Params: cheap(), Concurrency: 2, Queue: -1})
	h.waiting.Store(9)
	for cost, want := range map[time.Duration]time.Duration{
		0:                      time.Second,
		16 * time.Millisecond:  time.Second,
		200 * time.Millisecond: 2 * time.Second,
		time.Second:            6 * time.Second,
	} {
		h.lastCost.Store(int64(cost))
		if busy, _ := errors.AsType[*BusyError](h.busy()); busy.RetryAfter != want {
			t.Errorf("cost %s: RetryAfter = %s, want %s", cost, busy.RetryAfter, want)
		}
	}
}

func TestCancelledCallerLeavesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("the caller hung up")
		h := newHasher(t, Config{Params: cheap(), Concurrency: 1, Queue: 1})
		release := occupy(h)
		ctx, cancel := context.WithCancelCause(t.Context())
		left := make(chan error)
		go func() { left <- verifyNothing(ctx, h, passphrase) }()
		synctest.Wait()
		cancel(gone)
		if err := <-left; !errors.Is(err, gone) {
			t.Errorf("Verify = %v", err)
		}
		if err := verifyNothing(ctx, h, passphrase); !errors.Is(err, gone) {
			t.Errorf("Verify with a context that has ended = %v", err)
		}
		// The place in the queue is free again.
		next := make(chan error)
		go func() { next <- verifyNothing(t.Context(), h, passphrase) }()
		synctest.Wait()
		release()
		if err := <-next; err != nil {
			t.Error(err)
		}
		if stats := h.Stats(); stats != (Stats{Evaluations: 1}) {
			t.Errorf("stats = %+v", stats)
		}
	})
}

// However many log in at once, no more than Concurrency evaluations are under way, and each caller is answered.
func TestPW12_BoundedUnderLoad(t *testing.T) {
	h := newHasher(t, Config{Params: Params{Memory: 1 << 10, Time: 1}, Concurrency: 2, Queue: 20})
	var callers sync.WaitGroup
	answers := make(chan error, 200)
	for range cap(answers) {
		callers.Go(func() { answers <- verifyNothing(t.Context(), h, passphrase) })
	}
	callers.Wait()
	close(answers)
	var done, refused uint64
	for err := range answers {
		switch _, busy := errors.AsType[*BusyError](err); {
		case err == nil:
			done++
		case busy:
			refused++
		default:
			t.Error(err)
		}
	}
	if stats := h.Stats(); stats != (Stats{Evaluations: done, Refusals: refused}) || done < 22 {
		t.Errorf("stats = %+v after %d done, %d refused", stats, done, refused)
	}
}

func BenchmarkVerify(b *testing.B) {
	h := newHasher(b, Config{})
	stored := mustHash(b, h, passphrase)
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := h.Verify(b.Context(), stored, passphrase); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
