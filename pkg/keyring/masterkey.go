package keyring

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
)

const (
	// MasterKeyFile is the name of the master key's file in the keys directory. It holds the key as base64 text, so that
	// its content can be carried over into an environment variable.
	MasterKeyFile = "master.key"

	masterKeySize = 32
	redacted      = "[redacted]"
)

// ErrNoMasterKey is returned by LoadMasterKey when the directory holds no master key. A caller that knows that nothing
// has been sealed yet may answer it with CreateMasterKey; anybody else must ask for the lost file.
var ErrNoMasterKey = errors.New("keyring: no master key")

// MasterKey is the secret from which every other server secret is derived. It never appears in output: fmt, encoding/json,
// encoding.TextMarshaler users and slog all see "[redacted]". The zero value is no key; Derive panics on it.
type MasterKey struct {
	// A function, because fmt prints the content of anything else that stands in a private field of an enclosing struct:
	// it does not call our Format there.
	key func() []byte
}

// LoadMasterKey reads the master key from the file master.key in dir. The error is ErrNoMasterKey if there is no such
// file; a file that others than its owner may read or write, or that does not hold a key, is refused.
func LoadMasterKey(dir string) (MasterKey, error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return MasterKey{}, fmt.Errorf("%w: directory %s does not exist", ErrNoMasterKey, dir)
	}
	if err != nil {
		return MasterKey{}, fmt.Errorf("open keys directory: %w", err)
	}
	defer root.Close()
	return readMasterKey(root, filepath.Join(dir, MasterKeyFile))
}

func readMasterKey(root *os.Root, path string) (MasterKey, error) {
	file, err := root.Open(MasterKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return MasterKey{}, fmt.Errorf("%w: %s does not exist", ErrNoMasterKey, path)
	}
	if err != nil {
		return MasterKey{}, fmt.Errorf("open master key: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return MasterKey{}, fmt.Errorf("open master key: %w", err)
	}
	if !info.Mode().IsRegular() {
		return MasterKey{}, fmt.Errorf("master key %s is not a regular file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return MasterKey{}, fmt.Errorf("master key %s may be read or written by others (mode %04o): run chmod 600 %s, "+
			"and replace the key if somebody may have copied it", path, mode, path)
	}
	text, err := io.ReadAll(io.LimitReader(file, 1024))
	if err != nil {
		return MasterKey{}, fmt.Errorf("read master key: %w", err)
	}
	key, err := ParseMasterKey(string(text))
	if err != nil {
		return MasterKey{}, fmt.Errorf("%s: %w; restore the file from a backup", path, err)
	}
	return key, nil
}

// CreateMasterKey makes a new master key and writes it to the file master.key in dir, mode 0600, making the directory
// (mode 0700) if need be. If the file exists, or another process makes it at the same time, that key is returned: every
// caller gets the key that is on the disk.
func CreateMasterKey(dir string) (MasterKey, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return MasterKey{}, fmt.Errorf("make keys directory: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return MasterKey{}, fmt.Errorf("open keys directory: %w", err)
	}
	defer root.Close()

	// Written whole under another name, then linked: a crash leaves no half a key behind, and link fails if the name is
	// taken, so that of two processes one wins.
	temporary := MasterKeyFile + "." + rand.Text()
	if err := writeMasterKey(root, temporary); err != nil {
		return MasterKey{}, fmt.Errorf("write master key: %w", err)
	}
	defer func() { _ = root.Remove(temporary) }()
	if err := root.Link(temporary, MasterKeyFile); err != nil && !errors.Is(err, fs.ErrExist) {
		return MasterKey{}, fmt.Errorf("write master key: %w", err)
	}
	if err := syncDirectory(root); err != nil {
		return MasterKey{}, fmt.Errorf("write master key: %w", err)
	}
	return readMasterKey(root, filepath.Join(dir, MasterKeyFile))
}

func writeMasterKey(root *os.Root, name string) (err error) {
	var key [masterKeySize]byte
	_, _ = rand.Read(key[:]) // never fails
	file, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.WriteString(base64.StdEncoding.EncodeToString(key[:]) + "\n"); err != nil {
		return err
	}
	return file.Sync()
}

// syncDirectory makes the new name durable: a key that seals a database must not vanish with the power.
func syncDirectory(root *os.Root) error {
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// ParseMasterKey reads a master key from text: exactly 32 bytes in standard base64, surrounding white space ignored.
func ParseMasterKey(text string) (MasterKey, error) {
	key, err := base64.StdEncoding.Strict().AppendDecode(nil, bytes.TrimSpace([]byte(text)))
	if err != nil || len(key) != masterKeySize {
		// The decoder's own message is left out: it may quote the text.
		return MasterKey{}, fmt.Errorf("a master key is %d bytes in base64 (made by: head -c %d /dev/urandom | base64)",
			masterKeySize, masterKeySize)
	}
	if bytes.Count(key, key[:1]) == len(key) {
		return MasterKey{}, errors.New("the master key is one repeated byte: use random bytes")
	}
	return MasterKey{key: func() []byte { return key }}, nil
}

// Derive returns n secret bytes (at most 8160) for one purpose: HKDF-SHA256 (RFC 5869) with the label as info. Each
// purpose has a label of its own, "handstamp/v1/...", and so a secret of its own.
func (m MasterKey) Derive(label string, n int) []byte {
	if m.key == nil {
		panic("keyring: Derive on the zero MasterKey")
	}
	out, err := hkdf.Key(sha256.New, m.key(), nil, label, n)
	if err != nil {
		panic(err) // only an n out of range, which is a mistake in the program
	}
	return out
}

// IsZero reports whether m is no key.
func (m MasterKey) IsZero() bool { return m.key == nil }

// Format prints "[redacted]" for every verb and flag.
func (MasterKey) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, redacted) }

// String returns "[redacted]".
func (MasterKey) String() string { return redacted }

// MarshalText returns "[redacted]", and so does encoding/json.
func (MasterKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns "[redacted]".
func (MasterKey) LogValue() slog.Value { return slog.StringValue(redacted) }
