# fish completion for cr_checkpoint(1)
# A test holds the options in here to those of the command.

function __cr_checkpoint_operand -d 'Whether an operand may follow'
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
					contains -- $word --dir --file --fd --keep --signal --time; and set value yes
				case -
					set operands (math $operands + 1)
				case '-*'
					string match -qr -- '^-[^dfFSt]*[dfFSt]$' $word; and set value yes
				case '*'
					set operands (math $operands + 1)
			end
		end
	end
	test $operands -eq 0
end

function __cr_checkpoint_pids -d 'Processes with their names, one\'s own first'
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

function __cr_checkpoint_files -d 'Files that begin with the value, or with $argv[1]'
	# The value alone, also where it stands in the word of its option.
	set -l word (commandline -ct | string replace -r -- '^(--[^=]*=|-[A-Za-z])' '')
	set -q argv[1]; and set word $argv[1]
	# What fish says of a command that nobody has: files.
	complete -C "'' $word"
end

function __cr_checkpoint_directories
	__cr_checkpoint_files | string match -r -- '^[^\t]*/(?:\t.*)?$'
end

complete -c cr_checkpoint -f
complete -c cr_checkpoint -s v -l verbose -d 'say what is being done'
complete -c cr_checkpoint -s q -l quiet -d 'say nothing on stderr'
complete -c cr_checkpoint -s h -l help -d 'print a summary of the options'
complete -c cr_checkpoint -l version -d 'print the version'
complete -c cr_checkpoint -s T -l tree -d 'save a process and its descendants (default)'
complete -c cr_checkpoint -s p -l pid -l process -d 'save one process'
complete -c cr_checkpoint -s g -l pgid -l group -d 'save a process group'
complete -c cr_checkpoint -s s -l sid -l session -d 'save a session'
complete -c cr_checkpoint -s c -l cwd -d 'write context.ID here (default)'
complete -c cr_checkpoint -s d -l dir -x -a '(__cr_checkpoint_directories)' -d 'write images of CRIU into a directory'
complete -c cr_checkpoint -s f -l file -r -F -d 'write into a file'
complete -c cr_checkpoint -s F -l fd -x -k -a '1\t"standard output"' -d 'write to an open descriptor'
complete -c cr_checkpoint -l atomic -d 'replace a file when the new one is whole (default)'
complete -c cr_checkpoint -l backup -F -d 'as --atomic, and keep the old file'
complete -c cr_checkpoint -l keep -x -d 'as --backup, and keep that many contexts'
complete -c cr_checkpoint -l clobber -d 'overwrite a file in place'
complete -c cr_checkpoint -l noclobber -d 'fail if the file exists'
complete -c cr_checkpoint -s S -l signal -x -k -a '1\tSIGHUP 2\tSIGINT 3\tSIGQUIT 4\tSIGILL 5\tSIGTRAP 6\tSIGABRT 7\tSIGBUS 8\tSIGFPE 9\tSIGKILL 10\tSIGUSR1 11\tSIGSEGV 12\tSIGUSR2 13\tSIGPIPE 14\tSIGALRM 15\tSIGTERM 16\tSIGSTKFLT 17\tSIGCHLD 18\tSIGCONT 19\tSIGSTOP 20\tSIGTSTP 21\tSIGTTIN 22\tSIGTTOU 23\tSIGURG 24\tSIGXCPU 25\tSIGXFSZ 26\tSIGVTALRM 27\tSIGPROF 28\tSIGWINCH 29\tSIGIO 30\tSIGPWR 31\tSIGSYS 34\tSIGRTMIN 35\tSIGRTMIN+1 36\tSIGRTMIN+2 37\tSIGRTMIN+3 38\tSIGRTMIN+4 39\tSIGRTMIN+5 40\tSIGRTMIN+6 41\tSIGRTMIN+7 42\tSIGRTMIN+8 43\tSIGRTMIN+9 44\tSIGRTMIN+10 45\tSIGRTMIN+11 46\tSIGRTMIN+12 47\tSIGRTMIN+13 48\tSIGRTMIN+14 49\tSIGRTMIN+15 50\tSIGRTMIN+16 51\tSIGRTMIN+17 52\tSIGRTMIN+18 53\tSIGRTMIN+19 54\tSIGRTMIN+20 55\tSIGRTMIN+21 56\tSIGRTMIN+22 57\tSIGRTMIN+23 58\tSIGRTMIN+24 59\tSIGRTMIN+25 60\tSIGRTMIN+26 61\tSIGRTMIN+27 62\tSIGRTMIN+28 63\tSIGRTMIN+29 64\tSIGRTMAX' -d 'send a signal afterwards'
complete -c cr_checkpoint -l run -d 'send no signal afterwards (default)'
complete -c cr_checkpoint -l stop -d 'send SIGSTOP afterwards'
complete -c cr_checkpoint -l term -d 'send SIGTERM afterwards'
complete -c cr_checkpoint -l abort -d 'send SIGABRT afterwards'
complete -c cr_checkpoint -l kill -d 'send SIGKILL afterwards'
complete -c cr_checkpoint -l cont -d 'send SIGCONT afterwards'
complete -c cr_checkpoint -l early-stop -d 'send SIGSTOP before callbacks'
complete -c cr_checkpoint -l early-abrt -d 'send SIGABRT before callbacks'
complete -c cr_checkpoint -l sync -d 'wait for the disk (default)'
complete -c cr_checkpoint -l nosync -d 'do not wait for the disk'
complete -c cr_checkpoint -l save-exe -d 'save the executables, too'
complete -c cr_checkpoint -l save-private -d 'save privately mapped files, too'
complete -c cr_checkpoint -l save-shared -d 'save files mapped as shared memory, too'
complete -c cr_checkpoint -l save-all -d 'save all mapped files, too'
complete -c cr_checkpoint -l save-none -d 'save no mapped files (default)'
complete -c cr_checkpoint -l ptraced-error -d 'fail if a process is traced (default)'
complete -c cr_checkpoint -l ptraced-skip -d 'leave traced processes out'
complete -c cr_checkpoint -l ptraced-allow -d 'save traced processes'
complete -c cr_checkpoint -l ptracer-error -d 'fail if a process traces others (default)'
complete -c cr_checkpoint -l ptracer-skip -d 'leave processes out that trace others'
complete -c cr_checkpoint -l kmsg-none -d 'never show messages of the kernel'
complete -c cr_checkpoint -l kmsg-error -d 'show messages of the kernel on failure (default)'
complete -c cr_checkpoint -l kmsg-warning -d 'always show messages of the kernel'
complete -c cr_checkpoint -s t -l time -x -d 'give up after some seconds'
complete -c cr_checkpoint -l check -d 'save nothing, say whether it could be saved'
complete -c cr_checkpoint -l compress -k -a 'zstd\t"Zstandard, which --compress alone means" none\t"not at all"' -d 'compress the context'
complete -c cr_checkpoint -n __cr_checkpoint_operand -k -a '(__cr_checkpoint_pids)'
