package main

import (
	"testing"

	"blcr-cli/internal/completion"
	"blcr-cli/test/getopttest"
)

// command is what BLCR's cr_checkpoint accepts and what is Ours, written out once
// more and not derived from the table, so that an option lost or added is noticed.
// The completions are made from this list: "make completions".
var command = getopttest.Command{
	Command: completion.Command{
		Name:    "cr_checkpoint",
		Operand: completion.Process,
		Options: []completion.Option{
			{Names: "-v --verbose", Help: "say what is being done", Repeats: true},
			{Names: "-q --quiet", Help: "say nothing on stderr"},
			{Names: "-h --help", Help: "print a summary of the options"},
			{Names: "--version", Help: "print the version"},

			{Names: "-T --tree", Help: "save a process and its descendants (default)"},
			{Names: "-p --pid --process", Help: "save one process"},
			{Names: "-g --pgid --group", Help: "save a process group"},
			{Names: "-s --sid --session", Help: "save a session"},

			{Names: "-c --cwd", Group: "destination", Help: "write context.ID here (default)"},
			{Names: "-d --dir", Group: "destination", Value: completion.Directory, Help: "write images of CRIU into a directory"},
			{Names: "-f --file", Group: "destination", Value: completion.File, Help: "write into a file"},
			{Names: "-F --fd", Group: "destination", Value: descriptor, Help: "write to an open descriptor"},

			{Names: "--atomic", Help: "replace a file when the new one is whole (default)"},
			{Names: "--backup", Value: completion.File.OrNone(), Help: "as --atomic, and keep the old file"},
			{Names: "--clobber", Help: "overwrite a file in place"},
			{Names: "--noclobber", Help: "fail if the file exists"},

			{Names: "-S --signal", Value: completion.Signal, Help: "send a signal afterwards"},
			{Names: "--run", Help: "send no signal afterwards (default)"},
			{Names: "--stop", Help: "send SIGSTOP afterwards"},
			{Names: "--term", Help: "send SIGTERM afterwards"},
			{Names: "--abort", Help: "send SIGABRT afterwards"},
			{Names: "--kill", Help: "send SIGKILL afterwards"},
			{Names: "--cont", Help: "send SIGCONT afterwards"},
			{Names: "--early-stop", Help: "send SIGSTOP before callbacks"},
			{Names: "--early-abrt", Help: "send SIGABRT before callbacks"},

			{Names: "--sync", Help: "wait for the disk (default)"},
			{Names: "--nosync", Help: "do not wait for the disk"},

			{Names: "--save-exe", Help: "save the executables, too"},
			{Names: "--save-private", Help: "save privately mapped files, too"},
			{Names: "--save-shared", Help: "save files mapped as shared memory, too"},
			{Names: "--save-all", Help: "save all mapped files, too"},
			{Names: "--save-none", Help: "save no mapped files (default)"},

			{Names: "--ptraced-error", Help: "fail if a process is traced (default)"},
			{Names: "--ptraced-skip", Help: "leave traced processes out"},
			{Names: "--ptraced-allow", Help: "save traced processes"},
			{Names: "--ptracer-error", Help: "fail if a process traces others (default)"},
			{Names: "--ptracer-skip", Help: "leave processes out that trace others"},

			{Names: "--kmsg-none", Help: "never show messages of the kernel"},
			{Names: "--kmsg-error", Help: "show messages of the kernel on failure (default)"},
			{Names: "--kmsg-warning", Help: "always show messages of the kernel"},

			{Names: "-t --time", Value: completion.Text("seconds"), Help: "give up after some seconds"},

			{Names: "--compress", Ours: true, Help: "compress the context", Value: completion.Words("method",
				completion.Word{Text: "zstd", Help: "Zstandard"},
				completion.Word{Text: "none", Help: "not at all (default)"}).OrNone()},
		},
	},
	Table: options,
	Usage: usage,
	First: "Usage: cr_checkpoint [options] ID",
	// BLCR's usage text keeps them to itself, and so does ours.
	Unlisted: []string{"--early-stop", "--early-abrt"},
}

var descriptor = completion.Words("file descriptor", completion.Word{Text: "1", Help: "standard output"})

func TestDocuments(t *testing.T) { getopttest.Documents(t, command) }

func TestAgainstGlibc(t *testing.T) {
	getopttest.AgainstGlibc(t, options, getopttest.Lines(t), 1)
}

func TestExactUnseen(t *testing.T) {
	getopttest.ExactUnseen(t, options, getopttest.Lines(t), 1)
}
