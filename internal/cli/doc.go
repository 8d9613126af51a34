// Package cli is how the commands read and speak: numbers and signals on command
// lines as BLCR's tools take them, the two output streams with their levels, the
// progress line, the version, and the start of every command.
//
// The command line itself is read by package getopt below. This package knows
// no command, no option table, no engine.
package cli
