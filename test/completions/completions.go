// Package completions reads the files in the directory completions, by which
// bash, zsh and fish complete the command lines of the commands.
//
// What belongs here is how these files name options. In its tests the shells themselves
// complete lines. Particular options do not belong here: package getopttest compares
// what is read here with a command's option table.
//
// The files are kept by hand. They are for bash 4, zsh 5 and fish 3.0, and need
// no function of the package bash-completion.
package completions

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"blcr-cli/internal/cli/getopt"
)

// Shells are the shells for which there are completions.
var Shells = []string{"bash", "zsh", "fish"}

// File returns the name of a command's file for one of [Shells], relative to the
// directory completions.
func File(shell, command string) string {
	switch shell {
	case "zsh":
		return "zsh/_" + command
	case "fish":
		return "fish/" + command + ".fish"
	}
	return shell + "/" + command
}

// Options returns the options that a file for one of [Shells] proposes, as they
// are typed ("-f", "--file"), and whether they take an argument. It is an error
// if one place in the file contradicts another: an option proposed twice, an
// option that only one of two lists has, or the mention of an option that is not
// proposed.
func Options(shell, text string) (map[string]getopt.Arg, error) {
	f := &file{text: text, options: map[string]getopt.Arg{}}
	switch shell {
	case "bash":
		f.bash()
	case "zsh":
		f.zsh()
	case "fish":
		f.fish()
	}
	for _, m := range mention.FindAllStringSubmatch(text, -1) {
		if _, ok := f.options[m[1]]; !ok {
			f.complain("%s is mentioned and not proposed", m[1])
		}
	}
	return f.options, f.err
}

// mention matches a long option. Short ones look like those of the shells' own
// commands.
var mention = regexp.MustCompile(`(?:^|[^\w-])(--[a-z][a-z-]*)`)

// file is a file that is being read.
type file struct {
	text    string
	options map[string]getopt.Arg
	err     error // the first one
}

func (f *file) complain(format string, args ...any) {
	if f.err == nil {
		f.err = fmt.Errorf(format, args...)
	}
}

func (f *file) add(name string, arg getopt.Arg) {
	if _, ok := f.options[name]; ok {
		f.complain("%s is proposed twice", name)
	}
	f.options[name] = arg
}

// find returns the group of all matches, or the first of several groups, which
// have to be equal.
func (f *file) find(re *regexp.Regexp) []string {
	var found []string
	for _, m := range re.FindAllStringSubmatch(f.text, -1) {
		found = append(found, m[1])
		if len(m) > 2 && m[1] != m[2] {
			f.complain("%q has %s and %s", m[0], m[1], m[2])
		}
	}
	return found
}

var (
	continued     = regexp.MustCompile(`\\\n\t*`)
	bashProposals = regexp.MustCompile(`compgen -W '(\s*-[^']*)'`)
	bashLong      = regexp.MustCompile(`(?m)^\t+(--[a-z |-]*)\) opt=\$word`)
	bashSkipped   = regexp.MustCompile(`(?m)^\t+(--[a-z |-]*)\) ;;`)
	bashLetters   = regexp.MustCompile(`\[\[ \$rest == \[!([A-Za-z]+)\]\* \]\]`)
	bashSameWord  = regexp.MustCompile(`(?m)^\t+-\*\[([A-Za-z]+)\]\?\*\)\n\t+rest=\$\{value%%\[([A-Za-z]+)\]\*\}`)
)

// bash reads the list of proposals, which has both --name= and --name for an optional
// argument, and the patterns of the options that take the next word.
func (f *file) bash() {
	f.text = continued.ReplaceAllString(f.text, "")
	for _, list := range f.find(bashProposals) {
		for name := range strings.FieldsSeq(list) {
			if long, ok := strings.CutSuffix(name, "="); !ok {
				f.add(name, getopt.NoArgument)
			} else if _, ok := f.options[long]; ok {
				f.options[long] = getopt.OptionalArgument
			} else {
				f.complain("%s is not proposed behind %s", name, long)
			}
		}
	}
	require := func(name string) {
		if arg, ok := f.options[name]; !ok || arg != getopt.NoArgument {
			f.complain("%s takes the next word, and is not proposed, or twice, or with =", name)
		}
		f.options[name] = getopt.RequiredArgument
	}
	for _, pattern := range f.find(bashLong) {
		for name := range strings.SplitSeq(pattern, "|") {
			require(strings.TrimSpace(name))
		}
	}
	letters, same := f.find(bashLetters), f.find(bashSameWord)
	if !slices.Equal(letters, same) {
		f.complain("the letters %q take an argument from the next word, and %q from the same one", letters, same)
	}
	for _, letter := range strings.Join(letters, "") {
		require("-" + string(letter))
	}
	// For a command that runs another one: the options before that.
	for _, pattern := range f.find(bashSkipped) {
		f.same("case", strings.Split(strings.ReplaceAll(pattern, " ", ""), "|"), slices.Collect(maps.Keys(f.options)))
	}
}

// same compares a list of options with the expected ones.
func (f *file) same(where string, got, want []string) {
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		f.complain("%s has %q, want %q", where, got, want)
	}
}

var (
	zshLine      = regexp.MustCompile(`(?m)^\t\t('.*')(?: \\)?$`)
	zshSpec      = regexp.MustCompile(`^'(?:\(([^)]*)\)|\*)?(?:'?\{([^}]*)\}'|(-[^\[]*))\[[^\]]*\](:?)`)
	zshOneSpec   = regexp.MustCompile(`^(--?[A-Za-z][a-z-]*?)(=-|=|\+)?$`)
	zshArguments = map[string]getopt.Arg{"": getopt.NoArgument, "=": getopt.RequiredArgument, "+": getopt.RequiredArgument, "=-": getopt.OptionalArgument}
)

// zsh reads the specifications of options among the arguments of _arguments.
func (f *file) zsh() {
	excluded := map[string]bool{}
	for _, line := range f.find(zshLine) {
		m := zshSpec.FindStringSubmatch(line)
		if m == nil {
			continue // the specification of an operand
		}
		for name := range strings.FieldsSeq(m[1]) {
			excluded[name] = len(name) > 1 && name[0] == '-'
		}
		for spec := range strings.SplitSeq(m[2]+m[3], ",") {
			one := zshOneSpec.FindStringSubmatch(spec)
			if one == nil {
				f.complain("no option: %s", line)
				continue
			}
			arg := zshArguments[one[2]]
			if (arg == getopt.NoArgument) != (m[4] == "") {
				f.complain("with the argument in one place only: %s", line)
			}
			f.add(one[1], arg)
		}
	}
	for name := range excluded {
		if _, ok := f.options[name]; excluded[name] && !ok {
			f.complain("%s is excluded and not proposed", name)
		}
	}
}

var (
	fishLine     = regexp.MustCompile(`(?m)^complete (-c .*)$`)
	fishName     = regexp.MustCompile(`^-([sl]) (\S+)`)
	fishLong     = regexp.MustCompile(`contains -- \$word ([a-z -]+); and set value`)
	fishLetters  = regexp.MustCompile(`'\^-\[\^([A-Za-z]+)\]\*\[([A-Za-z]+)\]\$' \$word; and set value`)
	fishNoOption = regexp.MustCompile(`contains -- \$word ([a-z -]+); or return`)
	quoted       = regexp.MustCompile(`'[^']*'`)
)

// fish reads the complete commands, and the lists of the options that take the
// next word.
func (f *file) fish() {
	var long, letters []string
	for _, line := range f.find(fishLine) {
		words := strings.Fields(quoted.ReplaceAllString(line, "''"))
		arg := getopt.NoArgument
		switch {
		case slices.Contains(words, "-x"), slices.Contains(words, "-r"):
			arg = getopt.RequiredArgument
		case slices.Contains(words, "-a"), slices.Contains(words, "-F"):
			arg = getopt.OptionalArgument
		}
		for i := range words {
			m := fishName.FindStringSubmatch(strings.Join(words[i:], " "))
			switch {
			case m == nil:
			case m[1] == "s":
				f.add("-"+m[2], arg)
				if arg == getopt.RequiredArgument {
					letters = append(letters, m[2])
				}
			default:
				f.add("--"+m[2], arg)
				if arg == getopt.RequiredArgument {
					long = append(long, "--"+m[2])
				}
			}
		}
	}
	f.same("the list of long options that take the next word", strings.Fields(strings.Join(f.find(fishLong), " ")), long)
	f.same("the list of letters that take the next word", strings.Split(strings.Join(f.find(fishLetters), ""), ""), letters)
	for _, list := range f.find(fishNoOption) {
		f.same("the list of options in front of the program", strings.Fields(list), slices.Collect(maps.Keys(f.options)))
	}
}
