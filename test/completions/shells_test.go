package completions_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"blcr-cli/test/completions"
	"blcr-cli/test/harness"
)

// In these tests the shells themselves complete command lines, with the files in the
// directory completions.

// root is that directory.
var root = func() string {
	dir, err := filepath.Abs("../../completions")
	if err != nil {
		panic(err)
	}
	return dir
}()

const bashCompletion = "/usr/share/bash-completion/bash_completion"

// The functions in shells complete a line with the cursor at its end, and return the
// proposals, each followed by a tab and its description if the shell has one. Each
// shell needs a package, which contains the file. shared is a directory for all tests
// of a shell.
var shells = map[string]struct {
	pkg, file string
	prepare   func(t *testing.T, shared string)
	complete  func(t *testing.T, dir, shared, line string) []string
}{
	"bash": {"bash", "/bin/bash", nil, func(t *testing.T, dir, _, line string) []string { return bash(t, dir, "", line) }},
	"bash-completion": {"bash-completion", bashCompletion, nil, func(t *testing.T, dir, _, line string) []string {
		return bash(t, dir, bashCompletion, line)
	}},
	"zsh":  {"zsh", "/usr/bin/zsh", prepareZsh, zsh},
	"fish": {"fish", "/usr/bin/fish", nil, func(t *testing.T, dir, _, line string) []string { return fish(t, dir, line) }},
}

// run runs a shell in dir, with an environment of its own.
func run(t *testing.T, dir string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	home := filepath.Join(dir, ".home")
	cmd.Dir = dir
	cmd.Env = []string{"HOME=" + home, "TERM=dumb", "LC_ALL=C.UTF-8", "PATH=" + filepath.Join(dir, ".bin") + ":/usr/bin:/bin"}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	// The shell's exit status is that of the last completion, which may have found
	// nothing.
	if stderr.Len() > 0 || ctx.Err() != nil {
		t.Errorf("%q: %v, %s", args, err, stderr.String())
	}
	return string(out)
}

// workspace is the directory in which command lines are completed.
func workspace(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"jobs", "old jobs", "empty", ".home", ".bin"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"context.7", "context.80", "sim.context", "simple", "jobs/context.9", "old jobs/x", ".bin/simulate-xyz",
		// Fish completes only for commands that exist.
		".bin/cr_batch", ".bin/cr_checkpoint", ".bin/cr_info", ".bin/cr_restart", ".bin/cr_run", ".bin/ftb-publish", ".bin/ftb-watch"} {
		if err := os.WriteFile(filepath.Join(dir, file), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var bashWords = regexp.MustCompile(`[=:]+|[^\s=:]+`)

// bash calls the function as bash would, after reading a file if there is one.
func bash(t *testing.T, dir, before, line string) []string {
	name, _, _ := strings.Cut(line, " ")
	words := bashWords.FindAllString(line, -1)
	if strings.HasSuffix(line, " ") {
		words = append(words, "")
	}
	load := ""
	for _, file := range []string{name, "cr_restart"} {
		load += ". '" + filepath.Join(root, completions.File("bash", file)) + "'\n"
	}
	if before != "" {
		// bash-completion's loader finds them.
		load = fmt.Sprintf("BASH_COMPLETION_USER_DIR=%q\n. %s\n__load_completion %s || echo not loaded\n", filepath.Join(dir, ".user"), before, name)
		user := filepath.Join(dir, ".user")
		if err := os.MkdirAll(user, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(root+"/bash", filepath.Join(user, "completions")); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
	}
	// Outside of a completion that bash began, compopt is an error. With "-o default"
	// bash completes names of files where the function has no proposal.
	script := load + `
default=
compopt() { [[ " $* " != *' default '* ]] || default=1; }
COMP_LINE=$1 COMP_POINT=${#1}
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
spec=$(complete -p -- "$1") && function=${spec##*-F } && ${function%% *} "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
[[ ${#COMPREPLY[@]} -gt 0 || -z $default ]] || mapfile -t COMPREPLY < <(compgen -f -- "${COMP_WORDS[COMP_CWORD]}")
for word in "${COMPREPLY[@]}"; do printf '%s\n' "$word"; done
`
	out := run(t, dir, append([]string{"/bin/bash", "--norc", "-c", script, "bash", line}, words...)...)
	return strings.Split(strings.TrimSuffix(out, "\n"), "\n")
}

func fish(t *testing.T, dir, line string) []string {
	out := run(t, dir, "/usr/bin/fish", "-c",
		fmt.Sprintf("set -p fish_complete_path %s/fish; complete -C %q", root, line))
	// Fish 4 also proposes what only contains the word, if nothing begins with it.
	word := line[strings.LastIndexByte(line, ' ')+1:]
	proposals := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	return slices.DeleteFunc(proposals, func(p string) bool { return !strings.HasPrefix(p, word) })
}

// zshInit is for a zsh on a terminal: it prints what is added to the list of
// matches, between two lines with a NUL.
const zshInit = `
PROMPT=
fpath=($completions $fpath)
autoload compinit
compinit -u -d $dump
bindkey '^I' complete-word
mark() { echo -E - $'\0' }
compprefuncs=(mark)
comppostfuncs=(mark exit)
zstyle ':completion:*' insert-tab false
zstyle ':completion:*' list-separator ''
zstyle ':completion:*' list-grouped false
compadd() {
	if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then
		builtin compadd "$@"
		return
	fi
	typeset -a __hits __dscr
	typeset __tmp
	if (($@[(I)-d])); then
		__tmp=${@[$[${@[(i)-d]}+1]]}
		if [[ $__tmp == \(* ]]; then eval "__dscr=$__tmp"; else __dscr=("${(@P)__tmp}"); fi
	fi
	builtin compadd -A __hits -D __dscr "$@"
	() {
		setopt localoptions norcexpandparam extendedglob
		typeset -A apre hpre asuf hsuf
		zparseopts -E P:=apre p:=hpre S:=asuf s:=hsuf
		integer i
		local slash dscr
		for ((i = 1; i <= $#__hits; i++)); do
			slash=
			[[ -z $hsuf && "${${@//-default-/}% -# *}" == *-[[:alnum:]]#f* && -d ${(Q)hpre}${(Q)__hits[i]} ]] && slash=/
			dscr=
			(($#__dscr >= i)) && dscr=$'\t'${${__dscr[i]}##$__hits[i] #}
			echo -E - $IPREFIX$apre$hpre$__hits[i]$slash$hsuf$dscr
		done
	} "$@"
	builtin compadd "$@"
}
echo ok
`

const zshDriver = `
zmodload zsh/zpty
zpty z "completions=${(q)2} dump=${(q)4} zsh -f -i"
zpty -w z "source ${(q)1}"
while zpty -r z line; do [[ $line == ok* ]] && break; done
zpty -w -n z "$3"$'\t'
integer in=0
while zpty -r z line; do
	if [[ $line == *$'\0'* ]]; then
		((in++)) && exit
	elif ((in)); then
		echo -E - ${line%$'\r\n'}
	fi
done
`

// prepareZsh makes zsh write its cache of all completions, which takes a second.
func prepareZsh(t *testing.T, shared string) {
	run(t, shared, "/usr/bin/zsh", "-f", "-c",
		"fpath=($1 $fpath); autoload compinit; compinit -u -d $2/dump", "zsh", root+"/zsh", shared)
}

func zsh(t *testing.T, dir, shared, line string) []string {
	init := filepath.Join(dir, ".home", "init")
	if err := os.WriteFile(init, []byte(zshInit), 0o644); err != nil {
		t.Fatal(err)
	}
	out := run(t, dir, "/usr/bin/zsh", "-f", "-c", zshDriver, "zsh", init, root+"/zsh", line, filepath.Join(shared, "dump"))
	return strings.Split(strings.TrimSuffix(out, "\n"), "\n")
}

// lines are command lines with the proposals for them.
var lines = []struct {
	line string
	// The proposals: all of them or, with "…" at the end, some. In zsh and fish a
	// proposal may have a description, after a colon and a blank. If those of bash or
	// zsh differ, they follow.
	want, bash, zsh string
	not             string // the shell that does not support this
}{
	// Options.
	{line: "cr_checkpoint --a", want: "--abort: send SIGABRT afterwards|--atomic: replace a file when the new one is whole (default)"},
	{line: "cr_checkpoint --ptracer-", want: "--ptracer-error: fail if a process traces others (default)|--ptracer-skip"},
	{line: "cr_checkpoint -", want: "-T: save a process and its descendants (default)|--kill|…"},
	{line: "cr_checkpoint --bac", want: "--backup: as --atomic, and keep the old file", bash: "--backup|--backup="},
	{line: "cr_checkpoint 1 --nos", want: "--nosync"},
	{line: "cr_checkpoint -- --nos", want: ""},
	{line: "cr_restart --freez", want: "--freeze: send SIGSTOP afterwards"},
	{line: "cr_restart context.7 --omit-n", want: "--omit-never"},
	{line: "cr_batch --inter", want: "--interval: time between checkpoints"},
	{line: "cr_batch -k 3 --requeue-", want: "--requeue-command"},
	{line: "cr_batch simulate --inter", want: ""},
	{line: "ftb-watch --j", want: "--json: print JSON"},
	{line: "ftb-watch -q --pa", want: "--pair"},
	{line: "cr_run --o", want: "--omit: let checkpoints leave the program out"},
	{line: "cr_run simulate --o", want: ""},
	{line: "ftb-publish --pa", want: "--payload|--payload-file|--payload-hex"},

	// Values.
	{line: "cr_checkpoint -f si", want: "sim.context|simple"},
	{line: "cr_checkpoint -vf si", want: "sim.context|simple"},
	{line: "cr_checkpoint --file si", want: "sim.context|simple"},
	{line: "cr_checkpoint --file=si", want: "--file=sim.context|--file=simple", bash: "sim.context|simple"},
	{line: "cr_checkpoint --backup=sim.", want: "--backup=sim.context", bash: "sim.context"},
	{line: "cr_checkpoint -d ", want: "empty/|jobs/|old jobs/", bash: "empty|jobs|old jobs|…"},
	{line: "cr_checkpoint --dir=j", want: "--dir=jobs/", bash: "jobs"},
	{line: "cr_checkpoint -F ", want: "1: standard output"},
	{line: "cr_checkpoint -S 1", want: "1: HUP|10|11|12|13|14|15: TERM|16|17|18|19"},
	{line: "cr_checkpoint -S TER", want: "15", not: "fish"},
	{line: "cr_checkpoint -S SIGKI", want: "9", not: "fish"},
	{line: "cr_checkpoint -S TT", want: "TTIN|TTOU", not: "fish"},
	{line: "cr_checkpoint --signal=6", want: "--signal=6: ABRT|--signal=60|--signal=61|--signal=62|--signal=63|--signal=64", bash: "6|60|61|62|63|64"},
	{line: "cr_checkpoint -t ", want: ""},
	{line: "cr_checkpoint --compress=z", want: "--compress=zstd: Zstandard, which --compress alone means", bash: "zstd"},
	{line: "cr_checkpoint --compress @", want: "@: completions.tes"},
	{line: "cr_restart -f ", want: "context.7|context.80|…"},
	{line: "cr_restart --fd=", want: "--fd=0: standard input", bash: "0"},
	{line: "cr_restart --relocate /us", want: "/usr/", bash: "/usr"},
	{line: "cr_restart --relocate=/a=/us", want: "--relocate=/a=/usr/", bash: "/usr"},
	{line: "cr_restart --relocate /a=/us", want: "/a=/usr/", bash: "/usr"},
	{line: "cr_restart --run-on-success=simulate-x", want: "--run-on-success=simulate-xyz", bash: "simulate-xyz", zsh: "simulate-xyz"},
	{line: "ftb-publish --severity ", want: "error|fatal|info|warning"},
	{line: "ftb-publish --severity=w", want: "--severity=warning", bash: "warning"},
	{line: "ftb-publish --space F", want: "FTB.checkpoint_sw.blcr: that of BLCR (default)"},
	{line: "ftb-publish --payload-file si", want: "sim.context|simple"},
	{line: "ftb-publish --payload ", want: ""},

	{line: "ftb-watch -n ", want: ""},
	{line: "ftb-watch --timeout ", want: ""},

	// Operands.
	{line: "ftb-watch jo", want: "jobid="},
	{line: "ftb-watch -n 5 event_s", want: "event_space=FTB.checkpoint_sw.blcr"},
	{line: "ftb-watch jobid=7 s", want: ""},
	{line: "cr_checkpoint @", want: "@: completions.tes"},
	{line: "cr_checkpoint -f sim.context @", want: "@: completions.tes"},
	{line: "cr_checkpoint -vT --signal=9 -- @", want: "@: completions.tes"},
	{line: "cr_checkpoint 1 @", want: ""},
	{line: "cr_checkpoint -fx 1 @", want: ""},
	{line: "cr_restart ", want: "context.7|context.80", zsh: "context.7|context.80|empty/|jobs/|old jobs/"},
	{line: "cr_restart c", want: "context.7|context.80"},
	{line: "cr_restart s", want: "sim.context|simple"},
	{line: "cr_restart jobs/", want: "jobs/context.9"},
	{line: "cr_restart context.7 ", want: ""},
	{line: "cr_restart -f context.7 ", want: ""},
	{line: "cr_restart -qfcontext.7 ", want: ""},
	{line: "cr_restart --file=context.7 ", want: ""},
	{line: "cr_restart -F 0 ", want: ""},
	{line: "cr_info c", want: "context.7|context.80"},
	{line: "cr_info --js", want: "--json: print JSON, a line for each FILE"},
	{line: "cr_info -q context.7 context.8", want: "context.80"},
	{line: "cr_info context.7 -- sim context.8", want: "context.80"},
	{line: "cr_info -- --js", want: ""},
	{line: "cr_batch simulate-x", want: "simulate-xyz"},
	{line: "cr_batch -k 3 -q -- simulate-x", want: "simulate-xyz", not: "fish"},
	{line: "cr_batch -r cr_restart --freez", want: "--freeze"},
	{line: "cr_run simulate-x", want: "simulate-xyz"},
	{line: "cr_run --omit simulate-x", want: "simulate-xyz"},
	{line: "cr_run -- simulate-x", want: "simulate-xyz"},
	{line: "cr_run --omit cr_restart --freez", want: "--freeze"},
	{line: "cr_run cr_restart --file=context.8", want: "--file=context.80", bash: "context.80"},
	{line: "cr_run simulate-xyz sim.", want: "sim.context"},
	{line: "ftb-publish RSTRT_E", want: "RSTRT_END: a restart is complete|RSTRT_ERROR"},
	{line: "ftb-publish PING RSTRT_E", want: ""},
}

// TestShells: each installed shell completes all lines. Missing shells are one failure
// if CI=true is in the environment, and otherwise one skipped test.
func TestShells(t *testing.T) {
	missing := ""
	for shell, s := range shells {
		if _, err := os.Stat(s.file); err != nil {
			missing += " " + s.pkg
			continue
		}
		t.Run(shell, func(t *testing.T) {
			shared := t.TempDir()
			if s.prepare != nil {
				s.prepare(t, shared)
			}
			complete := func(t *testing.T, line string) []string { return s.complete(t, workspace(t), shared, line) }
			testLines(t, shell, complete)
			t.Run("own processes first", func(t *testing.T) { testOwnFirst(t, complete) })
		})
	}
	if missing != "" {
		t.Run("all", func(t *testing.T) {
			harness.Missing(t, "shells that are not installed, by their packages:%s", missing)
		})
	}
}

func testLines(t *testing.T, shell string, complete func(t *testing.T, line string) []string) {
	for _, c := range lines {
		if shell == c.not {
			continue
		}
		t.Run(c.line, func(t *testing.T) {
			t.Parallel()
			pid := strconv.Itoa(os.Getpid())
			want := strings.ReplaceAll(c.want, "@", pid)
			isBash := strings.HasPrefix(shell, "bash")
			if c.bash != "" && isBash {
				want = c.bash
			}
			if c.zsh != "" && shell == "zsh" {
				want = c.zsh
			}
			got := complete(t, strings.ReplaceAll(c.line, "@", pid))
			if shell == "zsh" && strings.HasSuffix(c.line, " ") {
				// It proposes options if there is nothing else.
				got = slices.DeleteFunc(got, func(s string) bool { return strings.HasPrefix(s, "-") })
			}
			check(t, got, want, !isBash)
		})
	}
}

// check compares proposals with the expected ones.
func check(t *testing.T, got []string, want string, describes bool) {
	t.Helper()
	descriptions := map[string]string{}
	var names []string
	for _, line := range got {
		name, description, _ := strings.Cut(line, "\t")
		name = strings.ReplaceAll(name, `\ `, " ")
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
			descriptions[name] = strings.TrimSpace(description)
		}
	}
	want, more := strings.CutSuffix(want, "|…")
	var wanted []string
	for item := range strings.SplitSeq(want, "|") {
		name, description, _ := strings.Cut(item, ": ")
		if name == "" {
			continue
		}
		wanted = append(wanted, name)
		if describes && !strings.HasSuffix(descriptions[name], description) {
			t.Errorf("%s: description %q, want %q", name, descriptions[name], description)
		}
	}
	if more {
		for _, name := range wanted {
			if !slices.Contains(names, name) {
				t.Errorf("no %s in %q", name, got)
			}
		}
		return
	}
	slices.Sort(names)
	slices.Sort(wanted)
	if !slices.Equal(names, wanted) {
		t.Errorf("proposals %q, want %q", got, wanted)
	}
}

// testOwnFirst: the user's own processes are proposed before those of others.
func testOwnFirst(t *testing.T, complete func(t *testing.T, line string) []string) {
	nobody, err := user.Lookup("nobody")
	if err != nil || os.Geteuid() != 0 {
		t.Skip("only root can have another user's process")
	}
	uid, _ := strconv.ParseUint(nobody.Uid, 10, 32)
	start := func(attr *syscall.SysProcAttr) string {
		cmd := exec.Command("sleep", "60")
		cmd.SysProcAttr = attr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			cmd.Process.Kill()
			cmd.Wait()
		})
		return strconv.Itoa(cmd.Process.Pid)
	}
	other := start(&syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}})
	own := start(nil)
	var pids []string
	for _, line := range complete(t, "cr_checkpoint ") {
		pid, _, _ := strings.Cut(line, "\t")
		pids = append(pids, pid)
	}
	first, second := slices.Index(pids, own), slices.Index(pids, other)
	if first < 0 || second < first {
		t.Errorf("%s of one's own is proposal %d, %s of another user %d, of %q", own, first, other, second, pids)
	}
}
