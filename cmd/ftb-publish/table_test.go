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
	Name:  "ftb-publish",
	Table: options,
	Usage: usage,
	First: "Usage: ftb-publish [options] EVENT",
}
