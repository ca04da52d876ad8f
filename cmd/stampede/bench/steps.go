package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const mib = 1 << 20

// size is the size of the program as shipped.
func (b *bench) size(context.Context) ([]figure, error) {
	info, err := os.Stat(b.program("handstamp"))
	if err != nil {
		return nil, err
	}
	return []figure{newFigure("program size", "MiB", samples{float64(info.Size()) / mib}, "", nil, below(40))}, nil
}

// startUp measures an empty start on SQLite: the time from exec to the first token in the client's hand, and the memory at rest.
func (b *bench) startUp(ctx context.Context) ([]figure, error) {
	var took, idle samples
	for i := range b.repetitions {
		began := time.Now()
		s, err := b.startSubject(ctx, "start-"+strconv.Itoa(i), "", "")
		if err != nil {
			return nil, err
		}
		err = firstToken(ctx, s.url)
		took = append(took, float64(time.Since(began).Microseconds())/1e3)
		if err == nil {
			time.Sleep(5 * time.Second) // at rest: the login is over and what it took is given back
			var now float64
			now, _, err = memoryOf(s.process.pid())
			idle = append(idle, now/mib)
		}
		s.process.stop()
		if err != nil {
			return nil, err
		}
	}
	return []figure{
		newFigure("start to first token, SQLite, empty", "ms", took, "", nil, below(300)),
		newFigure("memory when idle", "MiB", idle, "", nil, below(40)),
	}, nil
}

// cell is what one number of clients does, repetition by repetition.
type cell struct{ pgbench, postgres, sqlite, p50, p99, sqliteP50, sqliteP99 samples }

// chains is the main table: refresh chains on both databases and the bare statement, in turn.
func (b *bench) chains(ctx context.Context) ([]figure, error) {
	if err := b.subjects(ctx); err != nil {
		return nil, err
	}
	hello, err := b.startHello(ctx)
	if err != nil {
		return nil, err
	}
	defer hello.process.stop()
	// Nobody's first second is measured.
	for _, s := range []*subject{b.postgres, b.sqlite} {
		if _, err := b.stampede(ctx, "refresh", s.url, "--clients", "64", "--duration", "1s", "--seed-file", s.seeds); err != nil {
			return nil, err
		}
	}
	before, err := b.database.counters(ctx)
	if err != nil {
		return nil, err
	}
	cells := map[int]*cell{1: {}, 8: {}, 64: {}}
	clients := []int{1, 8, 64}
	var hellos, wal, serverCPU, bareCPU, databaseCPU, clientCPU samples
	for repetition := range b.repetitions {
		for _, n := range clients {
			c := cells[n]
			tps, err := b.database.pgbench(ctx, b.dir, n, activeSessions, b.duration)
			if err != nil {
				return nil, err
			}
			c.pgbench = append(c.pgbench, tps)
			var use meters
			r, err := b.metered(ctx, n, &use)
			if err != nil {
				return nil, err
			}
			refresh := r.Operations["refresh"]
			c.postgres, c.p50, c.p99 = append(c.postgres, refresh.PerSecond), append(c.p50, refresh.Latency.P50), append(c.p99,
				refresh.Latency.P99)
			if n == 64 {
				wal, serverCPU, clientCPU = append(wal, use.wal/refresh.Answered), append(serverCPU,
					use.server/refresh.Answered), append(clientCPU, r.ClientCPU)
				if b.database.postmaster != 0 {
					databaseCPU = append(databaseCPU, use.database/refresh.Answered)
				}
			}
			lite, err := b.refreshes(ctx, b.sqlite, n)
			if err != nil {
				return nil, err
			}
			refresh = lite.Operations["refresh"]
			c.sqlite, c.sqliteP50, c.sqliteP99 = append(c.sqlite, refresh.PerSecond), append(c.sqliteP50,
				refresh.Latency.P50), append(c.sqliteP99, refresh.Latency.P99)
			b.note("  %d of %d, %2d clients: pgbench %.0f/s, PostgreSQL %.0f/s, SQLite %.0f/s", repetition+1, b.repetitions, n, tps,
				c.postgres[repetition], c.sqlite[repetition])
		}
		r, err := b.stampede(ctx, "get", hello.url, b.flags(64)...)
		if err != nil {
			return nil, err
		}
		hellos = append(hellos, r.Operations["get"].PerSecond)
		bare, err := b.bareRefresh(ctx, hello)
		if err != nil {
			return nil, err
		}
		bareCPU = append(bareCPU, bare)
	}
	after, err := b.database.counters(ctx)
	if err != nil {
		return nil, err
	}

	var figures []figure
	for _, n := range clients {
		c := cells[n]
		var target *goal
		if n == 64 {
			target = ratioOver(1)
		}
		figures = append(figures,
			newFigure(fmt.Sprintf("refreshes, PostgreSQL, %d clients", n), "/s", c.postgres, fmt.Sprintf("pgbench, %d connections", n),
				c.pgbench, target),
			newFigure(fmt.Sprintf("refreshes, SQLite, %d clients", n), "/s", c.sqlite, fmt.Sprintf("pgbench, %d connections", n),
				c.pgbench, nil))
	}
	rotations := after.updated - before.updated
	if rotations <= 0 {
		return figures, errors.New("the statistics of sessions show no update")
	}
	return append(figures,
		newFigure("refresh p50, PostgreSQL, 1 client", "ms", cells[1].p50, "", nil, below(0.7)),
		newFigure("refresh p99, PostgreSQL, 64 clients", "ms", cells[64].p99, "", nil, below(20)),
		newFigure("refresh p50, SQLite, 1 client", "ms", cells[1].sqliteP50, "", nil, nil),
		newFigure("refresh p99, SQLite, 64 clients", "ms", cells[64].sqliteP99, "", nil, nil),
		newFigure("refreshes, PostgreSQL, 64 clients, to a framework that does nothing", "/s", cells[64].postgres,
			"echo hello-world", hellos, nil),
		newFigure("CPU of a refresh, service, 64 clients", "µs", serverCPU, "bare signature and echo POST", bareCPU, ratioUnder(1.7)),
		newFigure("CPU of a refresh, PostgreSQL, 64 clients", "µs", databaseCPU, "", nil, nil),
		newFigure("CPU of a refresh, load client, 64 clients", "µs", clientCPU, "", nil, nil),
		newFigure("write-ahead log of a rotation, 64 clients", "bytes", wal, "", nil, below(400)),
		newFigure("rows inserted for a rotation", "", samples{(after.inserted - before.inserted) / rotations}, "", nil, exactly(0)),
		newFigure("rotations that were heap-only updates", "%", samples{(after.hot - before.hot) / rotations * 100}, "", nil,
			atLeast(99)),
		newFigure(fmt.Sprintf("growth of sessions and its indexes in %s rotations", number(rotations)), "%",
			samples{(after.bytes - before.bytes) / before.bytes * 100}, "", nil, atMost(1)),
	), nil
}

// meters is what the parts used during one measurement: CPU in microseconds, log in bytes.
type meters struct{ wal, server, database float64 }

// metered is refreshes on PostgreSQL with the meters read before and after.
func (b *bench) metered(ctx context.Context, clients int, u *meters) (*loadReport, error) {
	read := func() (meters, error) {
		var now meters
		var err error
		now.wal, err = b.database.walPosition(ctx)
		server, _ := cpuOf(b.postgres.process.pid())
		now.server = float64(server.Microseconds())
		if b.database.postmaster != 0 {
			now.database = float64(cpuOfFamily(b.database.postmaster).Microseconds())
		}
		return now, err
	}
	before, err := read()
	if err != nil {
		return nil, err
	}
	r, err := b.refreshes(ctx, b.postgres, clients)
	if err != nil {
		return nil, err
	}
	after, err := read()
	u.wal, u.server, u.database = after.wal-before.wal, after.server-before.server, after.database-before.database
	return r, err
}

// bareRefresh is the CPU in microseconds of what no refresh can do without: an ES256 signature, and the framework's answer of
// the same size to a request of the same size. Each is measured alone.
func (b *bench) bareRefresh(ctx context.Context, hello *subject) (float64, error) {
	before, _ := cpuOf(hello.process.pid())
	r, err := b.refreshes(ctx, hello, 64)
	if err != nil {
		return 0, err
	}
	after, _ := cpuOf(hello.process.pid())
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return 0, err
	}
	const signatures = 50_000
	input := make([]byte, signingInput)
	began, _ := cpuOf(os.Getpid())
	for range signatures {
		sum := sha256.Sum256(input)
		if _, err := ecdsa.SignASN1(rand.Reader, key, sum[:]); err != nil {
			return 0, err
		}
	}
	ended, _ := cpuOf(os.Getpid())
	return float64((after-before).Microseconds())/r.Operations["refresh"].Answered +
		float64((ended-began).Microseconds())/signatures, nil
}

// signingInput is about as long as that of an access token, in bytes.
const signingInput = 600

func (b *bench) startHello(ctx context.Context) (*subject, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	p, err := start(b.dir, "hello", b.program("hello"), nil, addr)
	if err != nil {
		return nil, err
	}
	if err := p.awaitTCP(ctx, addr); err != nil {
		p.stop()
		return nil, err
	}
	var tokens strings.Builder
	for i := range activeSessions {
		fmt.Fprintf(&tokens, "hsr_%064d\n", i)
	}
	s := &subject{name: "hello", url: "http://" + addr, seeds: filepath.Join(b.dir, "hello.txt"), process: p}
	if err := os.WriteFile(s.seeds, []byte(tokens.String()), 0o600); err != nil {
		p.stop()
		return nil, err
	}
	return s, nil
}

// statements counts what the service asks of PostgreSQL for a refresh, a login and a token check. Each is run n and
// then 11 n times, so that start-up, sign-up and polling cancel out, and the result is rounded for what does not: to
// tenths, to hundredths if n is large.
func (b *bench) statements(ctx context.Context) ([]figure, error) {
	if err := b.subjects(ctx); err != nil {
		return nil, err
	}
	counter, err := newStatementCounter(b.database.address())
	if err != nil {
		return nil, err
	}
	defer counter.close()
	s, err := b.startSubject(ctx, "counted", b.database.url(counter.address()), b.postgres.keys)
	if err != nil {
		return nil, err
	}
	defer s.process.stop()
	// What the service asks by itself, several times a second, is no part of a request.
	const rest = 5 * time.Second
	time.Sleep(time.Second)
	before := counter.count.Load()
	time.Sleep(rest)
	background := float64(counter.count.Load()-before) / rest.Seconds()
	per := func(n int, mode string, args ...string) (float64, error) {
		counts := make([]float64, 2)
		for i, count := range []int{n, 11 * n} {
			before, began := counter.count.Load(), time.Now()
			if _, err := b.stampede(ctx, mode, s.url, append(args, "--duration", "0s", "--count", strconv.Itoa(count))...); err != nil {
				return 0, err
			}
			counts[i] = float64(counter.count.Load()-before) - background*time.Since(began).Seconds()
		}
		resolution := 10.0
		if n >= 400 {
			resolution = 100
		}
		return max(0, math.Round((counts[1]-counts[0])/float64(10*n)*resolution)/resolution), nil
	}
	figures := []figure{newFigure("statements per second at rest", "/s", samples{background}, "", nil, nil)}
	for _, m := range []struct {
		name   string
		n      int
		mode   string
		args   []string
		target *goal
	}{
		{"statements of a refresh, 1 client", 100, "refresh", []string{"--clients", "1", "--seed-file", b.postgres.seeds}, exactly(1)},
		{"statements of a refresh, 64 clients", 400, "refresh", []string{"--clients", "64", "--seed-file", b.postgres.seeds},
			atMost(1)},
		// Not so many logins of one user that each would also end his oldest session.
		{"statements of a login", 15, "login", []string{"--clients", "1", "--users", "4"}, exactly(2)},
		{"statements of a token check", 100, "check",
			[]string{"--clients", "1", "--sessions", "1", "--check-path", "/v1/forward-auth"}, exactly(0)},
		{"statements of GET /v1/me, which reads the user", 100, "check", []string{"--clients", "1", "--sessions", "1"}, atMost(1)},
		{"statements of a forged token", 100, "forged", []string{"--clients", "1"}, exactly(0)},
	} {
		v, err := per(m.n, m.mode, m.args...)
		if err != nil {
			first, _, _ := strings.Cut(err.Error(), "\n")
			b.note("%s: %v", m.name, err)
			figures = append(figures, missing(m.name, fmt.Errorf("%s", first)))
			continue
		}
		figures = append(figures, newFigure(m.name, "", samples{v}, "", nil, m.target))
	}
	return figures, nil
}

// storm compares refreshes with and without logins that keep the password hasher busy, and with and without a flood of
// forged tokens.
func (b *bench) storm(ctx context.Context) ([]figure, error) {
	if err := b.subjects(ctx); err != nil {
		return nil, err
	}
	var quiet, stormy, flooded, logins, shed, flood, peak samples
	p99 := func(into *samples) func() error {
		return func() error {
			r, err := b.refreshes(ctx, b.postgres, 64)
			if err == nil {
				*into = append(*into, r.Operations["refresh"].Latency.P99)
			}
			return err
		}
	}
	for range b.repetitions {
		if err := p99(&quiet)(); err != nil {
			return nil, err
		}
		r, err := b.beside(ctx, func(ctx context.Context, length string) (*loadReport, error) {
			return b.stampede(ctx, "login", b.postgres.url, "--clients", "16", "--users", "64", "--duration", length)
		}, p99(&stormy))
		if err != nil {
			return nil, err
		}
		login := r.Operations["login"]
		logins, shed = append(logins, login.PerSecond), append(shed, float64(sum(login.Shed))/r.Seconds)
		_, highest, err := memoryOf(b.postgres.process.pid())
		if err != nil {
			return nil, err
		}
		peak = append(peak, highest/mib)
		if r, err = b.beside(ctx, func(ctx context.Context, length string) (*loadReport, error) {
			return b.stampede(ctx, "forged", b.postgres.url, "--clients", "8", "--duration", length)
		}, p99(&flooded)); err != nil {
			return nil, err
		}
		flood = append(flood, r.Operations["forged"].PerSecond)
	}
	return []figure{
		newFigure("refresh p99, 64 clients, during a login storm", "ms", stormy, "without", quiet, ratioUnder(5)),
		newFigure("logins during it, 16 clients", "/s", logins, "", nil, nil),
		newFigure("logins shed during it", "/s", shed, "", nil, nil),
		newFigure("highest memory of the service", "MiB", peak, "", nil, nil),
		newFigure("refresh p99, 64 clients, during a flood of forged tokens", "ms", flooded, "without", quiet, ratioUnder(2)),
		newFigure("forged tokens refused during it, 8 clients", "/s", flood, "", nil, nil),
	}, nil
}

func sum(counts map[string]int64) (n int64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// forged is how fast forged tokens are refused when there is nothing else to do. The flood is pipelined, as a flood
// would be; so is its reference.
func (b *bench) forged(ctx context.Context) ([]figure, error) {
	if err := b.subjects(ctx); err != nil {
		return nil, err
	}
	hello, err := b.startHello(ctx)
	if err != nil {
		return nil, err
	}
	defer hello.process.stop()
	var refused, hellos samples
	for range b.repetitions {
		r, err := b.stampede(ctx, "forged", b.postgres.url, b.flags(8, "--pipeline", "16")...)
		if err != nil {
			return nil, err
		}
		refused = append(refused, r.Operations["forged"].PerSecond)
		if r, err = b.stampede(ctx, "get", hello.url, b.flags(8, "--pipeline", "16")...); err != nil {
			return nil, err
		}
		hellos = append(hellos, r.Operations["get"].PerSecond)
	}
	return []figure{newFigure("forged tokens refused, pipelined", "/s", refused, "echo hello-world, pipelined", hellos,
		atLeast(50_000))}, nil
}
