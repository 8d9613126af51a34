package main

import (
	"testing"

	"blcr-cli/test/getopttest"
)

func TestDocuments(t *testing.T) { getopttest.Documents(t, command) }

func TestAgainstGlibc(t *testing.T) {
	getopttest.AgainstGlibc(t, options, getopttest.Lines(t), 2)
}

var command = getopttest.Command{
	Name:  "cr_restart",
	Table: options,
	Usage: usage,
	First: "Usage: cr_restart [options] [checkpoint_file]",
	// BLCR's usage text does not list them, and neither does ours.
	Unlisted: []string{"--early-stop", "--early-abrt"},
	Foreign:  []string{"/bin/sh -c"},
	BLCR: []string{
		"-v --version", "-q --quiet", "-h --help",
		"-f --file=", "-F --fd=", "-d --dir=",
		"-S --signal=", "--run", "--stop --freeze", "--term", "--abort", "--kill", "--cont",
		"--early-stop", "--early-abrt",
		"--omit-maybe", "--omit-always", "--omit-never",
		"--run-on-success=", "--run-on-failure=", "--run-on-fail-args=",
		"--run-on-fail-temp=", "--run-on-fail-env=", "--run-on-fail-perm=",
		"--relocate=",
		"--restore-pid", "--no-restore-pid", "--restore-pgid", "--no-restore-pgid",
		"--restore-sid", "--no-restore-sid",
		"--kmsg-none", "--kmsg-error", "--kmsg-warning",
	},
}
