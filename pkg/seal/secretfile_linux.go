package seal

import (
	"io/fs"
	"os"
	"syscall"
)

// changeable reports whether this process could change the mode of a file.
func changeable(path string, info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) != os.Geteuid() {
		return false
	}
	const readOnly = 1 // ST_RDONLY of statfs(2)
	var system syscall.Statfs_t
	return syscall.Statfs(path, &system) != nil || system.Flags&readOnly == 0
}
