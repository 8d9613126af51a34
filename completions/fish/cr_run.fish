# fish completion for cr_run(1)
# A test holds the options in here to those of the command.

function __cr_run_no_program -d 'Whether there is no program yet'
	set -l words (commandline -opc)
	set -e words[1]
	for word in $words
		contains -- $word --help --version --run --omit; or return 1
	end
end

complete -c cr_run -f
complete -c cr_run -n __cr_run_no_program -l help -d 'print a summary of the options'
complete -c cr_run -n __cr_run_no_program -l version -d 'print the version'
complete -c cr_run -n __cr_run_no_program -l run -d 'let checkpoints save the program (default)'
complete -c cr_run -n __cr_run_no_program -l omit -d 'let checkpoints leave the program out'
complete -c cr_run -x -a '(__fish_complete_subcommand)'
