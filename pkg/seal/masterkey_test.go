package seal_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/handstamp/handstamp/pkg/seal"
)

const (
	masterText = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	otherText  = "//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA="
)

func masterKey(t testing.TB, texts ...string) seal.MasterKey {
	t.Helper()
	key, err := seal.ParseMasterKey(strings.Join(texts, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// randomKeys returns the texts of n keys.
func randomKeys(n int) []string {
	texts := make([]string, n)
	for i := range texts {
		key := sha256.Sum256([]byte{byte(i)})
		texts[i] = base64.StdEncoding.EncodeToString(key[:])
	}
	return texts
}

func TestParseMasterKey(t *testing.T) {
	for name, text := range map[string]string{
		"ok/plain":       masterText,
		"ok/white space": "\n " + masterText + "\r\n",
		"ok/two":         masterText + "\n" + otherText + "\n",
		"ok/two, CRLF":   masterText + "\r\n" + otherText + "\r\n",
		"ok/eight":       strings.Join(randomKeys(8), "\n"),
	} {
		t.Run(name, func(t *testing.T) {
			if key, err := seal.ParseMasterKey(text); err != nil || key.IsZero() {
				t.Error(err)
			}
		})
	}
	for name, text := range map[string]string{
		"fail/empty":       "",
		"fail/31 bytes":    base64.StdEncoding.EncodeToString(make([]byte, 31)),
		"fail/33 bytes":    base64.StdEncoding.EncodeToString([]byte(strings.Repeat("ab", 16) + "c")),
		"fail/hex":         strings.Repeat("0f", 32),
		"fail/no padding":  strings.TrimRight(masterText, "="),
		"fail/url":         "__79_Pv6-fj39vX08_Lx8O_u7ezr6uno5-bl5OPi4eA=",
		"fail/loose bits":  masterText[:42] + "9=",
		"fail/two keys":    masterText + masterText,
		"fail/passphrase":  "correct horse battery staple",
		"fail/all zero":    base64.StdEncoding.EncodeToString(make([]byte, 32)),
		"fail/twice":       masterText + "\n" + otherText + "\n" + masterText,
		"fail/nine":        strings.Join(randomKeys(9), "\n"),
		"fail/empty line":  masterText + "\n\n" + otherText,
		"fail/space":       masterText + "\n " + otherText,
		"fail/one line":    masterText + " " + otherText,
		"fail/two lines":   masterText[:20] + "\n" + masterText[20:],
		"fail/in half":     masterText[:20] + "\r" + masterText[20:],
		"fail/second weak": masterText + "\n" + base64.StdEncoding.EncodeToString(make([]byte, 32)),
		"fail/same letter": base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("a"), 32)),
	} {
		t.Run(name, func(t *testing.T) {
			key, err := seal.ParseMasterKey(text)
			if err == nil || !key.IsZero() {
				t.Error("accepted")
			}
			for line := range strings.Lines(text) {
				if err != nil && strings.Contains(err.Error(), strings.TrimSpace(line)) && strings.TrimSpace(line) != "" {
					t.Errorf("the error quotes the key: %v", err)
				}
			}
		})
	}
}

func TestDerive(t *testing.T) {
	key := masterKey(t, masterText)
	a := key.Derive("handstamp/v1/a", 32)
	if len(a) != 32 || !bytes.Equal(a, key.Derive("handstamp/v1/a", 32)) {
		t.Error("not the same every time")
	}
	if bytes.Equal(a, key.Derive("handstamp/v1/b", 32)) || len(key.Derive("handstamp/v1/a", 100)) != 100 {
		t.Error("label or length are ignored")
	}
	if !bytes.Equal(a, masterKey(t, masterText, otherText).Derive("handstamp/v1/a", 32)) {
		t.Error("of two keys not the first derives")
	}
	// HKDF-SHA256 of bytes 0 to 31, no salt, info "handstamp/v1/a": stored secrets depend on it for ever. Computed with
	// OpenSSL: openssl kdf -keylen 16 -kdfopt digest:SHA256 -kdfopt hexkey:0001..1f -kdfopt info:handstamp/v1/a HKDF
	if got := fmt.Sprintf("%x", key.Derive("handstamp/v1/a", 16)); got != "7a5cd595f6e94c49bdcb78b09dc6a4b9" {
		t.Errorf("derived %s", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("the zero key derives secrets")
		}
	}()
	seal.MasterKey{}.Derive("handstamp/v1/a", 32)
}

func TestMasterKeyIsNeverPrinted(t *testing.T) {
	key := masterKey(t, masterText, otherText)
	holder := struct {
		Key     seal.MasterKey
		private seal.MasterKey
	}{key, key}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%08b", "%t"} {
		for _, value := range []any{key, &key, holder, &holder, []any{key}, []seal.MasterKey{key},
			map[string]seal.MasterKey{"k": key}} {
			fmt.Fprintf(&out, verb+"\n", value)
		}
	}
	text := slog.New(slog.NewTextHandler(&out, nil))
	text.Info("start", "key", key, "holder", holder, slog.Any("pointer", &key))
	slog.New(slog.NewJSONHandler(&out, nil)).Info("start", "key", key, "holder", holder, slog.Any("pointer", &key))
	if err := json.NewEncoder(&out).Encode(holder); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "[redacted]") {
		t.Error("nothing was redacted")
	}
	for _, form := range []string{masterText[:12], otherText[:12], "000102030405", "00010203", "0 1 2 3", "1, 2, 3", "0x0, 0x1",
		`\x01\x02`, "00000001 00000010"} {
		if strings.Contains(strings.ToLower(out.String()), strings.ToLower(form)) {
			t.Errorf("the key is printed as %q", form)
		}
	}
}

func TestKEY07_MasterKeyFile(t *testing.T) {
	t.Run("ok/created once", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "new", "keys")
		if _, err := seal.LoadMasterKey(dir); !errors.Is(err, seal.ErrNoMasterKey) {
			t.Fatalf("no directory: %v", err)
		}
		keys := make([][]byte, 8)
		var group sync.WaitGroup
		for i := range keys {
			group.Go(func() {
				key, err := seal.CreateMasterKey(dir)
				if err != nil {
					t.Error(err)
					return
				}
				keys[i] = key.Derive("test", 32)
			})
		}
		group.Wait()
		loaded, err := seal.LoadMasterKey(dir)
		if err != nil {
			t.Fatal(err)
		}
		for i, key := range keys {
			if !bytes.Equal(key, loaded.Derive("test", 32)) {
				t.Errorf("process %d got another key", i)
			}
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 1 || entries[0].Name() != seal.MasterKeyFile {
			t.Errorf("directory holds %v, %v", entries, err)
		}
		for path, mode := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, seal.MasterKeyFile): 0o600} {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
				t.Errorf("%s: %v, %v", path, info.Mode(), err)
			}
		}
	})
	t.Run("fail/missing file", func(t *testing.T) {
		if _, err := seal.LoadMasterKey(t.TempDir()); !errors.Is(err, seal.ErrNoMasterKey) {
			t.Error(err)
		}
	})
	for name, c := range map[string]struct {
		content string
		mode    os.FileMode
		remedy  string
	}{
		"ok/file":             {masterText + "\n", 0o600, ""},
		"ok/read only":        {masterText, 0o400, ""},
		"ok/group readable":   {masterText, 0o640, ""},
		"ok/fsGroup":          {masterText, 0o660, ""},
		"fail/world readable": {masterText, 0o604, "chmod 600"},
		"fail/world writable": {masterText, 0o602, "chmod 600"},
		"fail/truncated":      {masterText[:20], 0o600, "backup"},
		"fail/empty":          {"", 0o600, "backup"},
		"ok/two keys":         {masterText + "\n" + otherText + "\n", 0o600, ""},
		"fail/second far off": {masterText + strings.Repeat(" ", 1024) + "\n" + otherText, 0o600, "backup"},
		"fail/endless":        {strings.Repeat(masterText, 1000), 0o600, "backup"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, seal.MasterKeyFile)
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			// Creating is no way round a file that cannot be used.
			for _, get := range []func(string) (seal.MasterKey, error){seal.LoadMasterKey, seal.CreateMasterKey} {
				key, err := get(dir)
				if (err == nil) != (c.remedy == "") || key.IsZero() != (err != nil) {
					t.Errorf("%v", err)
				}
				if err != nil && (!strings.Contains(err.Error(), c.remedy) || !strings.Contains(err.Error(), path) ||
					errors.Is(err, seal.ErrNoMasterKey)) {
					t.Errorf("error names no remedy: %v", err)
				}
			}
			if content, err := os.ReadFile(path); err != nil || string(content) != c.content {
				t.Errorf("the file was changed: %v", err)
			}
		})
	}
	t.Run("fail/directory", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, seal.MasterKeyFile), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := seal.LoadMasterKey(dir); err == nil || errors.Is(err, seal.ErrNoMasterKey) {
			t.Error(err)
		}
	})
	t.Run("fail/link out of the directory", func(t *testing.T) {
		dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(outside, []byte(masterText), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(outside, filepath.Join(dir, seal.MasterKeyFile)); err != nil {
			t.Fatal(err)
		}
		if _, err := seal.LoadMasterKey(dir); err == nil {
			t.Error("followed")
		}
	})
}
