package main

import (
	"testing"

	"blcr-cli/internal/completion"
	"blcr-cli/test/getopttest"
)

// command is what ftb-publish accepts, written out once more and not derived from
// the table, so that an option lost or added is noticed. The completions are made
// from this list: "make completions".
var command = getopttest.Command{
	Command: completion.Command{
		Name: "ftb-publish",
		Operand: completion.Words("event",
			completion.Word{Text: "CHKPT_BEGIN", Help: "a checkpoint begins"},
			completion.Word{Text: "CHKPT_END", Help: "a checkpoint is complete"},
			completion.Word{Text: "CHKPT_ERROR", Help: "a checkpoint has failed"},
			completion.Word{Text: "RSTRT_BEGIN", Help: "a restart begins"},
			completion.Word{Text: "RSTRT_END", Help: "a restart is complete"},
			completion.Word{Text: "RSTRT_ERROR", Help: "a restart has failed"}),
		Options: []completion.Option{
			{Names: "-v --verbose", Help: "say what is being done", Repeats: true},
			{Names: "-q --quiet", Help: "say nothing on stderr"},
			{Names: "-h --help", Help: "print a summary of the options"},
			{Names: "--version", Help: "print the version"},

			{Names: "--space", Help: "event space", Value: completion.Words("event space",
				completion.Word{Text: blcrSpace, Help: "that of BLCR (default)"})},
			{Names: "--severity", Help: "how bad it is", Value: completion.Words("severity",
				completion.Word{Text: "fatal"}, completion.Word{Text: "error"},
				completion.Word{Text: "warning"}, completion.Word{Text: "info"})},
			{Names: "--client-name", Help: "name of the client", Value: completion.Text("name")},
			{Names: "--jobid", Help: "the job", Value: completion.Text("job")},

			{Names: "--payload", Group: "payload", Help: "send a text along", Value: completion.Text("text")},
			{Names: "--payload-hex", Group: "payload", Help: "send bytes along", Value: completion.Text("hexadecimal digits")},
			{Names: "--payload-file", Group: "payload", Help: "send the content of a file along", Value: completion.File},
			{Names: "--reply-to", Help: "publish a response to an event", Value: completion.Text("handle")},
			{Names: "--errno", Help: "send an error number along", Value: completion.Text("number")},

			{Names: "--timeout", Help: "give up after some seconds", Value: completion.Text("seconds")},
			{Names: "--print-handle", Group: "output", Help: "print the handle of the event"},
			{Names: "--json", Group: "output", Help: "print what has become of the event"},
		},
	},
	Table: options,
	Usage: usage,
	First: "Usage: ftb-publish [options] EVENT",
}

func TestDocuments(t *testing.T) { getopttest.Documents(t, command) }

func TestAgainstGlibc(t *testing.T) {
	getopttest.AgainstGlibc(t, options, getopttest.Lines(t), 1)
}

func TestExactUnseen(t *testing.T) {
	getopttest.ExactUnseen(t, options, getopttest.Lines(t), 1)
}
