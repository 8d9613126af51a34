package completion

import "strings"

// Fish returns the file for fish.
func (c Command) Fish() string {
	w := &writer{c: c}
	w.text("%s", c.head("# fish completion for %s(1)\n"))
	w.fishHelpers()
	w.text("\ncomplete -c @command@ -f\n")
	condition := ""
	if c.Operand.kind == program {
		condition = " -n __@name@_no_program"
	}
	for _, o := range c.Options {
		if len(o.names()) == 0 {
			continue
		}
		names := ""
		for _, s := range o.short() {
			names += " -s " + s
		}
		for _, l := range o.long() {
			names += " -l " + l
		}
		value := ""
		switch {
		case o.Value.kind == none:
		case o.Value.optional && o.Value.kind == file:
			value = " -F"
		case o.Value.optional:
			value = c.fishValue(o.Value)
		case o.Value.kind == file:
			value = " -r -F"
		default:
			value = " -x" + c.fishValue(o.Value)
		}
		w.text("complete -c @command@"+condition+"%s%s -d '%s'\n", names, value, o.Help)
	}
	switch {
	case c.Operand.kind == none:
	case c.Operand.kind == program:
		w.text("complete -c @command@ -x -a '(__fish_complete_subcommand)'\n")
	default:
		w.text("complete -c @command@ -n __@name@_operand%s\n", c.fishValue(c.Operand))
	}
	return w.b.String()
}

// fishValue returns the flags that have proposals for a value.
func (c Command) fishValue(v Value) string {
	prefix := "__" + c.function()
	switch v.kind {
	case words:
		var list []string
		for _, w := range v.words {
			item := w.Text
			if w.Help != "" {
				item += `\t"` + w.Help + `"`
			}
			list = append(list, item)
		}
		return " -k -a '" + strings.Join(list, " ") + "'"
	case file:
		return " -F"
	case directory:
		return " -a '(" + prefix + "_directories)'"
	case context:
		return " -a '(" + prefix + "_contexts)'"
	case process:
		return " -k -a '(" + prefix + "_pids)'"
	case signal:
		var list []string
		for _, s := range signals {
			list = append(list, s.Text+`\tSIG`+s.Help)
		}
		return " -k -a '" + strings.Join(list, " ") + "'"
	case relocation:
		return " -a '(" + prefix + "_relocation)'"
	case command:
		return " -a '(__fish_complete_command)'"
	default:
		return ""
	}
}

func (w *writer) fishHelpers() {
	c := w.c
	if c.Operand.kind == program {
		w.text(`
function __@name@_no_program -d 'Whether there is no program yet'
	set -l words (commandline -opc)
	set -e words[1]
	for word in $words
		contains -- $word %s; or return 1
	end
end
`, strings.Join(strings.Fields(c.bashWords()), " "))
		return
	}
	if c.Operand.kind != none {
		w.fishOperand()
	}
	if c.uses(process) {
		w.text(`
function __@name@_pids -d 'Processes with their names, one\'s own first'
	set -l own
	set -l others
	# Neither threads of the kernel nor zombies have a command line. Of those
	# that are gone when they are looked at only grep would say nothing.
	set -l lines (command grep -lsz . /proc/*/cmdline)
	for line in (command grep -sH . /dev/null (string replace cmdline comm $lines))
		set -l parts (string match -r -- '^/proc/([0-9]+)/comm:(.*)' $line); or continue
		if test -O /proc/$parts[2]
			set -a own $parts[2]\t$parts[3]
		else
			set -a others $parts[2]\t$parts[3]
		end
	end
	printf '%s\n' $own $others
end
`)
	}
	if c.uses(directory, context, relocation) {
		w.text(`
function __@name@_files -d 'Files that begin with the value, or with $argv[1]'
	# The value alone, also where it stands in the word of its option.
	set -l word (commandline -ct | string replace -r -- '^(--[^=]*=|-[A-Za-z])' '')
	set -q argv[1]; and set word $argv[1]
	# What fish says of a command that nobody has: files.
	complete -C "'' $word"
end
`)
	}
	if c.uses(directory) {
		w.text(`
function __@name@_directories
	__@name@_files | string match -r -- '^[^\t]*/(?:\t.*)?$'
end
`)
	}
	if c.uses(context) {
		w.text(`
function __@name@_contexts -d 'Files: if there are any, those named context.*'
	set -l files (__@name@_files)
	set -l contexts (string match -r -- '^(?:[^\t]*/)?context\.[^\t/]*(?:\t.*)?$' $files)
	if set -q contexts[1]
		set files $contexts
	end
	printf '%s\n' $files
end
`)
	}
	if c.uses(relocation) {
		w.text(`
function __@name@_relocation -d 'Two directories with = between them'
	set -l word (commandline -ct | string replace -r -- '^--[^=]*=' '')
	set -l old (string match -r -- '^.*=' $word; or echo)
	set -l new (string replace -r -- '^.*=' '' $word)
	printf '%s\n' $old(__@name@_files "$new" | string match -r -- '^[^\t]*/(?:\t.*)?$')
end
`)
	}
}

// fishOperand writes the function that tells whether there may be an operand
// where the cursor is.
func (w *writer) fishOperand() {
	c := w.c
	instead := func(o Option) bool { return o.NoOperand }
	var (
		next   = c.longs(func(o Option) bool { return o.takesNext() }, "")
		valued = c.letters(func(o Option) bool { return o.takesNext() })
	)
	count := "set operands (math $operands + 1)"
	if c.Many {
		count = "continue"
	}
	w.text(`
function __@name@_operand -d 'Whether an operand may follow'
	set -l operands 0
	set -l value
	set -l ended
	set -l words (commandline -opc)
	set -e words[1]
	for word in $words
		if set -q value[1]
			set -e value
		else if set -q ended[1]
			%s
		else
			switch $word
				case --
					set ended yes
				case '--*'
`, count)
	if len(next) > 0 {
		w.text("\t\t\t\t\tcontains -- $word %s; and set value yes\n", strings.Join(next, " "))
	}
	if long := c.longs(instead, ""); len(long) > 0 {
		w.text("\t\t\t\t\tstring match -qr -- '^(%s)(=|$)' $word; and set operands 1\n", strings.Join(long, "|"))
	}
	w.text("\t\t\t\tcase '-?*'\n")
	if valued != "" {
		w.text("\t\t\t\t\tstring match -qr -- '^-[^%[1]s]*[%[1]s]$' $word; and set value yes\n", valued)
	}
	if letters := c.letters(instead); letters != "" {
		w.text("\t\t\t\t\tstring match -qr -- '^-[^%s]*[%s]' $word; and set operands 1\n", valued, letters)
	}
	if !c.Many {
		w.text("\t\t\t\tcase '*'\n\t\t\t\t\tset operands (math $operands + 1)\n")
	}
	w.text(`			end
		end
	end
	test $operands -eq 0
end
`)
}
