package completion

import "strings"

// Zsh returns the file for zsh, a function that compinit finds in a directory of
// fpath.
func (c Command) Zsh() string {
	w := &writer{c: c}
	w.text("#compdef @command@\n%s", c.head("# zsh completion for %s(1)\n"))
	w.zshHelpers()
	w.text("\n_@name@() {\n")
	if c.Operand.kind == program {
		w.text("\t_arguments -S -A '-*' \\\n")
	} else {
		w.text("\t_arguments -s -S \\\n")
	}
	for _, o := range c.Options {
		if len(o.names()) > 0 {
			w.text("\t\t%s \\\n", c.zshOption(o))
		}
	}
	switch {
	case c.Operand.kind == program:
		w.text("\t\t'(-)1:program:_command_names -e' \\\n\t\t'*:: :_normal'\n")
	case c.Operand.kind == none:
		w.text("\t\t&& return\n")
	case c.Many:
		w.text("\t\t'*%s'\n", c.zshValue(c.Operand))
	default:
		w.text("\t\t'1%s'\n", c.zshValue(c.Operand))
	}
	w.text("}\n\n_@name@ \"$@\"\n")
	return w.b.String()
}

// zshOption returns the words by which _arguments is told of an option.
func (c Command) zshOption(o Option) string {
	// Those that are not proposed any more when this one is there.
	var exclude []string
	if !o.Repeats {
		exclude = o.names()
	}
	if o.Group != "" {
		for _, other := range c.Options {
			if other.Group == o.Group && other.Names != o.Names {
				exclude = append(exclude, other.names()...)
			}
		}
	}
	if o.NoOperand {
		operand := "1"
		if c.Many {
			operand = "*"
		}
		exclude = append(exclude, operand)
	}
	before := ""
	switch {
	case o.alone():
		before = "(- : *)"
	case o.Repeats:
		before = "*"
	case len(exclude) > 1:
		before = "(" + strings.Join(exclude, " ") + ")"
	}
	var names []string
	for _, name := range o.names() {
		switch {
		case o.Value.kind == none:
		case o.Value.optional:
			name += "=-"
		case len(name) == 2:
			name += "+"
		default:
			name += "="
		}
		names = append(names, name)
	}
	after := "[" + o.Help + "]"
	if o.Value.kind != none {
		if o.Value.optional {
			after += ":"
		}
		after += c.zshValue(o.Value)
	}
	if len(names) == 1 {
		return "'" + before + names[0] + after + "'"
	}
	if before != "" {
		before = "'" + before + "'"
	}
	return before + "{" + strings.Join(names, ",") + "}'" + after + "'"
}

// zshValue returns what stands for a value, from the first colon on, for between
// single quotes.
func (c Command) zshValue(v Value) string {
	action := " "
	switch v.kind {
	case words:
		action = "(("
		for i, w := range v.words {
			if i > 0 {
				action += " "
			}
			action += strings.ReplaceAll(w.Text, ":", `\\\:`)
			if w.Help != "" {
				action += `\:"` + w.Help + `"`
			}
		}
		action += "))"
	case file:
		action = "_files"
	case directory:
		action = "_files -/"
	case context:
		action = `_files -g "context.*(-.)"`
	case process:
		action = "_" + c.function() + "_pids"
	case signal:
		action = "_" + c.function() + "_signals"
	case relocation:
		action = "_" + c.function() + "_relocation"
	case command:
		action = "_cmdstring"
	}
	return ":" + v.what + ":" + action
}

func (w *writer) zshHelpers() {
	c := w.c
	if c.uses(process) {
		w.text(`
# Processes with their names, one's own first.
_@name@_pids() {
	local dir word name expl
	local -a pids shown others others_shown
	for dir in /proc/<->(Nn); do
		# Neither threads of the kernel nor zombies have a command line.
		{ IFS= read -r -d '' word <$dir/cmdline && IFS= read -r name <$dir/comm } 2>/dev/null || continue
		word="${dir:t} -- $name"
		if [[ -O $dir ]]; then
			pids+=(${dir:t}) shown+=("$word")
		else
			others+=(${dir:t}) others_shown+=("$word")
		fi
	done
	pids+=($others) shown+=("${others_shown[@]}")
	_wanted -V processes expl 'process ID' compadd -l -d shown -a pids
}
`)
	}
	if c.uses(signal) {
		w.text(`
# Signals, by their numbers; or the one whose name it is.
_@name@_signals() {
	local -a signals=(%s)
	local -a found
	local name=${${(U)PREFIX}#SIG}
	if [[ $PREFIX == [[:alpha:]]* ]]; then
		found=(${(M)signals:#*:$name*})
		if (($#found == 1)); then
			compadd -U -- ${found[1]%%%%:*}
		else
			compadd -U -- ${found#*:}
		fi
	else
		_describe -V 'signal number' signals
	fi
}
`, zshSignals())
	}
	if c.uses(relocation) {
		w.text(`
# Two directories with = between them.
_@name@_relocation() {
	compset -P '*='
	_files -/
}
`)
	}
}

func zshSignals() string {
	lines, line := "", ""
	for _, s := range signals {
		item := s.Text + ":" + s.Help
		if len(line)+len(item) > 80 {
			lines, line = lines+"\n\t\t"+strings.TrimSpace(line), ""
		}
		line += item + " "
	}
	return lines + "\n\t\t" + strings.TrimSpace(line)
}
