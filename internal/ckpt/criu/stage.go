package criu

import (
	"path/filepath"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ctxfile"
)

// stage gives a Writer that compresses a staging file on the context's file system, so that
// the processes run on before their memory is compressed. It does without where a file
// without a name cannot be made there, where the memory would take more than half of the
// free space, which the processes may need, and where files are in memory.
func (c *capture) stage(w *ctxfile.Writer) {
	var context, file unix.Stat_t
	if unix.Fstat(int(c.request.FD), &context) != nil || context.Mode&unix.S_IFMT != unix.S_IFREG {
		return
	}
	fd, err := unix.Open(filepath.Dir(c.request.Name), unix.O_TMPFILE|unix.O_EXCL|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return
	}
	var fs unix.Statfs_t
	if unix.Fstat(fd, &file) != nil || file.Dev != context.Dev || unix.Fstatfs(fd, &fs) != nil ||
		fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC ||
		float64(fs.Bavail)*float64(fs.Bsize) < 2*float64(c.tree.Memory()) {
		unix.Close(fd)
		return
	}
	_ = w.Stage(fd) // without it nothing is staged
}
