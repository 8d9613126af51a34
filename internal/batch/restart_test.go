package batch

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"blcr-cli/internal/ctxfile"
	"blcr-cli/test/harness"
)

// restarter is a cr_restart that fails so often, with that status, as the file "fails" in
// the directory of the context says. Then it has restored a job, which ends with 3.
const restarter = `#!/bin/sh
run=${1#--run-on-success=}
for context; do :; done
dir=${context%/*}
case $* in
*--no-restore-pid*) echo "${context##*/} new pids" ;;
*) echo "${context##*/}" ;;
esac >>"$dir/calls"
read -r times status <"$dir/fails"
[ "$(wc -l <"$dir/calls")" -gt "$times" ] || exit "$status"
eval "$run"
exit 3
`

// newContext writes a context, a good one or one that was cut.
func newContext(t *testing.T, path string, good bool) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := ctxfile.NewWriter(int(f.Fd()), ctxfile.Header{Engine: "criu 4.2", PIDs: []int{1}}, 0)
	if err == nil {
		err = w.Bytes("pages-1.img", bytes.Repeat([]byte("page"), 1<<15))
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil && !good {
		err = f.Truncate(10000)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A job never begins anew as long as there is a context that is not damaged, whatever
// cr_restart says of it.
func TestRestart(t *testing.T) {
	tools := t.TempDir()
	if err := harness.WriteProgram(filepath.Join(tools, "cr_restart"), []byte(restarter), 0o755); err != nil {
		t.Fatal(err)
	}
	path := os.Getenv("PATH") // t.Setenv is not for parallel tests
	os.Setenv("PATH", tools+":"+path)
	t.Cleanup(func() { os.Setenv("PATH", path) })
	const first, second = "context.000001", "context.000002"
	for name, c := range map[string]struct {
		contexts map[string]bool // good or not
		fails    string
		status   int
		calls    string
		left     []string
	}{
		"works":             {map[string]bool{first: true, second: true}, "0 0", 3, second + "\n", []string{first, second}},
		"its directory":     {map[string]bool{first: true}, "1000 255", StatusUnable, first + "\n", []string{first}},
		"not permitted":     {map[string]bool{first: true, second: true}, "1000 1", StatusUnable, second + "\n", []string{first, second}},
		"unknown":           {map[string]bool{first: true, second: true}, "1000 5", StatusUnable, second + "\n" + first + "\n", []string{first, second}},
		"unknown, then not": {map[string]bool{first: true, second: true}, "1 5", 3, second + "\n" + first + "\n", []string{first, second}},
		"invalid":           {map[string]bool{first: true}, "1000 22", StatusUnable, first + "\n", []string{first}},
		"bad message":       {map[string]bool{first: true, second: false}, "1000 74", StatusUnable, first + "\n", []string{first, second + ".damaged"}},
		"addresses":         {map[string]bool{first: true}, "1 98", 3, first + "\n" + first + "\n", []string{first}},
		"file exists":       {map[string]bool{first: true}, "1 17", 3, first + "\n" + first + "\n", []string{first}},
		"pid in use":        {map[string]bool{first: true}, "1 16", 3, first + "\n" + first + "\n", []string{first}},
		"not here":          {map[string]bool{first: true, second: true}, "1000 95", StatusUnable, second + "\n" + second + " new pids\n", []string{first, second}},
		"with new pids":     {map[string]bool{first: true}, "1 95", 3, first + "\n" + first + " new pids\n", []string{first}},
		"all are damaged":   {map[string]bool{first: false, second: false}, "0 0", 4, "", []string{first + ".damaged", second + ".damaged"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for name, good := range c.contexts {
				newContext(t, filepath.Join(dir, name), good)
			}
			if err := os.WriteFile(filepath.Join(dir, "fails"), []byte(c.fails+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			log, err := NewLog(filepath.Join(dir, "log"), false)
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan End)
			go func() {
				runtime.LockOSThread() // the parent of cr_restart
				ended <- Run(&Options{Command: []string{"sh", "-c", "exit 4"}, Dir: dir, Keep: 2, Log: log}, nil)
			}()
			end := <-ended
			text, _ := os.ReadFile(filepath.Join(dir, "log"))
			if calls, _ := os.ReadFile(filepath.Join(dir, "calls")); end.Status != c.status || string(calls) != c.calls {
				t.Errorf("ended with %d, want %d; cr_restart:\n%s%s", end.Status, c.status, calls, text)
			}
			left, _ := filepath.Glob(filepath.Join(dir, "context.*"))
			for i := range left {
				left[i] = filepath.Base(left[i])
			}
			if !slices.Equal(left, c.left) {
				t.Errorf("left: %q\n%s", left, text)
			}
		})
	}
}

// What cannot be read now is not damaged.
func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	newContext(t, filepath.Join(dir, "context.000001"), true)
	for _, spoil := range []func() error{
		func() error { // a loop of links: ELOOP
			return errors.Join(os.Rename(filepath.Join(dir, "context.000001"), filepath.Join(dir, "kept")),
				os.Symlink("context.000001", filepath.Join(dir, "context.000001")))
		},
		func() error { // a later version of the format
			name := filepath.Join(dir, "context.000001")
			text, err := os.ReadFile(filepath.Join(dir, "kept"))
			page := bytes.Replace(text, []byte("3\n"), []byte("9\n"), 1)
			return errors.Join(err, os.Remove(name), os.WriteFile(name, page, 0o600))
		},
		func() error { // a directory: EISDIR
			return errors.Join(os.Remove(filepath.Join(dir, "context.000001")), os.Mkdir(filepath.Join(dir, "context.000001"), 0o700))
		},
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		log, err := NewLog(filepath.Join(dir, "log"), false)
		if err != nil {
			t.Fatal(err)
		}
		end := Run(&Options{Command: []string{"touch", filepath.Join(dir, "began")}, Dir: dir, Keep: 2, Log: log}, nil)
		text, _ := os.ReadFile(filepath.Join(dir, "log"))
		if _, err := os.Stat(filepath.Join(dir, "began")); err == nil || end.Status != StatusUnable {
			t.Errorf("%d\n%s", end.Status, text)
		}
		if _, err := os.Lstat(filepath.Join(dir, "context.000001")); err != nil {
			t.Error(fmt.Errorf("%w\n%s", err, text))
		}
	}
}
