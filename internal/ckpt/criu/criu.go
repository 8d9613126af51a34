// Package criu is the engine for machines without BLCR's module: it has CRIU
// save processes and bring them back, as a program that streams its images into
// or out of one context file.
//
// Here belongs what turns BLCR's requests into runs of criu: which processes a
// request means, criu's options, the two sockets that it talks to. What its
// failures mean belongs to package explain, how a context file is laid out to package ctxfile,
// what images contain to package image, and which criu to package binary.
package criu

import (
	"runtime"
	"runtime/debug"
	"sync"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/binary"
)

// Open finds a usable criu. The error is ENOSYS with what is wrong with those
// that there are.
func Open() (ckpt.Engine, error) {
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

// engine is one request, by means of one criu.
type engine struct {
	criu *binary.Binary

	// abandon ends a request under way and returns when nothing of it is left.
	// It is called by who takes care of signals, at any time.
	mu      sync.Mutex
	abandon func()

	meter func() (done, all int64) // nil for nothing to be told
}

// measured notes how far the request that has begun is.
func (e *engine) measured(meter func() (done, all int64)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.meter = meter
}

// Progress implements ckpt.Meter.
func (e *engine) Progress() (done, all int64) {
	e.mu.Lock()
	meter := e.meter
	e.mu.Unlock()
	if meter == nil {
		return 0, 0
	}
	return meter()
}

// begun notes how the request that has begun is abandoned.
func (e *engine) begun(abandon func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.abandon = abandon
}

// Close abandons a request under way: criu is made to fail, which lets the
// processes run on as if nothing had been.
func (e *engine) Close() error {
	e.mu.Lock()
	abandon := e.abandon
	e.abandon = nil
	e.mu.Unlock()
	if abandon != nil {
		abandon()
	}
	return nil
}
