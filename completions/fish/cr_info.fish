# fish completion for cr_info(1)
# A test holds the options in here to those of the command.

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
complete -c cr_info -l verify -d 'read all and compare checksums'
complete -c cr_info -l check -d 'tell whether it could be restarted here'
complete -c cr_info -l diff -d 'tell what differs between two FILEs'
complete -c cr_info -s q -l quiet -d 'say nothing on stderr'
complete -c cr_info -s h -l help -d 'print a summary of the options'
complete -c cr_info -l version -d 'print the version'
complete -c cr_info -a '(__cr_info_contexts)'
