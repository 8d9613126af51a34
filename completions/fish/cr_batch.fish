# fish completion for cr_batch(1)
# A test holds the options in here to those of the command.

function __cr_batch_no_command -d 'Whether there is no command yet'
	set -l value
	set -l words (commandline -opc)
	set -e words[1]
	for word in $words
		if set -q value[1]
			set -e value
			continue
		end
		switch $word
			case --
				return 1
			case '--*'
				contains -- $word --checkpoint-option --dir --interval --keep --log --max-restarts --requeue-command --restart-option --signal --stage; and set value yes
			case '-*'
				string match -qr -- '^-[^diksl]*[diksl]$' $word; and set value yes
			case '*'
				return 1
		end
	end
end

complete -c cr_batch -f
complete -c cr_batch -n __cr_batch_no_command -s d -l dir -x -a '(__fish_complete_directories)' -d 'directory for the checkpoints'
complete -c cr_batch -n __cr_batch_no_command -s i -l interval -x -d 'time between checkpoints'
complete -c cr_batch -n __cr_batch_no_command -s k -l keep -x -d 'keep some checkpoints'
complete -c cr_batch -n __cr_batch_no_command -s s -l signal -x -d 'save and end the job at these signals'
complete -c cr_batch -n __cr_batch_no_command -s r -l requeue -d 'have the batch system start it again'
complete -c cr_batch -n __cr_batch_no_command -l requeue-command -x -d 'the same, by a command for the shell'
complete -c cr_batch -n __cr_batch_no_command -l max-restarts -x -d 'give up after some restarts'
complete -c cr_batch -n __cr_batch_no_command -l stage -x -a '(__fish_complete_directories)' -d 'keep the files of a directory with each checkpoint'
complete -c cr_batch -n __cr_batch_no_command -l checkpoint-option -x -d 'pass an option on to cr_checkpoint'
complete -c cr_batch -n __cr_batch_no_command -l restart-option -x -d 'pass an option on to cr_restart'
complete -c cr_batch -n __cr_batch_no_command -s l -l log -r -F -d 'write to a file what is done'
complete -c cr_batch -n __cr_batch_no_command -s q -l quiet -d 'do not write what is done'
complete -c cr_batch -n __cr_batch_no_command -s h -l help -d 'print a summary of the options'
complete -c cr_batch -n __cr_batch_no_command -l version -d 'print the version'
complete -c cr_batch -x -a '(__fish_complete_subcommand)'
