package cli

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-isatty"
	"golang.org/x/sys/unix"

	"blcr-cli/internal/show"
)

// The progress line shows on a terminal how far something has come that takes
// long: one line, drawn again and again, and erased at the end.
//
// It knows no checkpoint: what is measured, and when, is the caller's. Where
// there is no terminal, or somebody else has it, it writes nothing.

// A short wait needs no explanation; a line that changes faster cannot be read.
const (
	patience = time.Second
	every    = 200 * time.Millisecond
)

// Meter tells how many bytes have been done, of how many; 0 for what is not
// known. It is called from another goroutine.
type Meter func() (done, all int64)

// ProgressLine is a line under way. A nil one is of no effect.
type ProgressLine struct {
	fd    int
	what  string
	meter Meter
	begun time.Time

	mu      sync.Mutex
	stopped bool
	drawn   int // columns of what stands on the terminal
}

// startProgress begins to wait, and shows from the second second on what is being done and
// how far it is. It returns nil where fd is no terminal. Stop ends it.
//
// No timer of the Go runtime's is used, which would open an epoll descriptor.
func startProgress(fd int, what string, meter Meter) *ProgressLine {
	if !isatty.IsTerminal(uintptr(fd)) || os.Getenv("TERM") == "dumb" {
		return nil
	}
	l := &ProgressLine{fd: fd, what: what, meter: meter, begun: time.Now()}
	go func() {
		for pause(patience); l.draw(); pause(every) {
		}
	}()
	return l
}

func pause(d time.Duration) { _, _ = unix.Poll(nil, int(d.Milliseconds())) }

// Stop erases the line, and nothing is written afterwards. It may be called more
// than once, from any goroutine.
func (l *ProgressLine) Stop() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	if l.drawn > 0 {
		l.write(l.erasure(l.columns()))
		l.drawn = 0
	}
}

// draw returns false when there is nothing more to be drawn.
func (l *ProgressLine) draw() bool {
	done, all := int64(0), int64(0)
	if l.meter != nil {
		done, all = l.meter()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return false
	}
	columns := l.columns()
	if columns == 0 || !l.inForeground() {
		return true
	}
	// The last column stays free: some terminals begin a new line behind it.
	text := fit(parts(l.what, done, all, time.Since(l.begun)), columns-1)
	if text == "" && l.drawn == 0 {
		return true
	}
	l.write(l.erasure(columns) + text)
	l.drawn = len(text)
	return true
}

// erasure takes away what stands there, which has become several lines if the
// terminal has become narrower.
func (l *ProgressLine) erasure(columns int) string {
	if columns > 0 && l.drawn > columns {
		return fmt.Sprintf("\r\x1b[%dA\x1b[J", (l.drawn-1)/columns)
	}
	return "\r\x1b[K"
}

// columns is how wide the terminal is now, 0 if that cannot be told.
func (l *ProgressLine) columns() int {
	size, err := unix.IoctlGetWinsize(l.fd, unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}

// inForeground tells whether the terminal is ours to write to. A job in the
// background might be stopped by that, and would write across others.
func (l *ProgressLine) inForeground() bool {
	group, err := unix.IoctlGetInt(l.fd, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

func (l *ProgressLine) write(s string) {
	// In one piece, so that nothing of others' comes in between. A terminal that
	// takes nothing now gets the next one.
	_, _ = unix.Write(l.fd, []byte(s))
}

// parts are what the line consists of, the most important first.
func parts(what string, done, all int64, elapsed time.Duration) []string {
	p := []string{what}
	if done <= 0 {
		return p
	}
	rate := float64(done) / elapsed.Seconds()
	if all > done {
		p[0] += fmt.Sprintf(" %d%%", done*100/all)
		p = append(p, fmt.Sprintf("%s of %s", show.Size(done), show.Size(all)))
	} else {
		p = append(p, show.Size(done))
	}
	p = append(p, show.Size(int64(rate))+"/s")
	if all > done && rate >= 1 {
		left := time.Duration(float64(all-done) / rate * float64(time.Second))
		p = append(p, duration(left)+" left")
	}
	return p
}

// fit joins as many as there is room for; "" if not even the first has it.
func fit(parts []string, columns int) string {
	for n := len(parts); n > 0; n-- {
		if text := strings.Join(parts[:n], ", "); len(text) <= columns {
			return text
		}
	}
	return ""
}

// duration is a time for people, which need not be exact.
func duration(d time.Duration) string {
	s := int64((d + time.Second - 1) / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d:%02d min", s/60, s%60)
	}
	return fmt.Sprintf("%d:%02d h", s/3600, s%3600/60)
}
