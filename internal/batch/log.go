package batch

import (
	"fmt"
	"os"
	"time"
)

// Log has a line for each step.
type Log struct {
	file  *os.File
	quiet bool
}

// NewLog returns a log that appends to a file, or goes to standard error for "". With
// quiet only what programs print goes there.
func NewLog(name string, quiet bool) (*Log, error) {
	if name == "" {
		return &Log{os.Stderr, quiet}, nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	return &Log{f, quiet}, nil
}

// Printf writes a line, in one piece: to standard error if the file cannot take it, as on
// a full disk.
func (l *Log) Printf(format string, args ...any) {
	if l.quiet {
		return
	}
	line := fmt.Appendf(nil, "cr_batch: %s ", time.Now().Format("2006-01-02T15:04:05"))
	line = fmt.Appendf(line, format, args...)
	if n, err := l.file.Write(append(line, '\n')); err != nil && n == 0 && l.file != os.Stderr {
		_, _ = os.Stderr.Write(append(line, '\n'))
	}
}

func (l *Log) fd() uintptr { return l.file.Fd() }

// since is a time that something has taken.
func since(t time.Time) string { return fmt.Sprintf("%.1f s", time.Since(t).Seconds()) }
