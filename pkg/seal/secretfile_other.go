//go:build !linux

package seal

import (
	"io/fs"
	"runtime"
)

// changeable reports whether this process could change the mode of a file. Windows has no modes of this kind.
func changeable(string, fs.FileInfo) bool { return runtime.GOOS != "windows" }
