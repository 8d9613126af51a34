# fish completion for cr_restart(1)
# A test holds the options in here to those of the command.

function __cr_restart_operand -d 'Whether an operand may follow'
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
					contains -- $word --file --fd --dir --signal --run-on-success --run-on-failure --run-on-fail-args --run-on-fail-temp --run-on-fail-env --run-on-fail-perm --relocate --failure-status; and set value yes
					string match -qr -- '^(--file|--fd|--dir)(=|$)' $word; and set operands 1
				case -
					set operands (math $operands + 1)
				case '-*'
					string match -qr -- '^-[^fFdS]*[fFdS]$' $word; and set value yes
					string match -qr -- '^-[^fFdS]*[fFd]' $word; and set operands 1
				case '*'
					set operands (math $operands + 1)
			end
		end
	end
	test $operands -eq 0
end

function __cr_restart_files -d 'Files that begin with the value, or with $argv[1]'
	# The value alone, also where it stands in the word of its option.
	set -l word (commandline -ct | string replace -r -- '^(--[^=]*=|-[A-Za-z])' '')
	set -q argv[1]; and set word $argv[1]
	# What fish says of a command that nobody has: files.
	complete -C "'' $word"
end

function __cr_restart_directories
	__cr_restart_files | string match -r -- '^[^\t]*/(?:\t.*)?$'
end

function __cr_restart_contexts -d 'Files: if there are any, those named context.*'
	set -l files (__cr_restart_files)
	set -l contexts (string match -r -- '^(?:[^\t]*/)?context\.[^\t/]*(?:\t.*)?$' $files)
	if set -q contexts[1]
		set files $contexts
	end
	printf '%s\n' $files
end

function __cr_restart_relocation -d 'Two directories with = between them'
	set -l word (commandline -ct | string replace -r -- '^--[^=]*=' '')
	set -l old (string match -r -- '^.*=' $word; or echo)
	set -l new (string replace -r -- '^.*=' '' $word)
	printf '%s\n' $old(__cr_restart_files "$new" | string match -r -- '^[^\t]*/(?:\t.*)?$')
end

complete -c cr_restart -f
complete -c cr_restart -s v -l version -d 'print the version'
complete -c cr_restart -s q -l quiet -d 'say nothing on stderr'
complete -c cr_restart -s h -l help -d 'print a summary of the options'
complete -c cr_restart -s f -l file -x -a '(__cr_restart_contexts)' -d 'read a file'
complete -c cr_restart -s F -l fd -x -k -a '0\t"standard input"' -d 'read an open descriptor'
complete -c cr_restart -s d -l dir -x -a '(__cr_restart_directories)' -d 'read images of CRIU in a directory'
complete -c cr_restart -l trust -d 'as root, restart a context that another user owns or may write to'
complete -c cr_restart -s S -l signal -x -k -a '1\tSIGHUP 2\tSIGINT 3\tSIGQUIT 4\tSIGILL 5\tSIGTRAP 6\tSIGABRT 7\tSIGBUS 8\tSIGFPE 9\tSIGKILL 10\tSIGUSR1 11\tSIGSEGV 12\tSIGUSR2 13\tSIGPIPE 14\tSIGALRM 15\tSIGTERM 16\tSIGSTKFLT 17\tSIGCHLD 18\tSIGCONT 19\tSIGSTOP 20\tSIGTSTP 21\tSIGTTIN 22\tSIGTTOU 23\tSIGURG 24\tSIGXCPU 25\tSIGXFSZ 26\tSIGVTALRM 27\tSIGPROF 28\tSIGWINCH 29\tSIGIO 30\tSIGPWR 31\tSIGSYS 34\tSIGRTMIN 35\tSIGRTMIN+1 36\tSIGRTMIN+2 37\tSIGRTMIN+3 38\tSIGRTMIN+4 39\tSIGRTMIN+5 40\tSIGRTMIN+6 41\tSIGRTMIN+7 42\tSIGRTMIN+8 43\tSIGRTMIN+9 44\tSIGRTMIN+10 45\tSIGRTMIN+11 46\tSIGRTMIN+12 47\tSIGRTMIN+13 48\tSIGRTMIN+14 49\tSIGRTMIN+15 50\tSIGRTMIN+16 51\tSIGRTMIN+17 52\tSIGRTMIN+18 53\tSIGRTMIN+19 54\tSIGRTMIN+20 55\tSIGRTMIN+21 56\tSIGRTMIN+22 57\tSIGRTMIN+23 58\tSIGRTMIN+24 59\tSIGRTMIN+25 60\tSIGRTMIN+26 61\tSIGRTMIN+27 62\tSIGRTMIN+28 63\tSIGRTMIN+29 64\tSIGRTMAX' -d 'send a signal afterwards'
complete -c cr_restart -l run -d 'send no signal afterwards (default)'
complete -c cr_restart -l stop -l freeze -d 'send SIGSTOP afterwards'
complete -c cr_restart -l term -d 'send SIGTERM afterwards'
complete -c cr_restart -l abort -d 'send SIGABRT afterwards'
complete -c cr_restart -l kill -d 'send SIGKILL afterwards'
complete -c cr_restart -l cont -d 'send SIGCONT afterwards'
complete -c cr_restart -l early-stop -d 'send SIGSTOP before callbacks'
complete -c cr_restart -l early-abrt -d 'send SIGABRT before callbacks'
complete -c cr_restart -l omit-maybe -d 'be in later checkpoints of others (default)'
complete -c cr_restart -l omit-always -d 'be in no later checkpoint'
complete -c cr_restart -l omit-never -d 'be in all later checkpoints'
complete -c cr_restart -l run-on-success -x -a '(__fish_complete_command)' -d 'run a command as soon as the job runs'
complete -c cr_restart -l run-on-failure -x -a '(__fish_complete_command)' -d 'run a command on every failure'
complete -c cr_restart -l run-on-fail-args -x -a '(__fish_complete_command)' -d 'run a command on bad arguments'
complete -c cr_restart -l run-on-fail-temp -x -a '(__fish_complete_command)' -d 'run a command if it may work later'
complete -c cr_restart -l run-on-fail-env -x -a '(__fish_complete_command)' -d 'run a command if files are not as needed'
complete -c cr_restart -l run-on-fail-perm -x -a '(__fish_complete_command)' -d 'run a command on all other failures'
complete -c cr_restart -l failure-status -x -d 'end with a status if the restart fails'
complete -c cr_restart -l relocate -x -a '(__cr_restart_relocation)' -d 'move files below OLD to NEW'
complete -c cr_restart -l restore-pid -d 'restore process IDs (default)'
complete -c cr_restart -l no-restore-pid -d 'make new process IDs'
complete -c cr_restart -l restore-pgid -d 'restore process groups'
complete -c cr_restart -l no-restore-pgid -d 'join the process group of cr_restart (default)'
complete -c cr_restart -l restore-sid -d 'restore sessions'
complete -c cr_restart -l no-restore-sid -d 'join the session of cr_restart (default)'
complete -c cr_restart -l cpu-any -d 'also on a processor that lacks something'
complete -c cr_restart -l limits-any -d 'also with lower limits of resources'
complete -c cr_restart -l keep-stdio -d 'standard descriptors of cr_restart even for files'
complete -c cr_restart -l lazy -d 'run the job before all of its memory is in place'
complete -c cr_restart -l kmsg-none -d 'never show messages of the kernel'
complete -c cr_restart -l kmsg-error -d 'show messages of the kernel on failure (default)'
complete -c cr_restart -l kmsg-warning -d 'always show messages of the kernel'
complete -c cr_restart -n __cr_restart_operand -a '(__cr_restart_contexts)'
