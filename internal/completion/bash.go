package completion

import "strings"

// Bash returns the file for bash. It is one for bash-completion's directory, and
// can be read by ". FILE" as well.
func (c Command) Bash() string {
	w := &writer{c: c}
	w.text("%s", c.head("# bash completion for %s(1)                          -*- shell-script -*-\n"))
	if c.Operand.kind == program {
		w.bashProgram()
	} else {
		w.bashHelpers()
		w.bashFunction()
	}
	w.text("\ncomplete -F _@name@ @command@\n")
	return w.b.String()
}

func (w *writer) bashHelpers() {
	c := w.c
	if c.uses(file, directory, context, relocation) {
		w.text(`
# Files, or what else compgen -A calls by the name $2, that begin with $1.
_@name@_files() {
	local word=$1
	word=${word#[\"\']}
	mapfile -t COMPREPLY < <(compgen -A "$2" -- "${word//\\/}")
	compopt -o filenames 2>/dev/null
}
`)
	}
	if c.uses(context) {
		w.text(`
# Files that begin with $1: if there are any, those named context.*
_@name@_contexts() {
	local file
	local -a contexts=()
	_@name@_files "$1" file
	for file in "${COMPREPLY[@]}"; do
		[[ ${file##*/} != context.* ]] || contexts+=("$file")
	done
	((${#contexts[@]} == 0)) || COMPREPLY=("${contexts[@]}")
}
`)
	}
	if c.uses(process) {
		w.text(`
# Processes whose numbers begin with $1, one's own first.
_@name@_pids() {
	local dir pid word
	local -a own=() others=()
	for dir in /proc/[0-9]*; do
		pid=${dir#/proc/}
		[[ $pid == "$1"* ]] || continue
		# Neither threads of the kernel nor zombies have a command line.
		{ IFS= read -r -d '' word <"$dir/cmdline"; } 2>/dev/null || continue
		# An array is in the order of its numbers.
		if [[ -O $dir ]]; then own[pid]=$pid; else others[pid]=$pid; fi
	done
	COMPREPLY=("${own[@]}" "${others[@]}")
	compopt -o nosort 2>/dev/null
}
`)
	}
	if c.uses(signal) {
		w.text(`
# Signals whose numbers begin with $1; or the one whose name does.
_@name@_signals() {
	local i
	local -a names=(%s)
	local -a found=()
	for i in "${!names[@]}"; do
		if [[ $1 == [[:alpha:]]* ]]; then
			[[ ${names[i]} != "${1#SIG}"* ]] || found+=("$i")
		else
			[[ $i != "$1"* ]] || COMPREPLY+=("$i")
		fi
	done
	if ((${#found[@]} == 1)); then
		COMPREPLY=("${found[0]}")
	else
		for i in "${found[@]}"; do COMPREPLY+=("${names[i]}"); done
	fi
	compopt -o nosort 2>/dev/null
}
`, bashSignals())
	}
}

// bashSignals returns the elements of an array of the names, in lines.
func bashSignals() string {
	lines, line := "", ""
	for _, s := range signals {
		item := "[" + s.Text + "]=" + s.Help
		if len(line)+len(item) > 80 {
			lines, line = lines+"\n\t\t"+strings.TrimSpace(line), ""
		}
		line += item + " "
	}
	return lines + "\n\t\t" + strings.TrimSpace(line)
}

func (w *writer) bashFunction() {
	c := w.c
	var (
		takesNext = func(o Option) bool { return o.takesNext() }
		instead   = func(o Option) bool { return o.NoOperand }
		valued    = c.letters(takesNext)
		count     = "$((operands + 1))"
	)
	if c.Many {
		count = "$operands"
	}
	w.text(`
_@name@() {
	local i line rest piece='' word value cut opt='' pre='' ended='' operands=0
	local -a words=()
	COMPREPLY=()

	# Bash cuts words at = and :, too. What no blank separates is one word.
	line=${COMP_LINE:0:COMP_POINT}
	for ((i = 0; i <= COMP_CWORD; i++)); do
		rest=${line#"${line%%%%[![:space:]]*}"}
		piece=${COMP_WORDS[i]}
		((i < COMP_CWORD)) || piece=$rest
		if ((i > 0)) && [[ $rest == "$line" ]]; then
			words[${#words[@]} - 1]+=$piece
		else
			words+=("$piece")
		fi
		line=${rest#"$piece"}
	done
	value=${words[${#words[@]} - 1]}
	# This much of the word is not bash's to replace.
	cut=${value%%"$piece"}
	[[ $piece == *[!=:]* ]] || cut=$value

	# What the words before have left to be said: the value of an option, an
	# operand.
	for word in "${words[@]:1:${#words[@]}-2}"; do
		if [[ $opt ]]; then
			opt=''
		elif [[ $ended ]]; then
			operands=%[1]s
		else
			case $word in
			--) ended=1 ;;
%[2]s			--*) ;;
`, count, "\x00")
	// The value's long names, and those without which there is an operand.
	long := ""
	if names := c.longs(func(o Option) bool { return takesNext(o) && instead(o) }, ""); len(names) > 0 {
		long += "\t\t\t" + bashPatterns(names, "\t\t\t") + ") opt=$word operands=1 ;;\n"
	}
	if names := c.longs(instead, "=*"); len(names) > 0 {
		long += "\t\t\t" + bashPatterns(names, "\t\t\t") + ") operands=1 ;;\n"
	}
	if names := c.longs(func(o Option) bool { return takesNext(o) && !instead(o) }, ""); len(names) > 0 {
		long += "\t\t\t" + bashPatterns(names, "\t\t\t") + ") opt=$word ;;\n"
	}
	if valued != "" {
		// A cluster of letters ends with the first that takes a value.
		w.text(`			-?*)
				rest=${word#-}
				while [[ $rest == [!%s]* ]]; do rest=${rest#?}; done
				[[ $rest != ? ]] || opt=-$rest
`, valued)
		if letters := c.letters(instead); letters != "" {
			w.text("\t\t\t\t[[ $rest != [%s]* ]] || operands=1\n", letters)
		}
		w.text("\t\t\t\t;;\n")
	} else {
		w.text("\t\t\t-?*) ;;\n")
	}
	w.text("\t\t\t*) operands=%s ;;\n", count)
	w.text(`			esac
		fi
	done

	# The value may stand in the same word as its option.
	if [[ -z $opt && -z $ended ]]; then
		case $value in
		--*=*)
			opt=${value%%=*}
			pre=$opt=
			;;
		--*) ;;
`)
	if valued != "" {
		w.text(`		-*[%[1]s]?*)
			rest=${value%%%%[%[1]s]*}
			opt=-${value:${#rest}:1}
			pre=$rest${opt#-}
			;;
`, valued)
	}
	w.text(`		esac
		value=${value#"$pre"}
	fi

	case $opt in
	'')
		if [[ -z $ended && $value == -* ]]; then
			mapfile -t COMPREPLY < <(compgen -W '%s' -- "$value")
			[[ ${#COMPREPLY[@]} != 1 || ${COMPREPLY[0]} != *= ]] || compopt -o nospace 2>/dev/null
`, c.bashWords())
	switch {
	case c.Operand.kind == none:
	default:
		w.text("\t\telif ((operands == 0)); then\n%s", "\t\t\t"+c.bashValue(c.Operand, "\t\t\t"))
	}
	w.text("\t\tfi\n\t\t;;\n")
	// Options with the same values, in the order of the first of them.
	var bodies []string
	patterns := map[string][]string{}
	for _, o := range c.Options {
		if o.Value.kind == none || o.Value.kind == text {
			continue
		}
		body := c.bashValue(o.Value, "\t\t")
		if patterns[body] == nil {
			bodies = append(bodies, body)
		}
		patterns[body] = append(patterns[body], o.names()...)
	}
	for _, body := range bodies {
		w.text("\t%s)\n\t\t%s\t\t;;\n", bashPatterns(patterns[body], "\t"), body)
	}
	w.text(`	esac

	for i in "${!COMPREPLY[@]}"; do
		word=$pre${COMPREPLY[i]}
		COMPREPLY[i]=${word#"$cut"}
	done
}
`)
	s := strings.Replace(w.b.String(), "\x00", long, 1)
	w.b.Reset()
	w.b.WriteString(s)
}

// bashPatterns returns the head of an item of case, in lines.
func bashPatterns(names []string, indent string) string {
	s, column := "", 0
	for i, name := range names {
		switch {
		case i == 0:
		case column+len(name) > 80:
			s, column = s+" | \\\n"+indent+"\t", 0
		default:
			s, column = s+" | ", column+3
		}
		s, column = s+name, column+len(name)
	}
	return s
}

// bashWords returns all options in lines.
func (c Command) bashWords() string {
	var all []string
	for _, o := range c.Options {
		all = append(all, o.names()...)
		if o.Value.optional {
			all = append(all, "--"+o.long()[0]+"=")
		}
	}
	lines, line := "", ""
	for _, word := range all {
		if len(line)+len(word) > 76 {
			lines, line = lines+"\n\t\t\t\t"+strings.TrimSpace(line), ""
		}
		line += word + " "
	}
	return lines + "\n\t\t\t\t" + strings.TrimSpace(line)
}

// bashValue returns the command that makes COMPREPLY for a value.
func (c Command) bashValue(v Value, indent string) string {
	prefix := "_" + c.function()
	switch v.kind {
	case words:
		var list []string
		for _, w := range v.words {
			list = append(list, w.Text)
		}
		return "mapfile -t COMPREPLY < <(compgen -W '" + strings.Join(list, " ") + "' -- \"$value\")\n"
	case file:
		return prefix + "_files \"$value\" file\n"
	case directory:
		return prefix + "_files \"$value\" directory\n"
	case context:
		return prefix + "_contexts \"$value\"\n"
	case process:
		return prefix + "_pids \"$value\"\n"
	case signal:
		return prefix + "_signals \"$value\"\n"
	case relocation:
		return "if [[ $value == *=* ]]; then\n" +
			indent + "\tpre+=${value%\"${value##*=}\"}\n" +
			indent + "\tvalue=${value##*=}\n" +
			indent + "fi\n" +
			indent + prefix + "_files \"$value\" directory\n" +
			indent + "compopt -o nospace 2>/dev/null\n"
	case command:
		return "mapfile -t COMPREPLY < <(compgen -A command -- \"$value\")\n"
	default:
		return ":\n"
	}
}

// bashProgram is for a command that runs another one.
func (w *writer) bashProgram() {
	all := strings.Fields(w.c.bashWords())
	w.text(`
_@name@() {
	local i line rest spec cur=${COMP_WORDS[COMP_CWORD]} at=1 ended=''
	COMPREPLY=()
	while ((at < COMP_CWORD)) && [[ -z $ended ]]; do
		case ${COMP_WORDS[at]} in
		--) ended=1 ;;
		%s) ;;
		*) break ;;
		esac
		at=$((at + 1))
	done
	if ((at == COMP_CWORD)); then
		if [[ -z $ended && $cur == -* ]]; then
			mapfile -t COMPREPLY < <(compgen -W '%s' -- "$cur")
		else
			mapfile -t COMPREPLY < <(compgen -A command -- "$cur")
			compopt -o filenames 2>/dev/null
		fi
		return
	fi

	# What follows the program is its own affair.
	if declare -F _comp_command_offset >/dev/null; then
		_comp_command_offset "$at"
		return
	elif declare -F _command_offset >/dev/null; then
		_command_offset "$at"
		return
	fi
	line=$COMP_LINE
	for ((i = 0; i < at; i++)); do
		rest=${line#"${line%%%%[![:space:]]*}"}
		line=${rest#"${COMP_WORDS[i]}"}
	done
	rest=${line#"${line%%%%[![:space:]]*}"}
	local -a words=("${COMP_WORDS[@]:at}")
	local point=$((COMP_POINT - (${#COMP_LINE} - ${#rest}))) cword=$((COMP_CWORD - at))
	local COMP_LINE=$rest COMP_POINT=$point COMP_CWORD=$cword
	local -a COMP_WORDS=("${words[@]}")
	spec=$(complete -p -- "${words[0]}" 2>/dev/null || complete -p -- "${words[0]##*/}" 2>/dev/null)
	if [[ $spec == *' -F '* ]]; then
		spec=${spec##* -F }
		"${spec%%%% *}" "${words[0]}" "$cur" "${words[cword - 1]}"
	else
		mapfile -t COMPREPLY < <(compgen -A file -- "$cur")
		compopt -o filenames 2>/dev/null
	fi
}
`, strings.Join(all, " | "), strings.Join(all, " "))
}
