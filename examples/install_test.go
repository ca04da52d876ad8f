package examples

import (
	"bytes"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Libraries are installed into directories that git ignores. A test that cannot have them fails.

// installNode installs the libraries of verify-node, unless they are there, and returns the node program.
func installNode(t *testing.T) string {
	t.Helper()
	install(t, "verify-node", "package-lock.json", "node_modules", []string{"npm", "ci", "--no-fund", "--no-audit"})
	return find(t, "node")
}

// installPython makes the environment of verify-python, unless it is there, and returns its python program.
func installPython(t *testing.T) string {
	t.Helper()
	python := filepath.Join(".venv", "bin", "python")
	install(t, "verify-python", "requirements.txt", ".venv",
		[]string{"python3", "-c", "import sys; sys.exit('verify-python needs Python 3.11' if sys.version_info < (3, 11) else 0)"},
		[]string{"python3", "-m", "venv", "--clear", ".venv"},
		[]string{python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r",
			"requirements.txt"})
	return python
}

// install runs commands in dir, unless target was made from the lock file as it is.
func install(t *testing.T, dir, lock, target string, commands ...[]string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, lock))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	mark := filepath.Join(dir, target, ".installed")
	if installed, err := os.ReadFile(mark); err == nil && bytes.Equal(installed, sum[:]) {
		return
	}
	for _, args := range commands {
		t.Logf("%s: %q", dir, args)
		if out, err := command(t, dir, args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %q: %v\n%s", dir, args, err, out)
		}
	}
	if err := os.WriteFile(mark, sum[:], 0o600); err != nil {
		t.Fatal(err)
	}
}

func find(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s must be installed to run the examples: %v", name, err)
	}
	return path
}
