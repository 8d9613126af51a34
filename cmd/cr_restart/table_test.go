package main

import (
	"testing"

	"blcr-cli/internal/completion"
	"blcr-cli/test/getopttest"
)

// command is what BLCR's cr_restart accepts and what is Ours, written out once
// more and not derived from the table, so that an option lost or added is noticed.
// The completions are made from this list: "make completions".
var command = getopttest.Command{
	Command: completion.Command{
		Name:    "cr_restart",
		Operand: completion.Context,
		Options: []completion.Option{
			{Names: "-v --version", Help: "print the version"},
			{Names: "-q --quiet", Help: "say nothing on stderr"},
			{Names: "-h --help", Help: "print a summary of the options"},

			{Names: "-f --file", Group: "source", NoOperand: true, Value: completion.Context, Help: "read a file"},
			{Names: "-F --fd", Group: "source", NoOperand: true, Value: descriptor, Help: "read an open descriptor"},
			{Names: "-d --dir", Group: "source", NoOperand: true, Value: completion.Directory, Help: "read images of CRIU in a directory"},

			{Names: "-S --signal", Value: completion.Signal, Help: "send a signal afterwards"},
			{Names: "--run", Help: "send no signal afterwards (default)"},
			{Names: "--stop --freeze", Help: "send SIGSTOP afterwards"},
			{Names: "--term", Help: "send SIGTERM afterwards"},
			{Names: "--abort", Help: "send SIGABRT afterwards"},
			{Names: "--kill", Help: "send SIGKILL afterwards"},
			{Names: "--cont", Help: "send SIGCONT afterwards"},
			{Names: "--early-stop", Help: "send SIGSTOP before callbacks"},
			{Names: "--early-abrt", Help: "send SIGABRT before callbacks"},

			{Names: "--omit-maybe", Help: "be in later checkpoints of others (default)"},
			{Names: "--omit-always", Help: "be in no later checkpoint"},
			{Names: "--omit-never", Help: "be in all later checkpoints"},

			{Names: "--run-on-success", Value: completion.Shell, Help: "run a command as soon as the job runs"},
			{Names: "--run-on-failure", Value: completion.Shell, Help: "run a command on every failure"},
			{Names: "--run-on-fail-args", Value: completion.Shell, Help: "run a command on bad arguments"},
			{Names: "--run-on-fail-temp", Value: completion.Shell, Help: "run a command if it may work later"},
			{Names: "--run-on-fail-env", Value: completion.Shell, Help: "run a command if files are not as needed"},
			{Names: "--run-on-fail-perm", Value: completion.Shell, Help: "run a command on all other failures"},

			{Names: "--relocate", Repeats: true, Value: completion.Relocation, Help: "move files below OLD to NEW"},

			{Names: "--restore-pid", Help: "restore process IDs (default)"},
			{Names: "--no-restore-pid", Help: "make new process IDs"},
			{Names: "--restore-pgid", Help: "restore process groups"},
			{Names: "--no-restore-pgid", Help: "join the process group of cr_restart (default)"},
			{Names: "--restore-sid", Help: "restore sessions"},
			{Names: "--no-restore-sid", Help: "join the session of cr_restart (default)"},

			{Names: "--kmsg-none", Help: "never show messages of the kernel"},
			{Names: "--kmsg-error", Help: "show messages of the kernel on failure (default)"},
			{Names: "--kmsg-warning", Help: "always show messages of the kernel"},
		},
	},
	Table: options,
	Usage: usage,
	First: "Usage: cr_restart [options] [checkpoint_file]",
	// BLCR's usage text keeps them to itself, and so does ours.
	Unlisted: []string{"--early-stop", "--early-abrt"},
	Foreign:  []string{"/bin/sh -c"},
}

var descriptor = completion.Words("file descriptor", completion.Word{Text: "0", Help: "standard input"})

func TestDocuments(t *testing.T) { getopttest.Documents(t, command) }

func TestAgainstGlibc(t *testing.T) {
	getopttest.AgainstGlibc(t, options, getopttest.Lines(t), 2)
}

func TestExactUnseen(t *testing.T) {
	getopttest.ExactUnseen(t, options, getopttest.Lines(t), 2)
}
