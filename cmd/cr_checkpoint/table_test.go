package main

import (
	"testing"

	"blcr-cli/test/getopttest"
)

func TestDocuments(t *testing.T) { getopttest.Documents(t, command) }

func TestAgainstGlibc(t *testing.T) {
	getopttest.AgainstGlibc(t, options, getopttest.Lines(t), 1)
}

var command = getopttest.Command{
	Name:  "cr_checkpoint",
	Table: options,
	Usage: usage,
	First: "Usage: cr_checkpoint [options] ID",
	// BLCR's usage text does not list them, and neither does ours.
	Unlisted: []string{"--early-stop", "--early-abrt"},
	BLCR: []string{
		"-v --verbose", "-q --quiet", "-h --help", "--version",
		"-T --tree", "-p --pid --process", "-g --pgid --group", "-s --sid --session",
		"-c --cwd", "-d --dir=", "-f --file=", "-F --fd=",
		"--atomic", "--backup[=]", "--clobber", "--noclobber",
		"-S --signal=", "--run", "--stop", "--term", "--abort", "--kill", "--cont",
		"--early-stop", "--early-abrt",
		"--sync", "--nosync",
		"--save-exe", "--save-private", "--save-shared", "--save-all", "--save-none",
		"--ptraced-error", "--ptraced-skip", "--ptraced-allow", "--ptracer-error", "--ptracer-skip",
		"--kmsg-none", "--kmsg-error", "--kmsg-warning",
		"-t --time=",
	},
}
