#!/bin/sh
# A shell script, see selfcheck.h for how it is run: variables, functions, a
# trap, a background job, a here-document, command substitution, a file on
# descriptor 7.

dir=$1
count=0
traps=0
last=words

wrong() {
	echo "$*" >>"$dir/wrong"
	kill $job 2>/dev/null
	exit 1
}

trap 'traps=$((traps + 1))' USR1
exec 7>>"$dir/log"

# Counts on its own until it is told to stop.
(
	trap 'echo "$n" >"$dir/job"; exit 9' TERM
	n=0
	while :; do
		n=$((n + 1))
		echo "$n" >"$dir/job.new" && mv "$dir/job.new" "$dir/job"
		sleep 0.02
	done
) &
job=$!

echo "$$ 3" >"$dir/ready.new" && mv "$dir/ready.new" "$dir/ready"

while [ ! -e "$dir/finish" ]; do
	sleep 0.02
	count=$((count + 1))
	kill -USR1 $$
	[ $traps -eq $count ] || wrong "$traps traps, want $count"
	[ "$(expr $count + 1)" -eq $((count + 1)) ] || wrong "command substitution"
	[ "$last" = words ] || wrong "variable: $last"
	echo "line $count" >&7
	tail -n 1 "$dir/log" | grep -qx "line $count" || wrong "log: $(tail -n 1 "$dir/log"), want line $count"
	[ "$(wc -l <"$dir/log")" -eq $count ] || wrong "lines: $(wc -l <"$dir/log"), want $count"
	kill -0 $job || wrong "the background job is gone"
	read -r from <<-END
		document $count
	END
	[ "$from" = "document $count" ] || wrong "here-document: $from"
	if [ -e "$dir/damage" ]; then
		case $(cat "$dir/damage") in
		1*) last=changed ;;
		2*) exec 7>/dev/null ;;
		3*) kill -KILL $job; wait $job ;;
		esac
		rm "$dir/damage"
	fi
	printf '%020d\n' $count >"$dir/beat.new" && mv "$dir/beat.new" "$dir/beat"
done

kill -TERM $job
wait $job
[ $? -eq 9 ] || wrong "background job's status"
exit 42
