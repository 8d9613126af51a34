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

// The progress line shows on a terminal how far a long operation has come: one line,
// redrawn until it is erased at the end. The caller measures. Nothing is written
// where stderr is no terminal, or while another process group has the terminal.

// A short wait needs no explanation; a line that changes faster cannot be read.
const (
	patience = time.Second
	every    = 200 * time.Millisecond
)

// Meter tells how many bytes have been done, of how many; 0 for what is not
// known. It is called from another goroutine.
type Meter func() (done, all int64)

// ProgressLine is a progress line that is being shown. The methods of a nil one do
// nothing.
type ProgressLine struct {
	fd    int
	what  string
	meter Meter
	begun time.Time

	mu      sync.Mutex
	stopped bool
	drawn   int // columns of what stands on the terminal
}

// startProgress shows, after the first second, what is being done and how far it
// has come. It returns nil where fd is no terminal. Stop ends it. It uses no timer
// of the Go runtime, which would open an epoll descriptor.
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
	// The last column stays free: some terminals begin a new line behind it.
	text := fit(parts(l.what, done, all, time.Since(l.begun)), columns-1)
	if text == "" && l.drawn == 0 {
		return true
	}
	l.write(l.erasure(columns) + text)
	l.drawn = len(text)
	return true
}

// erasure returns what erases the line drawn last. If the terminal has become
// narrower since, the line has become several.
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

// inForeground reports whether this process group has the terminal. A background job
// that writes might be stopped (stty tostop), and would overwrite the foreground
// job's text.
func (l *ProgressLine) inForeground() bool {
	group, err := unix.IoctlGetInt(l.fd, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

func (l *ProgressLine) write(s string) {
	// One write, so that no other process writes in between. If the terminal takes
	// nothing now, the next line replaces this one.
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

// fit joins as many parts as there is room for; "" if there is none for the first.
func fit(parts []string, columns int) string {
	for n := len(parts); n > 0; n-- {
		if text := strings.Join(parts[:n], ", "); len(text) <= columns {
			return text
		}
	}
	return ""
}

// duration returns a time, rounded, for people.
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
