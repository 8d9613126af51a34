package main

// usage is the text of --help. A test compares it with the option table.
const usage = `Usage: cr_info [options] FILE...

Tell what is in a context, without restoring it: in the file or the directory
FILE, or in standard input if that is '-'. The contexts in a directory of them
are listed, the newest first.

  -q, --quiet               say nothing on stderr
  -?, -h, --help            print this text and exit
      --version             print the version and exit
      --json                print one JSON object for each FILE, one a line
      --verify              read all of each FILE and compare its checksums
      --check               tell whether each FILE could be restarted now
      --diff                tell what differs between two FILEs

The exit status is 0 if all are complete contexts, 255 for bad arguments, and 1
if a FILE cannot be read, is no context, is damaged or incomplete, could not be
restarted (--check), or if the output could not be written. With --diff it is 0
if there is no difference, 1 if there is one, and 2 if there is trouble.
`
