package signals

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"blcr-cli/test/harness"
)

// TestStrsignal compares the names with the C library's.
func TestStrsignal(t *testing.T) {
	const source = `
#include <stdio.h>
#include <string.h>
#ifndef __GLIBC__
#error not glibc
#endif
int main(void)
{
	for (int sig = -1; sig <= 70; sig++)
		printf("%d %s\n", sig, strsignal(sig));
	return 0;
}
`
	cc := harness.Compiler(t)
	dir := t.TempDir()
	file, program := filepath.Join(dir, "strsignal.c"), filepath.Join(dir, "strsignal")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), cc, "-o", program, file).CombinedOutput(); err != nil {
		if strings.Contains(string(out), "not glibc") {
			t.Skip("this system's C library is not glibc")
		}
		t.Fatalf("%v\n%s", err, out)
	}
	want, err := exec.CommandContext(t.Context(), program).Output()
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for sig := -1; sig <= 70; sig++ {
		fmt.Fprintln(&got, sig, Strsignal(syscall.Signal(sig)))
	}
	gl, wl := strings.Split(got.String(), "\n"), strings.Split(string(want), "\n")
	for i := range min(len(gl), len(wl)) {
		if gl[i] != wl[i] {
			t.Errorf("%q, glibc has %q", gl[i], wl[i])
		}
	}
	if len(gl) != len(wl) {
		t.Errorf("%d lines, the C program has %d", len(gl), len(wl))
	}
}
