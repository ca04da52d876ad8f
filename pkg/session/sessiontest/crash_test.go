package sessiontest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store"
)

// replicaVariable names the environment variable that makes the test binary a replica on the database whose URL it holds.
const replicaVariable = "HANDSTAMP_TEST_REPLICA"

// TestReplicaProcess is no test: it is what a process does that TestCrashPoints starts. It writes its address and then
// obeys: "kill FAULT CALL" has it die at that call of the store. It ends when its input does.
func TestReplicaProcess(t *testing.T) {
	url := os.Getenv(replicaVariable)
	if url == "" {
		return
	}
	l := newLink(nil)
	l.kill = func() {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until the signal arrives
	}
	s := servicetest.Start(t, servicetest.Database{URL: url, Wrap: func(s store.Store) store.Store {
		l.Store = s
		return l
	}}, func(c *service.Config) {
		c.Issuer, c.Audience = "http://127.0.0.1:1", []string{"http://127.0.0.1:1"}
	})
	fmt.Println("replica", s.URL)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var f, n int
		if _, err := fmt.Sscanf(in.Text(), "kill %d %d", &f, &n); err != nil {
			t.Fatal(err)
		}
		l.arm(fault(f), n)
		fmt.Println("armed")
	}
}

// process is a replica in a process of its own.
type process struct {
	*servicetest.Service
	t       *testing.T
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Scanner
}

func startProcess(t *testing.T, url string) *process {
	t.Helper()
	p := &process{t: t, command: exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestReplicaProcess$")}
	p.command.Env = append(os.Environ(), replicaVariable+"="+url)
	p.command.Stderr = os.Stderr
	var err error
	p.in, err = p.command.StdinPipe()
	must(t, err)
	out, err := p.command.StdoutPipe()
	must(t, err)
	p.out = bufio.NewScanner(out)
	must(t, p.command.Start())
	p.Service = &servicetest.Service{URL: p.said("replica ")}
	return p
}

// said returns the rest of the next line.
func (p *process) said(prefix string) string {
	p.t.Helper()
	if !p.out.Scan() || !strings.HasPrefix(p.out.Text(), prefix) {
		p.t.Fatalf("the replica said %q, %v", p.out.Text(), p.command.Wait())
	}
	return strings.TrimPrefix(p.out.Text(), prefix)
}

func (p *process) arm(f fault, n int) {
	p.t.Helper()
	_, err := fmt.Fprintf(p.in, "kill %d %d\n", f, n)
	must(p.t, err)
	p.said("armed")
}

// killed reports whether the process has died of SIGKILL. It waits for the end of one that is told to end.
func (p *process) killed() bool {
	_ = p.in.Close()
	err := p.command.Wait()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// deed is something that a replica dies of.
type deed struct {
	name    string
	prepare func(c *crashes, g *guest)
	do      func(c *crashes, g *guest) (servicetest.Response, error)
	// done says, by the database, whether it has been done.
	done func(c *crashes, g *guest) bool
	// again judges the answer to the repetition, after which the deed is done.
	again func(c *crashes, g *guest, r servicetest.Response) bool
}

// crashes is a database and the replica of the day.
type crashes struct {
	t  *testing.T
	p  *process
	db *database
}

func (c *crashes) row(g *guest) session.Session {
	c.t.Helper()
	id, err := session.ParseID(g.claims.Session)
	must(c.t, err)
	row, err := c.db.Session(c.t.Context(), id)
	must(c.t, err)
	return row
}

func (c *crashes) refresh(g *guest) (servicetest.Response, error) {
	return c.p.TryForm(c.t.Context(), "/oauth2/token", nil, "grant_type", "refresh_token", "refresh_token", g.tokens.RefreshToken)
}

func (c *crashes) post(path string, header http.Header, contentType, body string) (servicetest.Response, error) {
	if header == nil {
		header = http.Header{}
	}
	if body != "" {
		header.Set("Content-Type", contentType)
	}
	return c.p.Try(c.t.Context(), http.MethodPost, path, header, strings.NewReader(body))
}

// guest makes a user with one session and a second generation, all of it acknowledged.
func (c *crashes) guest() *guest {
	c.t.Helper()
	g := &guest{email: session.NewID(time.Now()).String() + "@example.test"}
	g.tokens = c.p.SignUp(c.t, g.email)
	g.tokens = c.p.Refresh(c.t, g.tokens.RefreshToken).Tokens(c.t)
	g.claims = claimsOf(c.t, g.tokens.AccessToken)
	return g
}

func (c *crashes) accepted(g *guest) bool {
	return c.p.Get(c.t, "/v1/me", g.tokens.AccessToken).Status == http.StatusOK
}

// over reports whether the session has ended, and waits until its access token is refused.
func (c *crashes) over(g *guest) bool {
	servicetest.Eventually(c.t, "the access token is refused", func() bool { return !c.accepted(g) })
	return c.ended(g)
}

func (c *crashes) ended(g *guest) bool { return !c.row(g).RevokedAt.IsZero() }

func (c *crashes) sessions(g *guest) int {
	c.t.Helper()
	live, err := c.db.Sessions(c.t.Context(), g.claims.Subject, time.Now())
	must(c.t, err)
	return len(live)
}

func (c *crashes) events(g *guest, kind audit.Kind) (n int) {
	c.t.Helper()
	events, err := c.db.Events(c.t.Context(), g.claims.Subject, audit.Cursor{}, 100)
	must(c.t, err)
	for _, e := range events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

func deeds() []deed {
	const form, document = "application/x-www-form-urlencoded", "application/json"
	at := func(generation uint32) func(c *crashes, g *guest) bool {
		return func(c *crashes, g *guest) bool { return c.row(g).Generation >= generation }
	}
	successor := func(c *crashes, g *guest, r servicetest.Response) bool {
		if r.Status != http.StatusOK || c.row(g).Generation != 3 {
			return false
		}
		p, err := c.db.codec.Parse(r.Tokens(c.t).RefreshToken)
		return err == nil && p.Generation == 3
	}
	status := func(want int) func(c *crashes, g *guest, r servicetest.Response) bool {
		return func(c *crashes, g *guest, r servicetest.Response) bool {
			return r.Status == want && c.over(g)
		}
	}
	return []deed{
		{name: "refresh", do: (*crashes).refresh, done: at(3), again: successor},
		{
			name: "repeat", do: (*crashes).refresh, done: at(3), again: successor,
			prepare: func(c *crashes, g *guest) { c.p.Refresh(c.t, g.tokens.RefreshToken).Tokens(c.t) },
		},
		{
			name: "reuse", do: (*crashes).refresh,
			prepare: func(c *crashes, g *guest) {
				c.p.Refresh(c.t, c.p.Refresh(c.t, g.tokens.RefreshToken).Tokens(c.t).RefreshToken).Tokens(c.t)
			},
			done: (*crashes).ended,
			again: func(c *crashes, g *guest, r servicetest.Response) bool {
				return r.Code() == "invalid_grant" && c.over(g) && c.events(g, audit.KindRefreshTokenReuse) == 1
			},
		},
		{
			name: "login",
			do: func(c *crashes, g *guest) (servicetest.Response, error) {
				return c.post("/v1/login", nil, document, `{"email":"`+g.email+`","password":"`+servicetest.Password+`"}`)
			},
			// The session whose tokens nobody got is one more in the list, and like any other.
			done: func(c *crashes, g *guest) bool { return c.sessions(g) == 2 },
			again: func(c *crashes, g *guest, r servicetest.Response) bool {
				return r.Status == http.StatusOK && c.p.Refresh(c.t, r.Tokens(c.t).RefreshToken).Status == http.StatusOK
			},
		},
		{
			name: "logout",
			do: func(c *crashes, g *guest) (servicetest.Response, error) {
				return c.post("/v1/logout", nil, document, `{"refresh_token":"`+g.tokens.RefreshToken+`"}`)
			},
			done: (*crashes).ended, again: status(http.StatusNoContent),
		},
		{
			name: "logout with the access token",
			do: func(c *crashes, g *guest) (servicetest.Response, error) {
				return c.post("/v1/logout", bearer(g.tokens.AccessToken), "", "")
			},
			done: (*crashes).ended,
			again: func(c *crashes, g *guest, r servicetest.Response) bool {
				// Who has got through the first time is not let in a second time.
				return (r.Status == http.StatusNoContent || r.Status == http.StatusUnauthorized) && c.over(g)
			},
		},
		{
			name: "revoke",
			do: func(c *crashes, g *guest) (servicetest.Response, error) {
				return c.post("/oauth2/revoke", nil, form, "token="+g.tokens.RefreshToken)
			},
			done: (*crashes).ended, again: status(http.StatusOK),
		},
	}
}

// A replica is killed at every call of the store that a deed makes, before it and after it. The next replica finds what
// was acknowledged; what was not acknowledged was done wholly or not at all, and can be done again.
func TestRT11_CrashPoints(t *testing.T) {
	servicetest.Each(t, func(t *testing.T, at servicetest.Database) {
		db, err := openDatabase(t.Context(), at.URL)
		must(t, err)
		t.Cleanup(func() { must(t, db.close()) })
		c := &crashes{t: t, db: db, p: startProcess(t, at.URL)}
		t.Cleanup(func() { c.p.killed() })
		kills := 0
		for _, d := range deeds() {
			var done []bool // at each point at which the replica died, in the order of points
			for point := 0; ; point++ {
				died, wasDone := c.crash(d, []fault{killBefore, killAfter}[point%2], point/2)
				if !died {
					break // the deed makes no more calls
				}
				done = append(done, wasDone)
			}
			kills += len(done)
			// Nothing is half done: up to some call the deed is not done, and from then on it is.
			first := slices.Index(done, true)
			if first < 0 || slices.Contains(done[first:], false) {
				t.Errorf("%s: done at the points: %v", d.name, done)
			}
			t.Logf("%s: %v", d.name, done)
		}
		t.Logf("%d kills", kills)
	})
}

// crash has a deed meet its end at a call. It reports whether it makes so many, and whether the deed was done then.
func (c *crashes) crash(d deed, f fault, n int) (died, done bool) {
	c.t.Helper()
	witness, g := c.guest(), c.guest()
	if d.prepare != nil {
		d.prepare(c, g)
	}
	c.p.arm(f, n)
	if r, err := d.do(c, g); err == nil {
		c.p.arm(healthy, 0)
		if !d.again(c, g, r) {
			c.t.Errorf("%s: %d %s", d.name, r.Status, r.Body)
		}
		return false, false
	}
	if !c.p.killed() {
		c.t.Fatalf("%s: no answer, but the replica is alive", d.name)
	}
	c.p = startProcess(c.t, c.db.url)

	what := fmt.Sprintf("%s, %v %d", d.name, f, n)
	if c.row(witness).Generation != 2 || !c.accepted(witness) || c.row(g).Generation < 2 {
		c.t.Errorf("%s: what was acknowledged is gone", what)
	}
	done = d.done(c, g)
	r, err := d.do(c, g)
	if err != nil || !d.again(c, g, r) {
		c.t.Errorf("%s, and again: %d %s, %v", what, r.Status, r.Body, err)
	}
	return true, done
}
