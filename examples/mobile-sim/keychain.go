//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// keyChain is the file that the processes of the app share, as they share an entry of the key chain on a phone.
type keyChain string

// entry is what stands in it.
type entry struct {
	RefreshToken string `json:"refresh_token"`
	// Key is the Idempotency-Key of the refresh that is under way with RefreshToken; empty if there is none.
	Key string `json:"key,omitempty"`
}

func (k keyChain) read() (e entry, err error) {
	text, err := os.ReadFile(string(k))
	if err != nil {
		return entry{}, err
	}
	return e, json.Unmarshal(text, &e)
}

// change lets one process at a time read, change and write the entry. It takes microseconds and asks nobody, so the lock is never
// waited for; the kernel releases that of a process that is killed. A reader sees the entry of before or of after.
func (k keyChain) change(do func(*entry)) error {
	lock, err := os.OpenFile(string(k)+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock the key chain: %w", err)
	}
	e, err := k.read()
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	do(&e)
	text, err := json.Marshal(e) //nolint:gosec // this is where the token is kept
	if err != nil {
		return err
	}
	next := filepath.Join(filepath.Dir(string(k)), fmt.Sprintf("next-%d", os.Getpid()))
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return err
	}
	return os.Rename(next, string(k))
}
