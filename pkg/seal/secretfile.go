package seal

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// secretFileMost bounds what is read of a secret file, in bytes.
const secretFileMost = 1 << 20

// CheckFile is the one rule for files that hold secrets. Nobody but the owner and the group may read or write one.
//
// The group may, because orchestrators set its bits each time they mount a volume (fsGroup of Kubernetes), and because a
// service with an arbitrary user ID shares only its group with the one that made the file. A file of another user, or on a
// read-only file system, was put there by whoever runs the service, and this process cannot change its mode: Kubernetes and
// Docker mount secrets that everybody in the container may read, and nobody else is in there. Such a file must only not be
// writable for everybody.
func CheckFile(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	mode := info.Mode().Perm()
	forbidden := fs.FileMode(0o007)
	if !changeable(path, info) {
		forbidden = 0o002
	}
	if mode&forbidden == 0 {
		return nil
	}
	return fmt.Errorf("%s may be read or written by everybody (mode %04o): run chmod 600 %s, or mount it with mode 0600 or 0440, "+
		"and replace the secret if somebody may have copied it", path, mode, path)
}

// ReadFile reads a file with one secret, which CheckFile accepts. White space at both ends is left out. An empty one is an error.
func ReadFile(path string) (Secret, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	if err := CheckFile(path, info); err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(file, secretFileMost+1))
	if err != nil {
		return "", err
	}
	if len(text) > secretFileMost {
		return "", fmt.Errorf("%s holds more than 1 MiB: it is no secret", path)
	}
	secret := Secret(strings.TrimSpace(string(text)))
	if secret == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return secret, nil
}
