package script_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"blcr-cli/test/harness"
)

// screen is a terminal that can be looked at, in tmux.
type screen struct {
	t      *testing.T
	socket string
}

// newScreen runs a shell command in one, with the module's answers slow enough
// for progress to be shown.
func newScreen(t *testing.T, columns int, command string) *screen {
	t.Helper()
	harness.Tool(t, "tmux")
	dir := t.TempDir()
	s := &screen{t, filepath.Join(dir, "tmux")}
	t.Cleanup(func() { exec.Command("tmux", "-S", s.socket, "kill-server").Run() })
	cmd := exec.Command("tmux", "-S", s.socket, "-f", "/dev/null", "new-session", "-d", "-x", fmt.Sprint(columns), "-y", "6",
		"cd "+dir+"; "+command+"; echo end $?; exec cat")
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "CR_ENGINE=kernel", "CR_FTB=off", "SHELL=/bin/sh")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tmux: %v: %s", err, out)
	}
	return s
}

func (s *screen) tmux(args ...string) string {
	s.t.Helper()
	out, err := exec.Command("tmux", append([]string{"-S", s.socket}, args...)...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("tmux %s: %v: %s", args, err, out)
	}
	return string(out)
}

func (s *screen) resize(columns int) {
	s.tmux("resize-window", "-x", fmt.Sprint(columns), "-y", "6")
}

// shows waits until all that stands there, but for blank lines, is that.
func (s *screen) shows(want string) {
	s.t.Helper()
	is := regexp.MustCompile(`\A` + want + `\z`)
	var text string
	for end := time.Now().Add(harness.Patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		text = strings.TrimRight(s.tmux("capture-pane", "-p"), "\n ")
		if is.MatchString(text) {
			return
		}
	}
	s.t.Fatalf("the screen shows %q, want %s", text, want)
}

// slow has the simulated module take some seconds.
const slow = "ctrlsim -set 'chkpt-size 20M' -set 'chkpt-pace 25ms' -set 'rstrt-delay 4s' -set 'job exit 7' -- "

// TestScreenCheckpoint pins what there is to be seen of a checkpoint that takes
// long, at several widths, and that nothing is left of it.
func TestScreenCheckpoint(t *testing.T) {
	t.Parallel()
	s := newScreen(t, 79, slow+"cr_checkpoint -f ctx $$")
	const size = `\d+(\.\d)? (KiB|MiB)`
	s.shows(`saving \d+( \d+%)?, ` + size + `( of ` + size + `)?, ` + size + `/s(, \d+ s left)?`)
	for _, columns := range []int{44, 21} {
		s.resize(columns)
		// One line, not longer than there is room for.
		s.shows(fmt.Sprintf(`saving \d+[^\n]{0,%d}`, columns-9))
	}
	s.resize(7)
	s.shows(``)
	s.resize(79)
	s.shows(`saving .*/s.*`)
	s.shows(`end 0`)
}

// TestScreenRestart is the same for a restart.
func TestScreenRestart(t *testing.T) {
	t.Parallel()
	s := newScreen(t, 79, "ctrlsim -set 'chkpt-size 2M' cr_checkpoint -f ctx $$; "+slow+"cr_restart ctx")
	s.shows(`restoring.*`)
	s.shows(`end 7`)
}

// TestScreenNothing pins when nothing is shown: what does not take long, with -q,
// and where stderr is no terminal. No byte goes to a file.
func TestScreenNothing(t *testing.T) {
	t.Parallel()
	for name, command := range map[string]string{
		"quiet":       slow + "cr_checkpoint -q -f ctx $$",
		"file":        slow + "cr_checkpoint -f ctx $$ 2>err; test ! -s err",
		"pipe":        slow + "sh -c 'cr_checkpoint -f ctx $$ 2>&1 | wc -c | grep -qx 0'",
		"no terminal": "TERM=dumb " + slow + "cr_checkpoint -f ctx $$",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScreen(t, 79, strings.Replace(command, "20M", "4M", 1))
			for text := ""; text == ""; time.Sleep(50 * time.Millisecond) {
				if text = strings.TrimSpace(s.tmux("capture-pane", "-p")); text != "" && text != "end 0" {
					t.Errorf("the screen shows %q", text)
				}
			}
		})
	}
}
