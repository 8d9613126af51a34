// Package completion writes the files by which bash, zsh and fish complete the
// command lines of a command: Bash, Zsh and Fish, from one description of it.
//
// What belongs here is what shells want to be told, and how. What must not be
// here is any particular command: those describe themselves, in cmd/*/table_test.go,
// where package getopttest also holds the description against the option table.
// Nothing of this is linked into a command.
//
// The files are read by shells of many ages, so they use what bash 4, zsh 5 and
// fish 3.0 have, and of bash-completion's functions none that must be there.
package completion

import (
	"fmt"
	"strings"
)

// Command is one command line.
type Command struct {
	Name    string
	Options []Option
	// Operand is what may be given besides options: once, or any number of
	// times. If it is a [Program] then options stand in front of it.
	Operand Value
	Many    bool
}

// Option is one option.
type Option struct {
	// Names has all of its names, as in "-f --file".
	Names string
	// Value is what it takes.
	Value Value
	// Help says in some five words what it does, without a full stop.
	Help string
	// Group is the same for options of which there can be one. Those that may
	// be repeated and of which the last one counts need none.
	Group string
	// NoOperand is for options with which there can be no operand.
	NoOperand bool
	// Repeats is for options that mean more when they are given again.
	Repeats bool
	// Ours is for options that BLCR does not have.
	Ours bool
}

// Value is what an option takes, or an operand is. The zero Value is [None].
type Value struct {
	kind     kind
	what     string // for people
	words    []Word
	optional bool
}

type kind int

const (
	none kind = iota
	text
	words
	file
	directory
	context
	process
	signal
	relocation
	command
	program
)

// The values that shells can make proposals for, or at least say what they are.
var (
	None       = Value{}
	File       = Value{kind: file, what: "file"}
	Directory  = Value{kind: directory, what: "directory"}
	Context    = Value{kind: context, what: "context"}       // files, if there is one those named context.…
	Process    = Value{kind: process, what: "process ID"}    // one's own first
	Signal     = Value{kind: signal, what: "signal number"}  // by its name, too
	Relocation = Value{kind: relocation, what: "OLD=NEW"}    // two directories
	Shell      = Value{kind: command, what: "shell command"} // for /bin/sh -c
	Program    = Value{kind: program, what: "program"}       // with its own arguments behind it
)

// Text is a value that nobody can guess.
func Text(what string) Value { return Value{kind: text, what: what} }

// Word is one of a few possible values.
type Word struct{ Text, Help string }

// Words is a value for which there are proposals. It may be another.
func Words(what string, list ...Word) Value { return Value{kind: words, what: what, words: list} }

// OrNone is the same value where the option can do without: --option or
// --option=VALUE.
func (v Value) OrNone() Value {
	v.optional = true
	return v
}

// IsNone and IsOptional are what package getopt knows of a value.
func (v Value) IsNone() bool     { return v.kind == none }
func (v Value) IsOptional() bool { return v.optional }

// Check reports what is wrong with a description. Texts are plain, so that no
// shell has to be told that they are.
func (c Command) Check() error {
	for _, o := range c.Options {
		if o.Names == "" || o.Help == "" {
			return fmt.Errorf("option %q: without a name or a help text", o.Names)
		}
		texts := []string{o.Help, o.Value.what}
		for _, w := range o.Value.words {
			texts = append(texts, strings.ReplaceAll(w.Text, ":", ""), w.Help)
		}
		for _, t := range texts {
			if strings.ContainsFunc(t, func(r rune) bool { return r < ' ' || r > '~' || strings.ContainsRune("[]{}:'\"\\$`", r) }) {
				return fmt.Errorf("option %q: %q has a character that means something to a shell", o.Names, t)
			}
		}
		if o.Value.optional && len(o.short()) > 0 {
			return fmt.Errorf("option %q: a short name for a value that may be left out", o.Names)
		}
	}
	return nil
}

// names returns the names that are worth a proposal: -? stands for itself, and
// -- is no option to a shell.
func (o Option) names() []string {
	var names []string
	for name := range strings.FieldsSeq(o.Names) {
		if name != "-?" && name != "--" {
			names = append(names, name)
		}
	}
	return names
}

// short returns the letters of the short names.
func (o Option) short() []string {
	var letters []string
	for _, name := range o.names() {
		if len(name) == 2 {
			letters = append(letters, name[1:])
		}
	}
	return letters
}

// long returns the long names, without the dashes.
func (o Option) long() []string {
	var names []string
	for _, name := range o.names() {
		if long, ok := strings.CutPrefix(name, "--"); ok {
			names = append(names, long)
		}
	}
	return names
}

// alone tells whether the option is instead of everything else.
func (o Option) alone() bool {
	return strings.Contains(o.Names, "--help") || strings.Contains(o.Names, "--version")
}

// takesNext tells whether the next word may be the option's value.
func (o Option) takesNext() bool { return o.Value.kind != none && !o.Value.optional }

// letters returns the short names of the options for which f is true, for a
// bracket expression.
func (c Command) letters(f func(Option) bool) string {
	s := ""
	for _, o := range c.Options {
		if f(o) {
			s += strings.Join(o.short(), "")
		}
	}
	return s
}

// longs returns the long names of the options for which f is true, dashes
// included, each with something behind it.
func (c Command) longs(f func(Option) bool, behind ...string) []string {
	var names []string
	for _, o := range c.Options {
		for _, name := range o.long() {
			if !f(o) {
				continue
			}
			for _, b := range behind {
				names = append(names, "--"+name+b)
			}
		}
	}
	return names
}

// uses tells whether an option or the operand is of one of these kinds.
func (c Command) uses(kinds ...kind) bool {
	for _, k := range kinds {
		if c.Operand.kind == k {
			return true
		}
		for _, o := range c.Options {
			if o.Value.kind == k {
				return true
			}
		}
	}
	return false
}

// function is the command's name as part of the names of functions.
func (c Command) function() string { return strings.ReplaceAll(c.Name, "-", "_") }

func (c Command) head(comment string) string {
	return fmt.Sprintf(comment, c.Name) +
		"# Made from the option table by \"make completions\"; not to be edited.\n"
}

// signals are Linux's, but for the two that the C library keeps for itself, by
// number.
var signals = func() []Word {
	list := []Word{}
	for i, name := range strings.Fields("HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT " +
		"CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS") {
		list = append(list, Word{fmt.Sprint(1 + i), name})
	}
	for n := 34; n <= 64; n++ {
		name := "RTMIN"
		switch {
		case n == 64:
			name = "RTMAX"
		case n > 34:
			name = fmt.Sprintf("RTMIN+%d", n-34)
		}
		list = append(list, Word{fmt.Sprint(n), name})
	}
	return list
}()

// file is a text that is being written. Lines come as they are to be, with @name@
// for the command's function and @command@ for the command.
type writer struct {
	c Command
	b strings.Builder
}

func (w *writer) text(s string, args ...any) {
	s = strings.NewReplacer("@name@", w.c.function(), "@command@", w.c.Name).Replace(s)
	if len(args) > 0 {
		s = fmt.Sprintf(s, args...)
	}
	w.b.WriteString(s)
}
