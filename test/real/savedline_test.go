//go:build real

package real

import (
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// TestSavedLine: on a terminal a checkpoint ends with a line that says what has been
// saved, and with -v there are the times of its steps. Elsewhere, and with -q, there is
// no such line.
func TestSavedLine(t *testing.T) {
	engine(t)
	y := &typed{job: newCaller(t)}
	p := y.onNew("sleep 1000 </dev/null >/dev/null 2>&1 & pid=$!\n" +
		"cr_checkpoint $pid; cr_checkpoint -v $pid >verbose; cr_checkpoint -q $pid\n" +
		"cr_checkpoint $pid 2>errors\n" +
		"cr_checkpoint --signal=KILL -f killed $pid\nwait $pid")
	y.left(p, "137")
	const line = `saved \d+ KiB into context\.\d+ in \S+ m?s \(frozen \S+ m?s\)\r?\n`
	want := regexp.MustCompile(`\A` + line + `using criu .*\r?\n(.*\r?\n)+` +
		`- prepared .* m?s, captured .*, released .*, written .*, in place .* m?s\r?\n` + line +
		`saved \d+ KiB into killed in \S+ m?s\r?\n\z`)
	// The shell may say something of the process that was killed.
	seen, _, _ := strings.Cut(y.screen.seen(), "launcher: ")
	if !want.MatchString(seen) {
		t.Errorf("on the terminal: %q", seen)
	}
	if text := y.read("errors"); text != "" {
		t.Errorf("in a file: %q", text)
	}
	_ = syscall.Unlink(y.dir + "/errors")
}
