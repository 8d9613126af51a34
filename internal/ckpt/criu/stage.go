package criu

import (
	"math"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ctxfile"
	"blcr-cli/internal/proc"
)

// stage gives a Writer that compresses a staging file on the context's file system, so that
// the processes run on before their memory is compressed, and so that restoreCode can
// correct what has come. It does without where a file without a name cannot be made there,
// where the memory would take more than half of the free space, which the processes may
// need, and where files are in memory.
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
		uint32(fs.Type) == unix.TMPFS_MAGIC || uint32(fs.Type) == unix.RAMFS_MAGIC ||
		float64(fs.Bavail)*float64(fs.Bsize) < 2*float64(c.tree.Memory()) {
		unix.Close(fd)
		return
	}
	_ = w.Stage(fd) // without it nothing is staged
}

// mostPrepared is more than is prepared in the time that criu takes to start.
const mostPrepared = 512 << 20

// aside gives a Writer memory to use while the processes, which run on, are frozen, if the
// machine and the control groups of this process have enough.
func (c *capture) aside(w *ctxfile.Writer) {
	need := 2 * uint64(c.tree.Memory()) // all of it in the page cache, and most of it there
	if runtime.NumCPU() > 1 && proc.MachineMemory()["MemFree"] > 2*need && roomInGroups() > need {
		w.Aside(c.tree.Memory())
	}
}

// roomInGroups returns how many bytes of memory the control groups of this process do not
// use yet.
func roomInGroups() uint64 {
	room := uint64(math.MaxUint64)
	for _, m := range proc.MemoryLimits(os.Getpid()) {
		room = min(room, m.Limit-min(m.Limit, m.Now))
	}
	return room
}

// prepareFile has the file prepared for the processes' memory while criu starts, on
// another processor. It is not worth it where the processes end anyway.
func (c *capture) prepareFile(w *ctxfile.Writer) {
	var machine unix.Sysinfo_t
	n := min(c.tree.Memory(), mostPrepared)
	if !ckpt.RunsOn(c.request.Signal) || runtime.NumCPU() == 1 ||
		unix.Sysinfo(&machine) != nil || uint64(machine.Freeram)*uint64(machine.Unit) < 4*uint64(n) {
		return
	}
	c.meanwhile.Go(func() { w.Prepare(n) })
}
