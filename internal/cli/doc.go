// Package cli is what the commands share in reading command lines and printing: the
// options that several commands have, numbers as BLCR's tools parse them, the two
// output streams with their verbosity levels, the progress line, the version, and the
// start of every command.
//
// Package getopt below it finds the options on a command line. Options and messages of
// a single command do not belong here, nor does anything about engines.
package cli
