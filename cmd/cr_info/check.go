package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/engines"
	"blcr-cli/internal/show"
)

// check is what --check has found.
type check struct {
	obstacles []string // why it could not be restarted, a line for each
	notes     []string
	summary   string
}

// check finds out whether the context that begins at an offset of fd could be restarted
// here and now. It leaves the descriptor's offset where it is.
func (r *report) check(fd int, start int64, directory bool) {
	now, err := unix.Seek(fd, 0, unix.SEEK_CUR)
	if err == nil {
		_, err = unix.Seek(fd, start, unix.SEEK_SET)
	}
	if err != nil { // a pipe, which has been read
		r.err = notContext("only a file or a directory can be checked")
		return
	}
	if !directory {
		defer unix.Seek(fd, now, unix.SEEK_SET)
	}
	c := &check{}
	r.checked = c
	choice := ckpt.NewChoice(os.Getenv("CR_ENGINE"), engines.ToForecast())
	request := ckpt.RestartRequest{FD: int32(fd), RestorePid: true}
	if directory {
		request.Dir = r.file
	} else {
		choice.Require(fd)
	}
	engine, err := choice.Open()
	if err != nil {
		c.add(err)
		return
	}
	defer engine.Close()
	forecast := engine.ForecastRestart(context.Background(), &request)
	for _, err := range forecast.Failures {
		c.add(err)
	}
	c.notes = forecast.Notes
	c.summary = summary(forecast, engine.Describe())
}

// add adds the reason of an error.
func (c *check) add(err error) {
	line := strings.Join(ckpt.DetailOf(err), "; ")
	if line == "" {
		line = ckpt.Strerror(ckpt.ErrnoOf(err))
	}
	c.obstacles = append(c.obstacles, show.Text(line))
}

// summary says what would be restarted.
func summary(f *ckpt.Forecast, by string) string {
	if by == "" {
		by = "BLCR's module"
	}
	what := "it"
	if n := len(f.PIDs); n > 0 {
		what = "1 process"
		if n > 1 {
			what = fmt.Sprintf("%d processes", n)
		}
		what += " with " + show.Size(f.Memory) + " of memory"
	}
	return show.Text(what + " could be restarted by " + by)
}

// mostObstacles is the largest number of obstacles that are listed.
const mostObstacles = 50

// text returns the lines of --check.
func (c *check) text(file string) string {
	lines := c.obstacles
	if n := len(lines); n > mostObstacles {
		lines = append(lines[:mostObstacles:mostObstacles], fmt.Sprintf("and %d more", n-mostObstacles))
	}
	if len(lines) == 0 {
		lines = []string{c.summary}
	}
	var b strings.Builder
	for _, line := range append(lines[:len(lines):len(lines)], c.notes...) {
		b.WriteString(show.Name(file) + ": " + show.Text(line) + "\n")
	}
	return b.String()
}
