package redisstore_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/handstamp/handstamp/pkg/bff"
	"github.com/handstamp/handstamp/pkg/bff/bfftest"
	"github.com/handstamp/handstamp/pkg/bff/redisstore"
)

// server starts Redis or Valkey and returns its address.
func server(t *testing.T) string {
	t.Helper()
	var program string
	for _, name := range []string{"valkey-server", "redis-server"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		t.Fatal("this test needs Valkey or Redis, which is not here: scripts/with-redis installs it")
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	listener.Close()
	cmd := exec.Command(program, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir(),
		"--loglevel", "notice", "--logfile", "")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if strings.Contains(lines.Text(), "eady to accept connections") {
				close(ready)
			}
		}
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	select {
	case <-ready:
	case <-ended:
		t.Fatalf("%s ended", program)
	case <-time.After(30 * time.Second):
		t.Fatalf("%s is not ready after half a minute", program)
	}
	return address
}

func connect(t *testing.T, address string) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: address})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestStore(t *testing.T) {
	address := server(t)
	bfftest.TestStore(t, func(t *testing.T) bff.Store { t.Helper(); return redisstore.New(connect(t, address)) }, true)

	t.Run("expiry", func(t *testing.T) { testExpiry(t, connect(t, address)) })
	t.Run("prefix", func(t *testing.T) { testPrefix(t, connect(t, address)) })
}

// The server removes what has expired, with what names it.
func testExpiry(t *testing.T, client *redis.Client) {
	store := redisstore.New(client, redisstore.WithPrefix("{expiry}:"))
	now := time.Now()
	r := bff.Record{
		ID: bff.ID{1}, Version: 1, Subject: "usr_1", SessionID: "ses_1", Data: []byte("x"), CreatedAt: now,
		ExpiresAt: now.Add(time.Hour),
	}
	short := r
	short.ID, short.SessionID, short.ExpiresAt = bff.ID{2}, "ses_2", now.Add(300*time.Millisecond)
	for _, r := range []bff.Record{r, short} {
		if err := store.Create(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	r.Version, r.ExpiresAt = 2, now.Add(2*time.Hour)
	if err := store.Swap(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(30 * time.Second)
	for {
		_, err := store.Load(t.Context(), short.ID)
		if errors.Is(err, bff.ErrNotFound) {
			break
		}
		select {
		case <-deadline:
			t.Fatal("it does not expire")
		case <-time.After(10 * time.Millisecond):
		}
	}
	list, err := store.List(t.Context(), "usr_1")
	if err != nil || len(list) != 1 || list[0].ID != r.ID {
		t.Errorf("%v %v", list, err)
	}
	if gone, err := store.Trim(t.Context(), "usr_1", 1); err != nil || len(gone) != 0 {
		t.Errorf("the expired one was counted: %v %v", gone, err)
	}
	keys, err := client.Keys(t.Context(), "{expiry}:*").Result()
	if err != nil || len(keys) != 3 {
		t.Errorf("keys %v %v", keys, err)
	}
	for _, key := range keys {
		if left := client.PTTL(t.Context(), key).Val(); left < 100*time.Minute || left > 2*time.Hour+time.Second {
			t.Errorf("%s lives for %v", key, left)
		}
	}
	if ended, err := store.End(t.Context(), bff.Match{Subject: "usr_1"}); err != nil || len(ended) != 1 {
		t.Errorf("%v %v", ended, err)
	}
	if keys := client.Keys(t.Context(), "{expiry}:*").Val(); len(keys) != 0 {
		t.Errorf("left: %v", keys)
	}
}

// Applications with prefixes of their own do not see each other's sessions.
func testPrefix(t *testing.T, client *redis.Client) {
	one, two := redisstore.New(client, redisstore.WithPrefix("{one}:")), redisstore.New(client, redisstore.WithPrefix("{two}:"))
	r := bff.Record{
		ID: bff.ID{1}, Version: 1, Subject: "usr_" + rand.Text(), SessionID: "ses", Data: []byte("x"),
		CreatedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour),
	}
	if err := one.Create(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if _, err := two.Load(t.Context(), r.ID); !errors.Is(err, bff.ErrNotFound) {
		t.Error(err)
	}
	if ended, err := two.End(context.Background(), bff.Match{Subject: r.Subject}); err != nil || len(ended) != 0 {
		t.Errorf("%v %v", ended, err)
	}
}
