// Package getopttest checks package getopt, over a given table of options,
// against the getopt_long of the machine's own C library.
//
// What the tests of several packages need for that belongs here: generating command
// lines, running the C side, comparing. [Documents] compares a command's table with its
// usage text, manual page and completions. Only tests import the package. Particular
// options do not belong here: commands pass their tables.
package getopttest

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"blcr-cli/internal/cli/getopt"
	"blcr-cli/test/harness"
)

// glibcSource is the C side; its first comment describes the protocol.
//
//go:embed testdata/glibc.c
var glibcSource []byte

// The flags of a command line, as in glibc.c.
const (
	flagFlush      = 1
	flagMessages   = 2
	flagPosixEmpty = 4
	flagPosixOne   = 8
)

// exitNotGlibc is the exit status of the C side if the C library is not glibc.
const exitNotGlibc = 77

// maxDifferences is the number of differences after which the comparison ends.
const maxDifferences = 10

// DefaultLines is the number of command lines that [Lines] returns if the
// environment does not say otherwise.
const DefaultLines = 20000

// Lines returns how many command lines a test should try: GETOPT_LINES from the
// environment, or else [DefaultLines].
func Lines(t testing.TB) int {
	t.Helper()
	s, ok := os.LookupEnv("GETOPT_LINES")
	if !ok {
		return DefaultLines
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("GETOPT_LINES=%q is not a positive number", s)
	}
	return n
}

// AgainstGlibc parses n command lines by package getopt and by glibc's getopt_long. The
// test fails if options, arguments, errors (with optopt and, in half of the lines, the
// message) or operands differ. The lines are generated from the names in the table and
// from seed: a systematic part, with every prefix of every name, which n does not
// shorten, then random ones. The same table, n and seed give the same lines.
//
// Exact rows, which getopt_long cannot express, are left out of this comparison. They
// must not change the result of any of n lines in which none of their names is typed in
// full. Without a C compiler or glibc the test is skipped after that, or fails if
// CI=true is in the environment.
func AgainstGlibc(t testing.TB, table getopt.Table, n int, seed int64) {
	t.Helper()
	if err := Check(table); err != nil {
		t.Fatal(err)
	}
	exactUnseen(t, table, n, seed)
	table = withoutExact(table)
	for _, d := range compare(t, table, table, n, seed) {
		t.Error(d)
	}
}

// exactUnseen is the part for Exact rows. It needs no C compiler.
func exactUnseen(t testing.TB, table getopt.Table, n int, seed int64) {
	t.Helper()
	var (
		loose     = withoutExact(table)
		code      = newCoder(table)
		exact     = map[string]bool{}
		exactChar = map[byte]bool{}
		failures  = 0
		with, wo  []byte
	)
	for _, o := range table {
		if !o.Exact {
			continue
		}
		for _, long := range o.Long {
			exact["--"+long] = true
		}
		if o.Short != 0 {
			exactChar[o.Short] = true
		}
	}
	if len(loose) == len(table) {
		return
	}
	typed := func(args []string) bool {
		for _, arg := range args {
			name, _, _ := strings.Cut(arg, "=")
			if exact[name] {
				return true
			}
			for i := range len(arg) {
				if arg[0] == '-' && exactChar[arg[i]] {
					return true
				}
			}
		}
		return false
	}
	for l := range newGenerator(table, seed).lines(n) {
		if typed(l.args) {
			continue
		}
		with = code.encode(with[:0], getopt.New(table, l.args, l.posix()), l.messages())
		wo = code.encode(wo[:0], getopt.New(loose, l.args, l.posix()), l.messages())
		if bytes.Equal(with, wo) {
			continue
		}
		t.Errorf("seed %d, line %d: %v\n  with Exact rows    %s\n  without Exact rows %s",
			seed, l.number, l, describe(with), describe(wo))
		if failures++; failures == maxDifferences {
			return
		}
	}
}

func withoutExact(table getopt.Table) getopt.Table {
	return slices.DeleteFunc(slices.Clone(table), func(o getopt.Option) bool { return o.Exact })
}

// compare returns a description of each line for which getopt with goTable and
// getopt_long with cTable give different results. Normally both tables are the same;
// different ones are for testing the comparison itself.
func compare(t testing.TB, goTable, cTable getopt.Table, n int, seed int64) []string {
	t.Helper()
	program := buildGlibc(t)

	cmd := exec.CommandContext(t.Context(), program)
	// Messages are compared in the C locale. The C side sets POSIXLY_CORRECT itself.
	cmd.Env = append(os.Environ(), "LC_ALL=C", "LANGUAGE=")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	code := newCoder(goTable, cTable)
	stop := make(chan struct{})
	batches := make(chan []line, 4)
	writeErr := make(chan error, 1)
	go func() {
		err := feed(stdin, batches, stop, code.encodeTable(cTable), newGenerator(goTable, seed).lines(n))
		close(batches)
		writeErr <- errors.Join(err, stdin.Close())
	}()

	var (
		differences []string
		readErr     error
		lines       int
		in          = bufio.NewReaderSize(stdout, 1<<16)
		theirs, our []byte
	)
read:
	for batch := range batches {
		for _, l := range batch {
			if theirs, readErr = readRecord(in, theirs); readErr != nil {
				readErr = fmt.Errorf("%v: %w", l, readErr)
				break read
			}
			lines++
			our = code.encode(our[:0], getopt.New(goTable, l.args, l.posix()), l.messages())
			if bytes.Equal(our, theirs) {
				continue
			}
			differences = append(differences, fmt.Sprintf("seed %d, line %d: %v\n  glibc  %s\n  getopt %s",
				seed, l.number, l, describe(theirs), describe(our)))
			if len(differences) == maxDifferences {
				break read
			}
		}
	}
	// If the loop ended early: the writer may be at a full pipe, or at a full
	// channel; the closed pipe ends the one, the channel the other.
	close(stop)
	stdout.Close()
	for range batches {
	}
	wErr := <-writeErr
	waitErr := cmd.Wait()

	var exit *exec.ExitError
	switch {
	case len(differences) == maxDifferences:
		// stopped early: the exit status of the C side means nothing
	case errors.As(waitErr, &exit) && exit.ExitCode() == exitNotGlibc:
		harness.Missing(t, "cannot compare with glibc: %s", bytes.TrimSpace(stderr.Bytes()))
	case readErr != nil || waitErr != nil || wErr != nil:
		t.Fatalf("C side: %v; %v; %v; its stderr: %q", readErr, waitErr, wErr, stderr.String())
	default:
		t.Logf("%s: %d command lines, seed %d, %d differences",
			bytes.TrimSpace(stderr.Bytes()), lines, seed, len(differences))
	}
	return differences
}

// buildGlibc compiles the C side and returns the program's path.
func buildGlibc(t testing.TB) string {
	t.Helper()
	cc := harness.Compiler(t)
	dir := t.TempDir()
	source, program := filepath.Join(dir, "glibc.c"), filepath.Join(dir, "glibc")
	if err := os.WriteFile(source, glibcSource, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), cc, "-O2", "-o", program, source).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cc, err, out)
	}
	return program
}

// feed writes the table and the lines to the C side. A batch is passed on only after it
// has been written completely, with the request for an answer, so that neither side
// waits for data in the other's buffer.
func feed(w io.Writer, batches chan<- []line, stop <-chan struct{}, table []byte, lines func(func(line) bool)) error {
	const batchSize = 512
	var (
		batch []line
		buf   = table
		err   error
	)
	// It returns whether to continue.
	send := func() bool {
		if _, err = w.Write(buf); err != nil {
			// The reader of the answers reports the error. It needs the lines.
			select {
			case batches <- batch:
			case <-stop:
			}
			return false
		}
		select {
		case batches <- batch:
		case <-stop:
			return false
		}
		batch, buf = nil, buf[:0]
		return true
	}
	for l := range lines {
		flags := l.flags
		if len(batch) == batchSize-1 {
			flags |= flagFlush
		}
		buf = append(buf, flags, byte(len(l.args)))
		for _, arg := range l.args {
			buf = append(append(buf, arg...), 0)
		}
		batch = append(batch, l)
		if len(batch) == batchSize && !send() {
			return err
		}
	}
	// At the end of its input the C side answers the last lines.
	send()
	return err
}

// readRecord reads the answer to one line into buf, which it may replace.
func readRecord(r io.Reader, buf []byte) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return buf, err
	}
	n := int(binary.LittleEndian.Uint32(size[:]))
	buf = slices.Grow(buf[:0], n)[:n]
	_, err := io.ReadFull(r, buf)
	return buf, err
}

// coder encodes the results of getopt like the records that the C side writes.
type coder struct {
	// val is the C side's val for each ID: 256 and up, so that it is neither
	// '?' nor a character, whatever the table's IDs are.
	val map[int]int
}

func newCoder(tables ...getopt.Table) coder {
	c := coder{val: map[int]int{}}
	for _, table := range tables {
		for _, o := range table {
			if _, ok := c.val[o.ID]; !ok {
				c.val[o.ID] = 256 + len(c.val)
			}
		}
	}
	return c
}

// encodeTable returns the first part of the C side's input.
func (c coder) encodeTable(table getopt.Table) []byte {
	var shorts, longs []byte
	nShorts, nLongs := 0, 0
	for _, o := range table {
		if o.Short != 0 {
			nShorts++
			shorts = append(shorts, o.Short, 0)
			shorts = appendNumber(shorts, int(o.Arg))
			shorts = appendNumber(shorts, c.val[o.ID])
		}
		for _, long := range o.Long {
			nLongs++
			longs = appendString(longs, long)
			longs = appendNumber(longs, int(o.Arg))
			longs = appendNumber(longs, c.val[o.ID])
		}
	}
	b := append(appendNumber(nil, nShorts), shorts...)
	return append(appendNumber(b, nLongs), longs...)
}

// encode runs a parser to its end and returns the record.
func (c coder) encode(b []byte, p *getopt.Parser, messages bool) []byte {
	for m, err := range p.Options() {
		if err != nil {
			b = appendString(b, "?")
			b = appendNumber(b, c.optopt(err))
			if messages {
				b = append(b, "prog: "...)
				b = append(b, err.Error()...)
				b = appendString(b, "\n")
			} else {
				b = appendString(b, "")
			}
			continue
		}
		b = appendString(b, "o")
		b = appendNumber(b, c.val[m.ID])
		if long, ok := strings.CutPrefix(m.Name, "--"); ok {
			b = appendString(b, long)
		} else {
			b = appendString(b, "")
		}
		if m.HasArg {
			b = appendString(b, "1")
		} else {
			b = appendString(b, "0")
		}
		b = appendString(b, m.Arg)
	}
	b = appendString(b, ".")
	operands := p.Operands()
	b = appendNumber(b, len(operands))
	for _, operand := range operands {
		b = appendString(b, operand)
	}
	return b
}

// optopt returns the value of optopt after an error of getopt_long.
func (c coder) optopt(err *getopt.Error) int {
	switch {
	case err.Char != 0:
		return int(err.Char)
	case err.Kind == getopt.Missing || err.Kind == getopt.Excess:
		return c.val[err.ID]
	default:
		return 0
	}
}

func appendString(b []byte, s string) []byte { return append(append(b, s...), 0) }

func appendNumber(b []byte, n int) []byte { return append(strconv.AppendInt(b, int64(n), 10), 0) }

// describe returns a record as text.
func describe(record []byte) string {
	var s strings.Builder
	for field := range bytes.SplitSeq(bytes.TrimSuffix(record, []byte{0}), []byte{0}) {
		fmt.Fprintf(&s, " %q", field)
	}
	return s.String()
}
