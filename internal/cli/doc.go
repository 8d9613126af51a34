// Package cli is how the commands read and speak: command lines with the options
// that several commands have, numbers as BLCR's tools take them, the two output
// streams with their levels, the progress line, the version, and the start of
// every command.
//
// Package getopt below finds the options on a command line. What does not belong
// here is an option that only one command has, a message of one, or an engine.
package cli
