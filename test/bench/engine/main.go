// Engine compares the criu engine of the two commands, as built by "make", with criu
// itself: the time and the freeze time of a checkpoint, the time of a restart, and the
// resident memory of the commands.
//
// Each round runs every way once, so that other load of the machine affects all of them
// alike. The figures are medians, and the limits are on their ratios. The ways are the
// commands, criu into a directory, and a plain copy of as many bytes into a file. All
// of them end with fsync. Data that is still unwritten after one way is written before
// the next begins, and is not measured.
//
// A restart is measured up to the first instruction of the target, which has all of its
// memory by then; with -lazy, both. The frozen time is what the target itself notices.
//
// With -compress half of the target's memory is empty, and the commands are also
// measured with --compress.
//
// It requires root and a criu that works. It needs disk space of three times the
// target's size, and memory of four times that. With -strict the exit status is 1 if a
// limit is exceeded.
//
//	go run ./test/bench/engine [flags] bin/cr_checkpoint bin/cr_restart
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/criu/binary"
)

const (
	smallest = 16 << 20 // the size at which the fixed cost shows
	some     = 256 << 20
	large    = 1 << 30

	limitMemory = 32e6 // bytes
	limitGrowth = 1e6  // "the same": the pages that a run touches vary

	limitPackedGrowth = 2e6 // a small process does not use all buffers
)

// sizes is a flag of sizes in MiB.
type sizes []int64

func (s *sizes) String() string {
	var words []string
	for _, size := range *s {
		words = append(words, strconv.FormatInt(size>>20, 10))
	}
	return strings.Join(words, ",")
}

func (s *sizes) Set(text string) error {
	*s = nil
	for word := range strings.SplitSeq(text, ",") {
		n, err := strconv.ParseInt(word, 10, 32)
		if err != nil || n < 1 {
			return errors.New("not a list of sizes in MiB")
		}
		*s = append(*s, n<<20)
	}
	return nil
}

// counts returns a function for a flag that is a list of numbers.
func counts(to *[]int) func(string) error {
	return func(list string) error {
		for word := range strings.SplitSeq(list, ",") {
			n, err := strconv.Atoi(word)
			if err != nil || n < 1 {
				return errors.New("not a list of numbers")
			}
			*to = append(*to, n)
		}
		return nil
	}
}

func main() {
	if len(os.Args) == 7 && os.Args[1] == targetArg {
		fmt.Fprintln(os.Stderr, "bench: target:", target(os.Args[2:]))
		os.Exit(1)
	}
	b := &bench{processes: 1, of: sizes{16 << 20, 256 << 20, 1 << 30}}
	memory := sizes{16 << 20, 4 << 30}
	var parent, plotted string
	var strict bool
	var trees, threads []int
	flag.IntVar(&b.runs, "n", 5, "measure `N` times")
	flag.Var(&b.of, "sizes", "of the process, in `MiB`")
	flag.Var(&memory, "memory", "sizes of the process for the resident memory, in `MiB`")
	flag.StringVar(&parent, "dir", os.Getenv("TMPDIR"), "where the contexts are, made in `DIR`; /var/tmp without TMPDIR")
	flag.StringVar(&b.compress, "compress", "", "measure --compress=`HOW` as well, on memory of which half is empty")
	flag.BoolVar(&b.lazy, "lazy", false, "measure cr_restart --lazy as well")
	flag.BoolVar(&b.cold, "cold", false, "measure restarts from the disk as well")
	flag.Func("trees", fmt.Sprintf("also measure targets of `N` processes with %d MiB in all", some>>20), counts(&trees))
	flag.Func("threads", fmt.Sprintf("also measure targets with `N` more threads and %d MiB", smallest>>20), counts(&threads))
	flag.StringVar(&plotted, "plot", "", "draw the ratios into `FILE`, an SVG image")
	flag.BoolVar(&strict, "strict", false, "exit status 1 if a limit is exceeded")
	flag.Func("also", "measure the two commands in `DIR` as well, under its name", func(dir string) error {
		b.also = append(b.also, dir)
		return nil
	})
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "Usage: bench [flags] <cr_checkpoint> <cr_restart>")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 2 || b.runs < 1 {
		flag.Usage()
		os.Exit(2)
	}
	if parent == "" {
		parent = "/var/tmp"
	}
	err := b.open(parent, flag.Arg(0), flag.Arg(1))
	if err == nil {
		interrupted := make(chan os.Signal, 1)
		signal.Notify(interrupted, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
		go func() {
			<-interrupted
			b.close()
			os.Exit(1)
		}()
		err = b.run(memory, trees, threads)
		b.close()
		if err == nil && plotted != "" {
			err = b.plot(plotted)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	if b.over && strict {
		os.Exit(1)
	}
}

// open creates what all measurements need.
func (b *bench) open(parent, checkpoint, restart string) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("this needs root, for criu")
	}
	criu, err := binary.Find()
	if err != nil {
		return err
	}
	b.criu = criu
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	// Orphans become children of this process, which can wait for them.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	b.checkpoint, b.restart = checkpoint, restart
	if b.dir, err = os.MkdirTemp(parent, "bench-criu-"); err != nil {
		return err
	}
	return nil
}

// run prints the tables.
func (b *bench) run(memory sizes, trees, threads []int) error {
	load, _ := os.ReadFile("/proc/loadavg")
	fmt.Printf("criu %s, %s; contexts in %s\nmedians of %d runs (fastest); load averages and processes: %s",
		b.criu.Version, b.criu.Path, b.dir, b.runs, load)
	for _, size := range b.of {
		if err := b.room(size); err != nil {
			return err
		}
		if err := b.timesOf(size); err != nil {
			return fmt.Errorf("%d MiB: %w", size>>20, err)
		}
	}
	for _, n := range trees {
		b.processes = n
		if err := b.timesOf(some); err != nil {
			return fmt.Errorf("%d processes: %w", n, err)
		}
	}
	b.processes = 1
	for _, n := range threads {
		b.threads = n
		if err := b.timesOf(smallest); err != nil {
			return fmt.Errorf("%d threads: %w", n, err)
		}
	}
	b.threads = 0
	if err := b.memoryAt(b.command(), memory, limitGrowth); err != nil {
		return err
	}
	if b.compress != "" {
		fmt.Printf("\nwith --compress=%s:", b.compress)
		return b.memoryAt(b.compressing(), memory, limitPackedGrowth)
	}
	return nil
}

// timesOf measures times with a target of one size, and prints them.
func (b *bench) timesOf(size int64) error {
	ways := b.ways()
	if err := b.measure(ways, size); err != nil {
		return err
	}
	b.report(ways, size)
	return nil
}

// mapped is what cr_restart maps of a context at a time, which is page cache: 2 MiB for
// each thread that fills memory.
func mapped() int { return min(4, max(2, runtime.NumCPU())) * 2 << 20 }

// memoryAt measures and prints the resident memory.
func (b *bench) memoryAt(c *command, of sizes, growth float64) error {
	var peaks []peak
	for _, size := range of {
		if err := b.room(size); err != nil {
			if size <= large {
				return err
			}
			// A smaller size is better than none.
			fmt.Printf("\n%v: resident memory at %d MiB instead\n", err, large>>20)
			size = large
		}
		p, err := b.peakAt(c, size)
		if err != nil {
			return fmt.Errorf("%d MiB: %w", size>>20, err)
		}
		peaks = append(peaks, p)
	}
	if len(peaks) == 0 {
		return nil
	}
	fmt.Println()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "peak resident memory\t")
	for _, p := range peaks {
		fmt.Fprintf(w, "%d MiB\t", p.size>>20)
	}
	fmt.Fprint(w, "limit\t\tmore\tlimit\t\t\n")
	row := func(name string, value func(peak) int64) {
		fmt.Fprintf(w, "%s\t", name)
		least, most := value(peaks[0]), int64(0)
		for _, p := range peaks {
			fmt.Fprintf(w, "%.1f MB\t", float64(value(p))/1e6)
			least, most = min(least, value(p)), max(most, value(p))
		}
		cells := func(v, limit float64) {
			mark := "ok"
			if v > limit {
				mark, b.over = "OVER", true
			}
			fmt.Fprintf(w, "%.1f MB\t%s\t", limit/1e6, mark)
		}
		cells(float64(most), limitMemory)
		fmt.Fprintf(w, "%.1f MB\t", float64(most-least)/1e6)
		cells(float64(most-least), growth)
		fmt.Fprint(w, "\n")
	}
	row("cr_checkpoint", func(p peak) int64 { return p.checkpoint })
	growth += float64(mapped())
	row("cr_restart", func(p peak) int64 { return p.restart })
	return w.Flush()
}

func median[T int64 | time.Duration](values []T) T {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}
