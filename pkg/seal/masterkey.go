package seal

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
	"slices"
)

const (
	// MasterKeyFile is the name of the master key's file in the keys directory. It holds the key as base64 text, so that
	// its content can be carried over into an environment variable.
	MasterKeyFile = "master.key"

	masterKeySize   = 32
	masterKeysMost  = 8    // in one text
	masterKeyLength = 1024 // of the file, in bytes; more than eight keys take
	redacted        = "[redacted]"
)

// ErrNoMasterKey is returned by LoadMasterKey when the directory holds no master key. A caller that knows that nothing
// has been sealed yet may answer it with CreateMasterKey; anybody else must ask for the lost file.
var ErrNoMasterKey = errors.New("seal: no master key")

// MasterKey is the secret from which every other server secret is derived: one key, or several during a change of key. The first
// one derives secrets and seals values, all of them open values. It never appears in output: fmt, encoding/json,
// encoding.TextMarshaler users and slog all see "[redacted]". The zero value is no key; Derive panics on it.
type MasterKey struct {
	// A function, because fmt prints the content of anything else that stands in a private field of an enclosing struct:
	// it does not call our Format there.
	keys func() [][]byte
}

// LoadMasterKey reads the master key from the file master.key in dir. The error is ErrNoMasterKey if there is no such
// file; a file that [CheckFile] refuses, or that does not hold a key, is refused.
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
	if err := CheckFile(path, info); err != nil {
		return MasterKey{}, fmt.Errorf("master key %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(file, masterKeyLength+1))
	if err != nil {
		return MasterKey{}, fmt.Errorf("read master key: %w", err)
	}
	if len(text) > masterKeyLength { // a key beyond the limit must not be left out in silence
		return MasterKey{}, fmt.Errorf("%s: longer than %d bytes, which is more than master keys take; restore the file from a backup",
			path, masterKeyLength)
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
		return MasterKey{}, fmt.Errorf("make keys directory: %w; let the service write there, or set HANDSTAMP_MASTER_KEY_FILE", err)
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
		return MasterKey{}, fmt.Errorf("write master key: %w; let the service write to %s, or set HANDSTAMP_MASTER_KEY_FILE", err, dir)
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

// ParseMasterKey reads a master key from text: exactly 32 bytes in standard base64, or up to eight such keys, each
// different and on a line of its own. White space around the whole is ignored, but there is none within.
func ParseMasterKey(text string) (MasterKey, error) {
	lines := bytes.Split(bytes.TrimSpace([]byte(text)), []byte("\n"))
	if len(lines) > masterKeysMost {
		return MasterKey{}, fmt.Errorf("there are more than %d master keys", masterKeysMost)
	}
	var keys [][]byte
	for i, line := range lines {
		key, err := parseLine(bytes.TrimSuffix(line, []byte("\r")))
		if err == nil && slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) }) {
			err = errors.New("the master key stands there twice")
		}
		if err != nil && len(lines) > 1 {
			err = fmt.Errorf("line %d: %w", i+1, err)
		}
		if err != nil {
			return MasterKey{}, err
		}
		keys = append(keys, key)
	}
	return MasterKey{keys: func() [][]byte { return keys }}, nil
}

// parseLine reads one key. Its errors do not quote the text, as the decoder's own would.
func parseLine(line []byte) ([]byte, error) {
	key, err := base64.StdEncoding.Strict().AppendDecode(nil, line)
	// The decoder skips carriage returns, which are not a part of a key.
	if err != nil || len(key) != masterKeySize || len(line) != base64.StdEncoding.EncodedLen(masterKeySize) {
		return nil, fmt.Errorf("a master key is %d bytes in base64 (made by: head -c %d /dev/urandom | base64)",
			masterKeySize, masterKeySize)
	}
	if bytes.Count(key, key[:1]) == len(key) {
		return nil, errors.New("the master key is one repeated byte: use random bytes")
	}
	return key, nil
}

// all returns the keys, and panics if there is none.
func (m MasterKey) all() [][]byte {
	if m.keys == nil {
		panic("seal: use of the zero MasterKey")
	}
	return m.keys()
}

// Derive returns n secret bytes (at most 8160) for one purpose, made of the first key: HKDF-SHA256 (RFC 5869) with the label as
// info.
func (m MasterKey) Derive(label Label, n int) []byte { return derive(m.all()[0], label, n) }

func derive(key []byte, label Label, n int) []byte {
	out, err := hkdf.Key(sha256.New, key, nil, string(label), n)
	if err != nil {
		panic(err) // only an n out of range, which is a mistake in the program
	}
	return out
}

// IsZero reports whether m is no key.
func (m MasterKey) IsZero() bool { return m.keys == nil }

// Format prints "[redacted]" for every verb and flag.
func (MasterKey) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, redacted) }

// String returns "[redacted]".
func (MasterKey) String() string { return redacted }

// MarshalText returns "[redacted]", and so does encoding/json.
func (MasterKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns "[redacted]".
func (MasterKey) LogValue() slog.Value { return slog.StringValue(redacted) }
