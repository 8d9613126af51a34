package man_test

import (
	"os/exec"
	"strings"
	"testing"

	"blcr-cli/test/harness"
)

// TestExampleInC: a C compiler accepts the subscriber in blcr-cli(7).
func TestExampleInC(t *testing.T) {
	compiler := harness.Compiler(t)
	page := read(t, "blcr-cli.7")
	_, program, _ := strings.Cut(page, "#include <stdint.h>")
	program, _, found := strings.Cut("#include <stdint.h>"+program, "\n.Ed\n")
	if !found {
		t.Fatal("there is no example")
	}
	cmd := exec.Command(compiler, "-std=c99", "-D_DEFAULT_SOURCE", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-Itestdata", "-x", "c", "-")
	cmd.Stdin = strings.NewReader(strings.ReplaceAll(program, `\e`, `\`) + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
