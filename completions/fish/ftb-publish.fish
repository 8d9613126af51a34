# fish completion for ftb-publish(1)
# A test holds the options in here to those of the command.

function __ftb_publish_operand -d 'Whether an operand may follow'
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
					contains -- $word --space --severity --client-name --jobid --payload --payload-hex --payload-file --reply-to --errno --timeout; and set value yes
				case -
					set operands (math $operands + 1)
				case '-*'
				case '*'
					set operands (math $operands + 1)
			end
		end
	end
	test $operands -eq 0
end

complete -c ftb-publish -f
complete -c ftb-publish -s v -l verbose -d 'say what is being done'
complete -c ftb-publish -s q -l quiet -d 'say nothing on stderr'
complete -c ftb-publish -s h -l help -d 'print a summary of the options'
complete -c ftb-publish -l version -d 'print the version'
complete -c ftb-publish -l space -x -k -a 'FTB.checkpoint_sw.blcr\t"that of BLCR (default)"' -d 'event space'
complete -c ftb-publish -l severity -x -k -a 'fatal error warning info' -d 'how bad it is'
complete -c ftb-publish -l client-name -x -d 'name of the client'
complete -c ftb-publish -l jobid -x -d 'the job'
complete -c ftb-publish -l payload -x -d 'send a text along'
complete -c ftb-publish -l payload-hex -x -d 'send bytes along'
complete -c ftb-publish -l payload-file -r -F -d 'send the content of a file along'
complete -c ftb-publish -l reply-to -x -d 'publish a response to an event'
complete -c ftb-publish -l errno -x -d 'send an error number along'
complete -c ftb-publish -l timeout -x -d 'give up after some seconds'
complete -c ftb-publish -l print-handle -d 'print the handle of the event'
complete -c ftb-publish -l json -d 'print what has become of the event'
complete -c ftb-publish -l check -d 'connect to an agent and publish nothing'
complete -c ftb-publish -n __ftb_publish_operand -k -a 'CHKPT_BEGIN\t"a checkpoint begins" CHKPT_END\t"a checkpoint is complete" CHKPT_ERROR\t"a checkpoint has failed" RSTRT_BEGIN\t"a restart begins" RSTRT_END\t"a restart is complete" RSTRT_ERROR\t"a restart has failed"'
