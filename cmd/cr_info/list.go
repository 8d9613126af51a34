package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/cli"
	"blcr-cli/internal/generations"
	"blcr-cli/internal/show"
)

// members returns the contexts that a FILE stands for: those of a directory, the newest
// first, or itself if it is anything else.
func members(file string) (names []string, directory bool) {
	var st unix.Stat_t
	if unix.Stat(file, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR &&
		unix.Access(filepath.Join(file, images.InventoryName), unix.F_OK) != nil {
		// An error comes again when the directory is examined.
		names, _ = generations.Names(file)
	}
	if len(names) == 0 {
		return []string{file}, false
	}
	return names, true
}

// list prints a table of the contexts of a directory. good says that all are complete.
func (s *settings) list(dir string, names []string, separator string, con *cli.Console) (good bool, err error) {
	t := newTable("NAME", "STATE", "SAVED", "ENGINE", "PID>", "PROCESSES>", "MEMORY>", "SIZE>", "HOST", "COMMAND")
	t.paint = s.colour
	newest := "none of them is complete"
	var bad []*report
	for _, name := range names {
		r := s.examine(name, con)
		if r.err == syscall.ENOENT { // renamed or removed in between
			continue
		}
		base := show.Name(filepath.Base(name))
		if r.err != nil {
			bad = append(bad, r)
		} else if !good {
			good = true
			newest = fmt.Sprintf("cr_restart %s restarts %s, if its checksums are right", show.Name(dir), base)
		}
		t.add(append([]string{base}, r.row()...)...)
	}
	var b strings.Builder
	t.write(&b, "Contexts in "+show.Name(dir))
	if err := con.Print(separator + strings.TrimPrefix(b.String(), "\n") + newest + "\n"); err != nil {
		return false, err
	}
	for _, r := range bad {
		complain(con, r.file, r.found())
	}
	return len(bad) == 0, nil
}

// row returns the cells of a context in a list, without its name.
func (r *report) row() []string {
	state, engine, pid, processes, memory, size, host, command := "complete", "-", "-", "-", "-", "-", "-", "-"
	var saved time.Time
	var st unix.Stat_t
	if unix.Stat(r.file, &st) == nil {
		saved, size = time.Unix(st.Mtim.Unix()), show.Size(st.Size)
	}
	switch info := r.criu; {
	case info != nil:
		h := info.Header
		engine, host, command, size = h.Engine, h.Host, commandLine(&h), show.Size(info.Sizes.Total())
		if !h.Created.IsZero() {
			saved = h.Created
		}
		sum := uint64(0)
		for _, p := range info.Processes {
			sum += p.Saved
		}
		pid, processes, memory = strconv.Itoa(int(info.Processes[0].PID)), strconv.Itoa(len(info.Processes)), show.Size(sum)
	case r.blcr != nil:
		engine = "kernel"
		if p := r.blcr.First; p != nil {
			pid, command = strconv.Itoa(p.PID), show.Name(p.Name)
		}
	}
	if r.err != nil {
		state = "damaged"
		if _, system := r.err.(syscall.Errno); system {
			state = "unreadable"
		} else if r.criu != nil || r.blcr != nil {
			state = "incomplete"
		}
	}
	return []string{state, moment(saved), show.Text(engine), pid, processes, memory, size, show.Text(host), command}
}
