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

// The progress line shows the progress of a long operation on a terminal: one line,
// which is redrawn, and erased at the end. The caller measures. Nothing is written if
// stderr is not a terminal, or while another process group is in the foreground.

// No line is shown for a short wait. A line that changes more often could not be read.
const (
	patience = time.Second
	every    = 200 * time.Millisecond
)

// Meter returns how many bytes have been processed, and of how many; 0 for an unknown
// number. It is called by another goroutine.
type Meter func() (done, all int64)

// ProgressLine is a visible progress line. The methods of a nil ProgressLine do
// nothing.
type ProgressLine struct {
	fd    int
	what  string
	meter Meter
	begun time.Time

	mu      sync.Mutex
	stopped bool
	drawn   int // width of the line on the terminal
}

// startProgress shows, after the first second, what is being done and its progress. It
// returns nil if fd is not a terminal. Stop ends it. It uses no timer of the Go
// runtime, which would open an epoll descriptor.
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

// draw draws the line. It returns false once the line has been stopped.
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
	// The last column stays free: some terminals begin a new line after it.
	text := fit(parts(l.what, done, all, time.Since(l.begun)), columns-1)
	if text == "" && l.drawn == 0 {
		return true
	}
	l.write(l.erasure(columns) + text)
	l.drawn = len(text)
	return true
}

// erasure returns the sequence that erases the line drawn last. If the terminal has
// become narrower since then, the line occupies several lines.
func (l *ProgressLine) erasure(columns int) string {
	if columns > 0 && l.drawn > columns {
		return fmt.Sprintf("\r\x1b[%dA\x1b[J", (l.drawn-1)/columns)
	}
	return "\r\x1b[K"
}

// columns returns the present width of the terminal, 0 if it is not known.
func (l *ProgressLine) columns() int {
	size, err := unix.IoctlGetWinsize(l.fd, unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}

// inForeground reports whether this process group is in the foreground of the terminal.
// A background job that writes could be stopped (stty tostop), and would overwrite the
// foreground job's text.
func (l *ProgressLine) inForeground() bool {
	group, err := unix.IoctlGetInt(l.fd, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

func (l *ProgressLine) write(s string) {
	// One write, so that no other process writes in between. If the terminal accepts
	// nothing now, the next line replaces this one.
	_, _ = unix.Write(l.fd, []byte(s))
}

// parts returns the parts of the line, the most important first.
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

// fit joins as many parts as there is room for. It returns "" if there is no room for
// the first one.
func fit(parts []string, columns int) string {
	for n := len(parts); n > 0; n-- {
		if text := strings.Join(parts[:n], ", "); len(text) <= columns {
			return text
		}
	}
	return ""
}

// duration returns a rounded duration as text.
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
