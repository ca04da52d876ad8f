package pgtest

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// ProgramsVariable names the environment variable with the directory of the server programs, for tests that need servers of
// their own. Without it they are looked for.
const ProgramsVariable = "HANDSTAMP_TEST_PG_BIN"

// Cluster is a server that a test may stop, replicate and configure. It is gone when the test ends.
type Cluster struct {
	t    testing.TB
	dir  string
	port int
}

// NewCluster starts a server with the given lines of configuration.
func NewCluster(t testing.TB, settings ...string) *Cluster {
	t.Helper()
	c := newCluster(t)
	c.program("initdb", "-D", c.dir, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-N")
	c.start(settings...)
	return c
}

// Standby starts a copy that follows the server.
func (c *Cluster) Standby() *Cluster {
	c.t.Helper()
	s := newCluster(c.t)
	s.program("pg_basebackup", "-D", s.dir, "-R", "-c", "fast", "-h", "127.0.0.1", "-p", strconv.Itoa(c.port), "-U", "postgres")
	s.start()
	return s
}

// Promote ends the copying and lets the server take writes.
func (c *Cluster) Promote() {
	c.t.Helper()
	c.program("pg_ctl", "-D", c.dir, "-w", "promote")
}

// Crash stops the server as if it had lost power.
func (c *Cluster) Crash() {
	c.t.Helper()
	c.program("pg_ctl", "-D", c.dir, "-m", "immediate", "-w", "stop")
}

// Restart starts the server again after a crash, at the same address. It recovers first.
func (c *Cluster) Restart() {
	c.t.Helper()
	c.program("pg_ctl", "-D", c.dir, "-l", filepath.Join(c.dir, "log"), "-w", "start")
}

// Set changes a setting of the running server.
func (c *Cluster) Set(name, value string) {
	c.t.Helper()
	execute(c.t, c.URL(), "ALTER SYSTEM SET "+pgx.Identifier{name}.Sanitize()+" = '"+value+"'")
	c.program("pg_ctl", "-D", c.dir, "reload")
}

// Host is the server's host and port.
func (c *Cluster) Host() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)) }

// URL is the URL of an empty database on the server.
func (c *Cluster) URL() string {
	return "postgres://postgres@" + c.Host() + "/postgres?sslmode=disable"
}

func newCluster(t testing.TB) *Cluster {
	t.Helper()
	parent, err := os.MkdirTemp("", "handstamp-cluster-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(parent); err != nil {
			t.Error(err)
		}
	})
	c := &Cluster{t: t, dir: filepath.Join(parent, "data")}
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		u := unprivileged(t)
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := cmp.Or(os.Chmod(parent, 0o711), os.Chown(c.dir, uid, gid)); err != nil { //nolint:gosec // the data stay private
			t.Fatal(err)
		}
	}
	return c
}

func (c *Cluster) start(settings ...string) {
	c.t.Helper()
	c.configure(append([]string{
		"listen_addresses = '127.0.0.1'",
		"unix_socket_directories = ''",
		"max_connections = 50",
		"shared_buffers = '32MB'",
	}, settings...)...)
	// A port that was free a moment ago may be another server's by now: then the next one.
	for attempts := 5; ; attempts-- {
		c.port = freePort(c.t)
		c.configure(fmt.Sprintf("port = %d", c.port))
		err := c.run("pg_ctl", "-D", c.dir, "-l", filepath.Join(c.dir, "log"), "-w", "start")
		if err == nil {
			break
		}
		if attempts == 1 || !strings.Contains(err.Error(), "Address already in use") {
			c.t.Fatal(err)
		}
	}
	c.t.Cleanup(func() {
		if _, err := os.Stat(filepath.Join(c.dir, "postmaster.pid")); err == nil {
			c.Crash()
		}
	})
}

// configure adds lines to the server's configuration. Of two lines for one setting the later counts.
func (c *Cluster) configure(lines ...string) {
	c.t.Helper()
	f, err := os.OpenFile(filepath.Join(c.dir, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := f.WriteString(strings.Join(lines, "\n") + "\n"); err != nil {
		c.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		c.t.Fatal(err)
	}
}

// freePort finds a port that nobody listens on, below those that the system hands out to a caller who asks for any: the server
// comes back to it after it has been down. It looks at random, because servers start side by side.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		n, err := rand.Int(rand.Reader, big.NewInt(15_000))
		if err != nil {
			t.Fatal(err)
		}
		port := 15_000 + int(n.Int64())
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil { //nolint:noctx // at once
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// program runs one of the server programs, which must succeed.
func (c *Cluster) program(name string, args ...string) {
	c.t.Helper()
	if err := c.run(name, args...); err != nil {
		c.t.Fatal(err)
	}
}

// run runs one of the server programs as a user for whom PostgreSQL runs. The error carries what it printed, and the log of the
// server.
func (c *Cluster) run(name string, args ...string) error {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.t.Context()), time.Minute)
	defer cancel()
	command := append([]string{filepath.Join(Programs(c.t), name)}, args...)
	if os.Geteuid() == 0 {
		u := unprivileged(c.t)
		command = append([]string{"setpriv", "--reuid=" + u.Uid, "--regid=" + u.Gid, "--clear-groups"}, command...)
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...) //nolint:gosec // the programs of PostgreSQL
	cmd.Dir = "/"
	// To a file, because the server inherits it: a pipe would not end before the server does.
	output, err := os.CreateTemp("", "handstamp-output-*")
	if err != nil {
		c.t.Fatal(err)
	}
	defer os.Remove(output.Name()) //nolint:errcheck // in the temporary directory
	defer output.Close()           //nolint:errcheck // read by name
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(output.Name())
		logged, _ := os.ReadFile(filepath.Join(c.dir, "log"))
		return fmt.Errorf("%s: %w\n%s\n%s", name, err, said, logged)
	}
	return nil
}

func unprivileged(t testing.TB) *user.User {
	t.Helper()
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			return u
		}
	}
	t.Fatal("PostgreSQL does not run as root, and there is no user postgres or nobody")
	return nil
}

// Programs is the directory of the programs of a PostgreSQL server.
func Programs(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv(ProgramsVariable); dir != "" {
		return dir
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path)
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		t.Fatalf("the programs of a PostgreSQL server are not found: run `make test`, or set %s to their directory", ProgramsVariable)
	}
	return filepath.Dir(found[len(found)-1])
}
