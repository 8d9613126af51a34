// Package criu is the engine for machines without BLCR's module: it has CRIU
// save processes and bring them back, as a program that streams its images into
// or out of one context file.
//
// What belongs here is the order of the steps of a checkpoint (capture) and of a
// restart (restart), criu's options, where its images go to and come from, and what
// a restart changes in them (plan). How each step is done belongs to the packages
// below: pstree finds the processes, stream runs criu, images reads and changes
// images, explain makes sentences of failures.
package criu

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/binary"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ckpt/criu/pstree"
	"blcr-cli/internal/ctxfile"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// open finds a usable criu. The error is ENOSYS with what is wrong with those
// that there are, or with /proc.
func open() (*engine, error) {
	if proc.Here() != nil {
		// Every number would mean another process. Criu itself says little then.
		return nil, &ckpt.Error{Op: "read", Object: "/proc", Errno: syscall.ENOSYS, Detail: []string{
			"/proc does not show the processes of this pid namespace",
			"mount it there, by 'mount -t proc proc /proc', or start the namespace by 'unshare --pid --fork --mount-proc'",
		}}
	}
	if errno := fewDescriptors(); errno != 0 {
		return nil, &ckpt.Error{Op: "open", Errno: errno, Detail: hints.Limits(errno)}
	}
	criu, err := binary.Find()
	if err != nil {
		return nil, err
	}
	// Long requests allocate, and have more than one thing to do at a time. The figures
	// keep the process small whatever the size of the images. Most requests end before
	// they have allocated the 8 MiB at which the collector begins.
	debug.SetGCPercent(200)
	runtime.GOMAXPROCS(min(2, runtime.NumCPU()))
	populateHeap()
	return &engine{criu: criu}, nil
}

// leastFiles is how many files CRIU has open at a time at least, to save or restore a process
// that has none.
const leastFiles = 36

// fewThreads says which limits keep this process from starting the threads and processes that a
// request needs, and the job's. Without one of its threads Go's runtime ends the program with a
// trace, whatever has been begun.
func fewThreads(ofJob int) []string {
	const own = 18 // with CRIU
	return hints.MoreProcesses(uint64(ofJob + max(0, own-len(proc.Threads(os.Getpid())))))
}

// threadsLacking is the error for a checkpoint where such a limit is near, else nil.
func threadsLacking() error {
	if said := fewThreads(0); said != nil {
		return &ckpt.Error{Op: "checkpoint", Object: "threads", Errno: syscall.EAGAIN, Detail: append(said, moreThreads)}
	}
	return nil
}

// moreThreads is what to do about that.
const moreThreads = "raise the limit, or end something"

// fewDescriptors returns EMFILE, or ENFILE, if there are not as many free descriptors as CRIU
// needs, or as Go's runtime needs to wait for several files, which would end the program with a
// trace.
func fewDescriptors() (errno unix.Errno) {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) == nil && l.Max < leastFiles {
		return unix.EMFILE
	}
	for range 2 {
		var pipe [2]int
		if errno, _ = unix.Pipe2(pipe[:], unix.O_CLOEXEC).(unix.Errno); errno == 0 {
			defer unix.Close(pipe[0])
			defer unix.Close(pipe[1])
		}
	}
	return errno
}

// populateHeap has the kernel make the pages of the heap that most requests use at once, which
// costs less than a page fault for each. Linux before 5.14 cannot.
func populateHeap() {
	// The heap grows by so much at a time, to a multiple of it.
	const chunk = 4 << 20
	start := uintptr(unsafe.Pointer(new([64]byte))) &^ (chunk - 1)
	_, _, _ = unix.Syscall(unix.SYS_MADVISE, start, chunk, unix.MADV_POPULATE_WRITE)
}

// Saver, Restorer and Forecaster are this engine as one to choose, for commands that save,
// that restore, and that do neither. Only the last can forecast a restart. A command thus
// does not contain what it never runs, which is a tenth of it.
func Saver() ckpt.Candidate {
	return candidate(roles{save: (*engine).save, forecastSave: (*engine).forecastSave})
}

// Restorer is for commands that restore; see Saver.
func Restorer() ckpt.Candidate {
	return candidate(roles{restore: (*engine).restore, makeWay: (*engine).makeWay})
}

// Forecaster is for commands that neither save nor restore; see Saver.
func Forecaster() ckpt.Candidate { return candidate(roles{forecastRestart: (*engine).foresee}) }

// roles is what a command uses of this engine; the others are nil.
type roles struct {
	save            func(*engine, context.Context, *ckpt.CheckpointRequest) (ckpt.Capture, error)
	forecastSave    func(*engine, context.Context, *ckpt.CheckpointRequest) *ckpt.Forecast
	restore         func(*engine, context.Context, *ckpt.RestartRequest) (pid int, err error)
	makeWay         func(*engine, *ckpt.RestartRequest) (collides bool)
	forecastRestart func(*engine, context.Context, *ckpt.RestartRequest) *ckpt.Forecast
}

func candidate(r roles) ckpt.Candidate {
	return ckpt.Candidate{
		Name: "criu",
		Open: func() (ckpt.Engine, error) {
			e, err := open()
			if err != nil {
				return nil, err
			}
			e.roles = r
			return e, nil
		},
		Recognizes:  recognizes,
		Missing:     "this context was written by the criu engine, which cannot be used here",
		Directories: &ckpt.DirectoryFormat{Inventory: images.InventoryName, IsImage: images.IsImage},
		Compresses:  true,
		Lazy:        true,
		KeepsStdio:  true,
		Claims:      true,
		Includes:    pstree.Includes,
	}
}

// recognizes tells whether there is a context of ours on a descriptor.
func recognizes(fd int) bool {
	kind, _ := ctxfile.Sniff(fd)
	return kind == ctxfile.Ours
}

// engine is one request, by means of one criu.
type engine struct {
	roles roles

	criu *binary.Binary
	log  []string

	opened source  // by makeWay, for the restart; nil if it was not
	coming *coming // after a lazy restart

	mu    sync.Mutex
	meter func() (done, all int64) // nil if nothing is known
}

// Capture implements ckpt.Engine, in a command that saves.
func (e *engine) Capture(ctx context.Context, r *ckpt.CheckpointRequest) (ckpt.Capture, error) {
	return e.roles.save(e, ctx, r)
}

// Collides implements ckpt.Engine, in a command that restores.
func (e *engine) Collides(r *ckpt.RestartRequest) bool { return e.roles.makeWay(e, r) }

// Restart implements ckpt.Engine, in a command that restores.
func (e *engine) Restart(ctx context.Context, r *ckpt.RestartRequest) (pid int, err error) {
	return e.roles.restore(e, ctx, r)
}

// Forecast implements ckpt.Engine, in a command that saves.
func (e *engine) Forecast(ctx context.Context, r *ckpt.CheckpointRequest) *ckpt.Forecast {
	return e.roles.forecastSave(e, ctx, r)
}

// ForecastRestart implements ckpt.Engine, in a command that neither saves nor restores.
func (e *engine) ForecastRestart(ctx context.Context, r *ckpt.RestartRequest) *ckpt.Forecast {
	return e.roles.forecastRestart(e, ctx, r)
}

// Describe returns the criu that is used.
func (e *engine) Describe() string {
	return strings.TrimSpace("criu "+e.criu.Version) + ", " + show.Name(e.criu.Path)
}

// Log returns what the module would have logged; other things are said with the
// error.
func (e *engine) Log() []string { return e.log }

// Close implements ckpt.Engine: with its request an engine of this kind is over.
func (e *engine) Close() error {
	if e.opened != nil {
		return e.opened.Close()
	}
	return nil
}

// measured notes how the progress of the request is found out.
func (e *engine) measured(meter func() (done, all int64)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.meter = meter
}

// Progress implements ckpt.Engine.
func (e *engine) Progress() (done, all int64) {
	e.mu.Lock()
	meter := e.meter
	e.mu.Unlock()
	if meter == nil {
		return 0, 0
	}
	return meter()
}
