// Bench measures the two commands, as built by "make bench", against their limits: the
// time from exec to the control file, the largest resident memory, the size of the
// files, and the additional time for publishing events on a Fault Tolerance Backplane.
//
// Package ctrlsim simulates the control file. It stops the program at each open for
// writing and at each operation, so the times are longer than without it. The limit is on the
// difference between the commands and a C program. Since BLCR's own commands are not
// available, the C program is the shell, which only opens the control file. Bench exits
// with 1 if a limit is exceeded.
//
//	go run ./test/bench bin/cr_checkpoint bin/cr_restart
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"blcr-cli/internal/proc"
	"blcr-cli/test/ctrlsim"
)

const (
	runs = 51

	limitMore   = 3 * time.Millisecond
	limitMemory = 15e6 // in bytes, as in the output
	limitSize   = 6e6
)

func main() {
	ctrlsim.Init()
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "Usage: bench <cr_checkpoint> <cr_restart>")
		os.Exit(2)
	}
	ok, err := bench(os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	if !ok {
		os.Exit(1)
	}
}

// bench prints the table and reports whether all limits are kept.
func bench(checkpoint, restart string) (bool, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	target := exec.Command("sleep", "1000")
	if err := target.Start(); err != nil {
		return false, err
	}
	defer target.Wait()
	defer target.Process.Kill()

	context := filepath.Join(dir, "context")
	commands := []*command{
		// In this order: the first command writes the context for the second.
		{path: checkpoint, args: []string{"-f", context, strconv.Itoa(target.Process.Pid)}, wait: "chkpt-delay"},
		{path: restart, args: []string{context}, wait: "rstrt-delay"},
	}
	shell := &command{path: "/bin/sh", args: []string{"-c", ": >/proc/checkpoint/ctrl"}}
	if err := measureTimes(append(commands, shell)); err != nil {
		return false, err
	}
	for _, c := range commands {
		if err := c.measure(); err != nil {
			return false, fmt.Errorf("%s: %w", c.path, err)
		}
		if err := c.measureEvents(); err != nil {
			return false, fmt.Errorf("%s: %w", c.path, err)
		}
	}

	load, _ := os.ReadFile("/proc/loadavg")
	fmt.Printf("medians of %d runs; load averages and processes: %s", runs, load)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\t%s\t%s\tlimit\t\n", filepath.Base(checkpoint), filepath.Base(restart))
	ok := true
	row := func(name string, limit float64, format string, value func(*command) float64) {
		fmt.Fprintf(w, "%s\t", name)
		for _, c := range commands {
			v := value(c)
			mark := ""
			if limit > 0 && v > limit {
				mark, ok = "OVER: ", false
			}
			fmt.Fprintf(w, "%s"+format+"\t", mark, v)
		}
		if limit > 0 {
			fmt.Fprintf(w, format, limit)
		}
		fmt.Fprint(w, "\t\n")
	}
	row("start to opening the control file", 0, "%.2f ms", func(c *command) float64 { return ms(c.open) })
	row("start to the first operation on it", 0, "%.2f ms", func(c *command) float64 { return ms(c.ioctl) })
	row("the same, of the fastest run", 0, "%.2f ms", func(c *command) float64 { return ms(c.fastest) })
	row(fmt.Sprintf("more than /bin/sh takes to open it (%.2f ms)", ms(shell.open)), ms(limitMore), "%.2f ms",
		func(c *command) float64 { return ms(c.ioctl - shell.open) })
	row("peak resident memory", limitMemory/1e6, "%.1f MB", func(c *command) float64 { return float64(c.memory) / 1e6 })
	row("size of the binary", limitSize/1e6, "%.1f MB", func(c *command) float64 { return float64(c.size) / 1e6 })
	row("FTB, nobody listens: more from start to end", ms(limitNobody), "%.2f ms", func(c *command) float64 { return ms(c.nobody) })
	row("FTB, an agent: more from start to end", ms(limitAgent), "%.2f ms", func(c *command) float64 { return ms(c.agent) })
	return ok, w.Flush()
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }

// command is one of the two commands, with the results for it.
type command struct {
	path string
	args []string
	wait string // the part of the scenario that makes it wait; for measure only

	open, ioctl  time.Duration
	fastest      time.Duration // of ioctl
	memory, size int64

	nobody, agent time.Duration // the time that events add
}

func (c *command) measure() error {
	fi, err := os.Stat(c.path)
	if err != nil {
		return err
	}
	c.size = fi.Size()
	// Measured separately, because the observation slows the command down. It waits
	// long enough to be observed even on a busy machine.
	slow, err := ctrlsim.ParseScenario(strings.NewReader(c.wait + " 20ms"))
	if err != nil {
		return err
	}
	var memory []int64
	for range runs {
		var peak int64
		if _, err := c.run(slow, &peak); err != nil {
			return err
		}
		memory = append(memory, peak)
	}
	c.memory = median(memory)
	return nil
}

// measureTimes measures the commands in turn, so that a machine that is slower for a
// while slows all of them down.
func measureTimes(commands []*command) error {
	opens, ioctls := make([][]time.Duration, len(commands)), make([][]time.Duration, len(commands))
	for range runs {
		for i, c := range commands {
			res, err := c.run(nil, nil)
			if err != nil {
				return fmt.Errorf("%s: %w", c.path, err)
			}
			opens[i], ioctls[i] = append(opens[i], res.FirstOpen), append(ioctls[i], res.FirstIoctl)
		}
	}
	for i, c := range commands {
		c.open, c.ioctl, c.fastest = median(opens[i]), median(ioctls[i]), slices.Min(ioctls[i])
	}
	return nil
}

// run runs the command once; an exit status other than 0 is an error. If peak is not
// nil, it is set to the largest resident memory in bytes.
func (c *command) run(scenario *ctrlsim.Scenario, peak *int64) (*ctrlsim.Result, error) {
	cmd := &ctrlsim.Command{Path: c.path, Args: c.args, Scenario: scenario, Measured: true, Stderr: os.Stderr}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if peak != nil {
		*peak = watchMemory(cmd.Pid())
	}
	res, err := cmd.Wait()
	if err != nil {
		return nil, err
	}
	if res.Status != 0 || res.FirstOpen == 0 {
		return nil, fmt.Errorf("%v: status %#x\n%s", c.args, res.Status, res.TranscriptText())
	}
	return res, nil
}

// watchMemory returns the last value of the process's peak memory before it ends, or
// that of a child that runs the same program, if that is larger. (The value of wait
// includes the memory before the exec, which is that of this process.)
func watchMemory(pid int) (peak int64) {
	for {
		own := peakMemory(pid)
		if own == 0 {
			return peak
		}
		peak = max(peak, own)
		children, _ := proc.Children(pid)
		for _, child := range children {
			if proc.Executable(child) == proc.Executable(pid) {
				peak = max(peak, peakMemory(child))
			}
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// peakMemory returns the peak memory in bytes, 0 for a process that has ended.
func peakMemory(pid int) int64 {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(status), "\nVmHWM:")
	var kB int64
	_, _ = fmt.Sscanf(rest, "%d kB", &kB) // a zombie has no such line
	return kB * 1024
}

func median[T int64 | time.Duration](values []T) T {
	slices.Sort(values)
	return values[len(values)/2]
}
