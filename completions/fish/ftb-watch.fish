# fish completion for ftb-watch(1)
# A test holds the options in here to those of the command.

function __ftb_watch_operand -d 'Whether an operand may follow'
	set -l operands 0
	set -l value
	set -l ended
	set -l words (commandline -opc)
	set -e words[1]
	for word in $words
		if set -q value[1]
			set -e value
		else if set -q ended[1]
			set operands (math $operands + 1)
		else
			switch $word
				case --
					set ended yes
				case '--*'
					contains -- $word --count --timeout; and set value yes
				case -
					set operands (math $operands + 1)
				case '-*'
					string match -qr -- '^-[^nt]*[nt]$' $word; and set value yes
				case '*'
					set operands (math $operands + 1)
			end
		end
	end
	test $operands -eq 0
end

complete -c ftb-watch -f
complete -c ftb-watch -l json -d 'print JSON'
complete -c ftb-watch -l pair -d 'print a line for each END or ERROR with its BEGIN'
complete -c ftb-watch -s n -l count -x -d 'end after some lines'
complete -c ftb-watch -s t -l timeout -x -d 'end after some seconds'
complete -c ftb-watch -s v -l verbose -d 'print which agent was found'
complete -c ftb-watch -s q -l quiet -d 'print nothing on stderr'
complete -c ftb-watch -s h -l help -d 'print a summary of the options'
complete -c ftb-watch -l version -d 'print the version'
complete -c ftb-watch -n __ftb_watch_operand -k -a 'event_space=FTB.checkpoint_sw.blcr event_name= severity= host_name= jobid= client_name='
