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
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/binary"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ckpt/criu/pstree"
	"blcr-cli/internal/ctxfile"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// Open finds a usable criu. The error is ENOSYS with what is wrong with those
// that there are, or with /proc.
func Open() (ckpt.Engine, error) {
	if proc.Here() != nil {
		// Every number would mean another process. Criu itself says little then.
		return nil, &ckpt.Error{Op: "read", Object: "/proc", Errno: syscall.ENOSYS, Detail: []string{
			"/proc does not show the processes of this pid namespace",
			"mount it there, by 'mount -t proc proc /proc', or start the namespace by 'unshare --pid --fork --mount-proc'",
		}}
	}
	criu, err := binary.Find()
	if err != nil {
		return nil, err
	}
	// Long requests allocate, and have more than one thing to do at a time.
	// The figures keep the process small whatever the size of the images.
	debug.SetGCPercent(50)
	runtime.GOMAXPROCS(min(2, runtime.NumCPU()))
	return &engine{criu: criu}, nil
}

// Candidate is this engine as one to choose.
var Candidate = ckpt.Candidate{
	Name:        "criu",
	Open:        Open,
	Recognizes:  recognizes,
	Missing:     "this context was written by the criu engine, which cannot be used here",
	Directories: &ckpt.DirectoryFormat{Inventory: images.InventoryName, IsImage: images.IsImage},
	Compresses:  true,
	Lazy:        true,
	KeepsStdio:  true,
	Claims:      true,
	Includes:    pstree.Includes,
}

// recognizes tells whether there is a context of ours on a descriptor.
func recognizes(fd int) bool {
	kind, _ := ctxfile.Sniff(fd)
	return kind == ctxfile.Ours
}

// engine is one request, by means of one criu.
type engine struct {
	criu *binary.Binary
	log  []string

	coming *coming // after a lazy restart

	mu    sync.Mutex
	meter func() (done, all int64) // nil if nothing is known
}

// Describe returns the criu that is used.
func (e *engine) Describe() string {
	return strings.TrimSpace("criu "+e.criu.Version) + ", " + show.Name(e.criu.Path)
}

// Log returns what the module would have logged; other things are said with the
// error.
func (e *engine) Log() []string { return e.log }

// Close does nothing: with its request an engine of this kind is over.
func (e *engine) Close() error { return nil }

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
