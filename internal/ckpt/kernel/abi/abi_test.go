package abi_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"blcr-cli/internal/ckpt/kernel/abi"
	"blcr-cli/test/harness"
)

// ops is every operation with its number. The numbers are literals, so that
// nothing of the code under test goes into them.
var ops = []struct {
	name  string
	got   uintptr
	amd64 uint32
	i386  uint32
}{
	{"OpHandChkpt", abi.OpHandChkpt, 0x4008a101, 0x4004a101},
	{"OpHandAbort", abi.OpHandAbort, 0x4008a102, 0x4004a102},
	{"OpHandPhase1", abi.OpHandPhase1, 0x4008a105, 0x4004a105},
	{"OpHandSusp", abi.OpHandSusp, 0xc008a106, 0xc004a106},
	{"OpHandPhase2", abi.OpHandPhase2, 0x4008a107, 0x4004a107},
	{"OpHandDone", abi.OpHandDone, 0x4008a108, 0x4004a108},
	{"OpHandSrc", abi.OpHandSrc, 0x8008a109, 0x8004a109},
	{"OpHandChkptInfo", abi.OpHandChkptInfo, 0x8008a10a, 0x8004a10a},
	{"OpChkptReq", abi.OpChkptReq, 0x4008a110, 0x4004a110},
	{"OpChkptReap", abi.OpChkptReap, 0x0000a112, 0x0000a112},
	{"OpChkptFwd", abi.OpChkptFwd, 0x4008a113, 0x4004a113},
	{"OpChkptLog", abi.OpChkptLog, 0x8008a114, 0x8004a114},
	{"OpRstrtReq", abi.OpRstrtReq, 0x4008a120, 0x4004a120},
	{"OpRstrtReap", abi.OpRstrtReap, 0x0000a122, 0x0000a122},
	{"OpRstrtChild", abi.OpRstrtChild, 0x0000a123, 0x0000a123},
	{"OpRstrtProcs", abi.OpRstrtProcs, 0x8008a126, 0x8004a126},
	{"OpRstrtLog", abi.OpRstrtLog, 0x8008a127, 0x8004a127},
	{"OpVersion", abi.OpVersion, 0x4008a130, 0x4004a130},
}

// structs is every structure as text, see describe.
var structs = []struct {
	typ         reflect.Type
	sizeof      uintptr // the package's constant
	amd64, i386 string
}{
	{
		reflect.TypeFor[abi.ChkptArgs](), abi.SizeofChkptArgs, `ChkptArgs 28
	Target int 0 4
	Scope int 4 4
	Fd int 8 4
	Secs uint 12 4
	DumpFormat int 16 4
	Signal int 20 4
	Flags uint 24 4
`, `ChkptArgs 28
	Target int 0 4
	Scope int 4 4
	Fd int 8 4
	Secs uint 12 4
	DumpFormat int 16 4
	Signal int 20 4
	Flags uint 24 4
`,
	},
	{
		reflect.TypeFor[abi.RstrtArgs](), abi.SizeofRstrtArgs, `RstrtArgs 24
	Fd int 0 4
	Signal int 4 4
	Relocate ptr 8 8
	Flags uint 16 4
`, `RstrtArgs 16
	Fd int 0 4
	Signal int 4 4
	Relocate ptr 8 4
	Flags uint 12 4
`,
	},
	{
		reflect.TypeFor[abi.RstrtRelocate](), abi.SizeofRstrtRelocate, `RstrtRelocate 264
	Count uint 0 4
	Path array 8 256
`, `RstrtRelocate 132
	Count uint 0 4
	Path array 4 128
`,
	},
	{
		reflect.TypeFor[abi.RelocatePair](), abi.SizeofRelocatePair, `RelocatePair 16
	OldPath ptr 0 8
	NewPath ptr 8 8
`, `RelocatePair 8
	OldPath ptr 0 4
	NewPath ptr 4 4
`,
	},
	{
		reflect.TypeFor[abi.ProcsTbl](), abi.SizeofProcsTbl, `ProcsTbl 8
	Threads int 0 4
	CloneFlags int 4 4
`, `ProcsTbl 8
	Threads int 0 4
	CloneFlags int 4 4
`,
	},
	{
		reflect.TypeFor[abi.LogArgs](), abi.SizeofLogArgs, `LogArgs 16
	Len uint 0 4
	Buf ptr 8 8
`, `LogArgs 8
	Len uint 0 4
	Buf ptr 4 4
`,
	},
	{
		reflect.TypeFor[abi.FwdArgs](), abi.SizeofFwdArgs, `FwdArgs 8
	Target int 0 4
	Scope int 4 4
`, `FwdArgs 8
	Target int 0 4
	Scope int 4 4
`,
	},
	{
		reflect.TypeFor[abi.ChkptInfo](), abi.SizeofChkptInfo, `ChkptInfo 24
	Requester int 0 4
	Target int 4 4
	Scope int 8 4
	Signal int 12 4
	Dest ptr 16 8
`, `ChkptInfo 20
	Requester int 0 4
	Target int 4 4
	Scope int 8 4
	Signal int 12 4
	Dest ptr 16 4
`,
	},
}

// forArch picks the expectation for the architecture of this test binary.
func forArch[T any](t *testing.T, amd64, i386 T) T {
	t.Helper()
	switch runtime.GOARCH {
	case "amd64":
		return amd64
	case "386":
		return i386
	}
	t.Skipf("no numbers are known for %s", runtime.GOARCH)
	panic("unreachable")
}

// describe gives a structure's size and, for each field, its kind, offset and
// size. Fields without a name are padding and no part of the interface.
func describe(typ reflect.Type) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d\n", typ.Name(), typ.Size())
	for i := range typ.NumField() {
		f := typ.Field(i)
		if f.Name == "_" {
			continue
		}
		kind := f.Type.Kind().String()
		switch f.Type.Kind() {
		case reflect.Int32:
			kind = "int"
		case reflect.Uint32:
			kind = "uint"
		case reflect.Pointer:
			kind = "ptr"
		}
		fmt.Fprintf(&b, "\t%s %s %d %d\n", f.Name, kind, f.Offset, f.Type.Size())
	}
	return b.String()
}

func TestOps(t *testing.T) {
	if len(ops) != 18 {
		t.Errorf("%d operations in the table, the interface has 18", len(ops))
	}
	for _, op := range ops {
		if want := forArch(t, op.amd64, op.i386); op.got != uintptr(want) {
			t.Errorf("%s = %#x, want %#x", op.name, op.got, want)
		}
	}
}

func TestStructs(t *testing.T) {
	for _, s := range structs {
		if want, got := forArch(t, s.amd64, s.i386), describe(s.typ); got != want {
			t.Errorf("layout:\n%s\nwant:\n%s", got, want)
		}
		if s.sizeof != s.typ.Size() {
			t.Errorf("Sizeof%s = %d, the type has %d bytes", s.typ.Name(), s.sizeof, s.typ.Size())
		}
	}
}

// TestNames holds the constants against BLCR's headers as they were read.
func TestNames(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want uint64
	}{
		{"IocType", abi.IocType, 0xA1},
		{"Version", abi.Version, 10},
		{"NoArg", uint64(abi.NoArg), uint64(^uintptr(0))}, // -1 as a long
		{"Sig", abi.Sig, 64},
		{"SigCode", abi.SigCode, 0x80},

		{"ScopeProc", abi.ScopeProc, 0},
		{"ScopePgrp", abi.ScopePgrp, 1},
		{"ScopeSess", abi.ScopeSess, 2},
		{"ScopeTree", abi.ScopeTree, 3},

		{"ChkptProhibitSelf", abi.ChkptProhibitSelf, 0x1},
		{"ChkptPtracedAllow", abi.ChkptPtracedAllow, 0x2},
		{"ChkptPtracedSkip", abi.ChkptPtracedSkip, 0x4},
		{"ChkptPtracerSkip", abi.ChkptPtracerSkip, 0x8},
		{"ChkptAsyncErr", abi.ChkptAsyncErr, 0x10},
		{"ChkptDumpExec", abi.ChkptDumpExec, 0x200},
		{"ChkptDumpPrivate", abi.ChkptDumpPrivate, 0x400},
		{"ChkptDumpShared", abi.ChkptDumpShared, 0x800},

		{"RstrtAsyncErr", abi.RstrtAsyncErr, 0x1},
		{"RstrtRestorePid", abi.RstrtRestorePid, 0x2},
		{"RstrtRestorePgid", abi.RstrtRestorePgid, 0x4},
		{"RstrtRestoreSid", abi.RstrtRestoreSid, 0x8},
		{"MaxRelocate", abi.MaxRelocate, 16},

		{"CheckpointTempFail", abi.CheckpointTempFail, 1},
		{"CheckpointPermFail", abi.CheckpointPermFail, 2},
		{"CheckpointOmit", abi.CheckpointOmit, 4},
		{"CheckpointStub", abi.CheckpointStub, 0x4000},
	} {
		if c.got != c.want {
			t.Errorf("%s = %#x, want %#x", c.name, c.got, c.want)
		}
	}
	if abi.ControlFile != "/proc/checkpoint/ctrl" {
		t.Errorf("ControlFile = %q", abi.ControlFile)
	}
}

// TestC holds numbers and layouts against what a C compiler makes of the
// interface.
func TestC(t *testing.T) {
	model := forArch(t, "-m64", "-m32")
	cc := harness.Compiler(t)
	program := filepath.Join(t.TempDir(), "abi")
	args := []string{model, "-ffreestanding", "-fno-stack-protector", "-fno-pic", "-no-pie", "-static", "-nostdlib", "-o", program, "testdata/abi.c"}
	if out, err := exec.CommandContext(t.Context(), cc, args...).CombinedOutput(); err != nil {
		if model == "-m32" {
			t.Skipf("%s %s does not work here: %v\n%s", cc, model, err, out)
		}
		t.Fatalf("%s: %v\n%s", cc, err, out)
	}
	out, err := exec.CommandContext(t.Context(), program).Output()
	if err != nil {
		t.Fatalf("the C program: %v", err)
	}
	var want strings.Builder
	for _, op := range ops {
		fmt.Fprintf(&want, "%s %#x\n", op.name, op.got)
	}
	for _, s := range structs {
		want.WriteString(describe(s.typ))
	}
	if want := want.String(); string(out) != want {
		t.Errorf("C and Go differ:\n%s", difference(string(out), want))
	}
}

// difference shows the lines that differ.
func difference(c, g string) string {
	var b strings.Builder
	cl, gl := strings.Split(c, "\n"), strings.Split(g, "\n")
	for i := range max(len(cl), len(gl)) {
		var x, y string
		if i < len(cl) {
			x = cl[i]
		}
		if i < len(gl) {
			y = gl[i]
		}
		if x != y {
			fmt.Fprintf(&b, "line %d: C %q, Go %q\n", i+1, x, y)
		}
	}
	return b.String()
}

// Test386 runs these tests once more as a 32-bit program.
func Test386(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("this is no 64-bit machine")
	}
	if testing.Short() || !harness.All() {
		t.Skip("builds the standard library for 386; make check does")
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go in PATH to build the 32-bit test with")
	}
	cache, err := exec.CommandContext(t.Context(), goTool, "env", "GOCACHE").Output()
	if err != nil {
		t.Skipf("go env: %v", err)
	}
	// Without the cache the standard library would have to be built.
	probe, err := os.CreateTemp(strings.TrimSpace(string(cache)), "probe")
	if err != nil {
		t.Skipf("the build cache is not this user's: %v", err)
	}
	probe.Close()
	os.Remove(probe.Name())

	binary := filepath.Join(t.TempDir(), "abi386.test")
	build := exec.CommandContext(t.Context(), goTool, "test", "-c", "-o", binary, ".")
	build.Env = append(slices.Clone(os.Environ()), "GOARCH=386", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go test -c: %v\n%s", err, out)
	}
	run := exec.CommandContext(t.Context(), binary, "-test.v", "-test.skip=^Test386$")
	out, err := run.CombinedOutput()
	if run.ProcessState == nil {
		t.Skipf("this kernel runs no 32-bit programs: %v", err)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: TestStructs") {
		t.Errorf("on 386: %v\n%s", err, out)
	}
	if strings.Contains(string(out), "--- SKIP: TestC") {
		t.Logf("32-bit comparison with C left out:\n%s", out)
	}
}
