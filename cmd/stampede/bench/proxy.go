package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// statementCounter stands between a program and PostgreSQL and counts the statements that pass: the Query and Execute
// messages of the wire protocol (PostgreSQL documentation, "Message Formats"). Unlike the server's statistics it misses
// none and is never late. Transaction control counts too.
type statementCounter struct {
	listener net.Listener
	server   string
	count    atomic.Int64

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	wg    sync.WaitGroup
}

// newStatementCounter listens on a free loopback port in front of server, a host:port.
func newStatementCounter(server string) (*statementCounter, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &statementCounter{listener: l, server: server, conns: map[net.Conn]struct{}{}}
	c.wg.Go(c.accept)
	return c, nil
}

func (c *statementCounter) address() string { return c.listener.Addr().String() }

// close ends all connections and waits for their goroutines.
func (c *statementCounter) close() {
	_ = c.listener.Close()
	c.mu.Lock()
	for nc := range c.conns {
		_ = nc.Close()
	}
	c.mu.Unlock()
	c.wg.Wait()
}

func (c *statementCounter) accept() {
	for {
		client, err := c.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", c.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		c.mu.Lock()
		c.conns[client], c.conns[server] = struct{}{}, struct{}{}
		c.mu.Unlock()
		c.wg.Go(func() {
			_, _ = io.Copy(client, server)
			_ = client.Close()
		})
		c.wg.Go(func() {
			_ = c.forward(server, client)
			_ = server.Close()
		})
	}
}

// errNotPlain: the stream is encrypted or no PostgreSQL.
var errNotPlain = errors.New("not a plain PostgreSQL stream")

// forward copies what the client says to the server, message by message.
func (c *statementCounter) forward(server io.Writer, client io.Reader) error {
	// The startup message alone has no type byte.
	header := make([]byte, 5)
	if err := pass(server, client, header[:4]); err != nil {
		return err
	}
	for {
		start := new(prefix)
		if err := pass(io.MultiWriter(server, start), client, header); err != nil {
			return err
		}
		if header[0] == 'E' || header[0] == 'Q' && string(*start) != signOfLife {
			c.count.Add(1)
		}
	}
}

// signOfLife is how a message begins by which the pool of the service asks whether a connection lives: a comment, no statement.
const signOfLife = "Q\x00\x00\x00\x0c-- ping"

// prefix keeps the start of what is written to it.
type prefix []byte

func (p *prefix) Write(b []byte) (int, error) {
	*p = append(*p, b[:min(len(b), len(signOfLife)-len(*p))]...)
	return len(b), nil
}

// pass copies one message: header, whose last four bytes are the length of themselves and the rest, and the rest.
func pass(server io.Writer, client io.Reader, header []byte) error {
	if _, err := io.ReadFull(client, header); err != nil {
		return err
	}
	length := binary.BigEndian.Uint32(header[len(header)-4:])
	if length < 4 || length > 1<<30 {
		return fmt.Errorf("message of %d bytes: %w", length, errNotPlain)
	}
	if _, err := server.Write(header); err != nil {
		return err
	}
	_, err := io.CopyN(server, client, int64(length-4))
	return err
}
