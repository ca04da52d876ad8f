// Package pgtest gives tests a PostgreSQL database of their own.
package pgtest

import (
	"context"
	"crypto/rand"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Variable names the environment variable with the URL of a server on which tests may create databases.
const Variable = "HANDSTAMP_TEST_DATABASE_URL"

// URL makes an empty database and returns its URL. The database is dropped when the test ends, with whatever is still
// connected to it. Without a server the test fails: nothing here can be left out unnoticed.
func URL(t testing.TB) string {
	t.Helper()
	server := os.Getenv(Variable)
	if server == "" {
		t.Fatalf("%s is not set: run `make test`, which starts a PostgreSQL of its own, or set it to the postgres:// URL of a "+
			"server with a role that may create databases", Variable)
	}
	u, err := url.Parse(server)
	if err != nil {
		t.Fatalf("%s is not a URL", Variable)
	}
	name := "handstamp_test_" + strings.ToLower(rand.Text())
	execute(t, server, "CREATE DATABASE "+name)
	t.Cleanup(func() { execute(t, server, "DROP DATABASE "+name+" WITH (FORCE)") })
	u.Path = "/" + name
	if u.RawQuery == "" {
		u.RawQuery = "application_name=test" // so that a test can append parameters
	}
	return u.String()
}

func execute(t testing.TB, server, sql string) {
	t.Helper()
	// The context of the test has ended when its clean-up begins.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, server)
	if err != nil {
		t.Fatalf("connect to the server of %s: %v", Variable, err)
	}
	defer func() { _ = c.Close(ctx) }()
	if _, err := c.Exec(ctx, sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}
