package ckpt

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"blcr-cli/test/harness"
)

// blcrErrors are BLCR's own numbers and texts, from blcr_errcodes.h and cr_strerror.
var blcrErrors = []struct {
	errno  syscall.Errno
	number int
	status int
	text   string
}{
	{ETempFail, 2354, 50, "Temporary error: checkpoint cancelled"},
	{EPermFail, 2355, 51, "Permanent failure: checkpoint cancelled and job killed"},
	{ENoSupport, 2356, 52, "Checkpoint support not linked into one or more processes"},
	{EVersion, 2357, 53, "Requested kernel interface version is not supported"},
	{EOmitted, 2358, 54, "Process omitted from checkpoint at a callback's request"},
	{EBadArch, 2359, 55, "Context file does not match the kernel architecture"},
	{EPtraced, 2360, 56, "One or more target processes is being ptraced"},
	{EPtracer, 2361, 57, "One or more target processes has ptrace children"},
	{ERstrtAbrt, 2362, 58, "Restart aborted: restart cancelled and job killed"},
	{ERestarted, 2363, 59, "Request is invalid across a restart"},
	{ENotCB, 2364, 60, "Call is only valid from a checkpoint callback"},
	{ENoInit, 2365, 61, "Calling thread has not called cr_init()"},
}

func TestBLCRErrors(t *testing.T) {
	for _, e := range blcrErrors {
		if int(e.errno) != e.number {
			t.Errorf("number %d, want %d", int(e.errno), e.number)
		}
		if got := Strerror(e.errno); got != e.text {
			t.Errorf("Strerror(%d) = %q, want %q", e.number, got, e.text)
		}
		if got := ExitStatus(e.errno); got != e.status {
			t.Errorf("ExitStatus(%d) = %d, want %d", e.number, got, e.status)
		}
	}
}

// TestExitStatus: what remains of exit(errno).
func TestExitStatus(t *testing.T) {
	for errno, want := range map[syscall.Errno]int{
		0: 0, syscall.EBUSY: 16, syscall.ENOSYS: 38, syscall.ETIME: 62, 255: 255, 256: 0, 257: 1, 4095: 255,
	} {
		if got := ExitStatus(errno); got != want {
			t.Errorf("ExitStatus(%d) = %d, want %d", errno, got, want)
		}
	}
}

// TestStrerror compares the texts of the system's numbers with the C library's, for
// every number that a system call can return.
func TestStrerror(t *testing.T) {
	const source = `
#include <stdio.h>
#include <string.h>
#ifndef __GLIBC__
#error not glibc
#endif
int main(void)
{
	for (int e = 0; e <= 4095; e++)
		puts(strerror(e));
	return 0;
}
`
	cc := harness.Compiler(t)
	dir := t.TempDir()
	file, program := filepath.Join(dir, "strerror.c"), filepath.Join(dir, "strerror")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), cc, "-o", program, file).CombinedOutput(); err != nil {
		if strings.Contains(string(out), "not glibc") {
			t.Skip("this system's C library is not glibc")
		}
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), program).Output()
	if err != nil {
		t.Fatal(err)
	}
	n := syscall.Errno(0)
	for sc := bufio.NewScanner(bytes.NewReader(out)); sc.Scan(); n++ {
		if n >= ETempFail && n <= ENoInit {
			continue
		}
		if got := Strerror(n); got != sc.Text() {
			t.Errorf("Strerror(%d) = %q, the C library has %q", int(n), got, sc.Text())
		}
	}
	if n != 4096 {
		t.Errorf("the C program printed %d lines", n)
	}
}
