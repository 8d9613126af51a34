# fish completion for cr_info(1)
# Made from the option table by "make completions"; not to be edited.

function __cr_info_operand -d 'Whether an operand may follow'
	set -l operands 0
	set -l value
	set -l ended
	set -l words (commandline -opc)
	set -e words[1]
	for word in $words
		if set -q value[1]
			set -e value
		else if set -q ended[1]
			continue
		else
			switch $word
				case --
					set ended yes
				case '--*'
				case '-?*'
			end
		end
	end
	test $operands -eq 0
end

function __cr_info_files -d 'Files that begin with the value, or with $argv[1]'
	# The value alone, also where it stands in the word of its option.
	set -l word (commandline -ct | string replace -r -- '^(--[^=]*=|-[A-Za-z])' '')
	set -q argv[1]; and set word $argv[1]
	# What fish says of a command that nobody has: files.
	complete -C "'' $word"
end

function __cr_info_contexts -d 'Files: if there are any, those named context.*'
	set -l files (__cr_info_files)
	set -l contexts (string match -r -- '^(?:[^\t]*/)?context\.[^\t/]*(?:\t.*)?$' $files)
	if set -q contexts[1]
		set files $contexts
	end
	printf '%s\n' $files
end

complete -c cr_info -f
complete -c cr_info -l json -d 'print JSON, a line for each FILE'
complete -c cr_info -s q -l quiet -d 'say nothing on stderr'
complete -c cr_info -s h -l help -d 'print a summary of the options'
complete -c cr_info -l version -d 'print the version'
complete -c cr_info -n __cr_info_operand -a '(__cr_info_contexts)'
