package script_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// observed are the cases of the original tools on the real module.
const observed = `
ckpt_badfd ckpt_badopt ckpt_badpgid ckpt_badpid ckpt_badpid_p ckpt_badsid
ckpt_devfull ckpt_devnull ckpt_fd ckpt_help ckpt_init ckpt_init_p ckpt_isdir
ckpt_isdir_clobber ckpt_junk ckpt_mt ckpt_neg ckpt_noarg ckpt_noclobber
ckpt_nodir ckpt_nolibcr ckpt_nolibcr_p ckpt_nolibcr_q ckpt_nolibcr_warn
ckpt_of_stopped ckpt_pid_term ckpt_ptraced ckpt_ptraced_skip ckpt_rodir
ckpt_self_noclobber0 ckpt_stop ckpt_timeout0 ckpt_tree_ok ckpt_tree_shell
ckpt_tree_verbose ckpt_version ckpt_zero ckpt_zombie
enospc
nomod_ckpt nomod_rst nomod_rst2 nomod_run nomod_run2
obj_ckpt_devzero obj_ckpt_dir obj_ckpt_epoll obj_ckpt_eventfd obj_ckpt_inotify
obj_ckpt_procfile obj_ckpt_pty obj_ckpt_shanon obj_ckpt_shm obj_ckpt_tcp
obj_ckpt_udp obj_ckpt_unix obj_ckpt_unlinked obj_ckpt_urandom
obj_rst_devzero obj_rst_dir obj_rst_epoll obj_rst_eventfd obj_rst_inotify
obj_rst_procfile obj_rst_pty obj_rst_shanon obj_rst_shm obj_rst_tcp
obj_rst_udp obj_rst_unix obj_rst_unlinked obj_rst_urandom
perm_ckpt perm_ok perm_rst_other perm_rst_other2 perm_rst_rootctx
perm_rst_self
rst_almost rst_cnt rst_devnull rst_dir rst_empty rst_exit7 rst_half rst_help
rst_hook1 rst_hook2 rst_hook3 rst_hook4 rst_inuse rst_junk rst_junk300
rst_kill rst_mt rst_noarg rst_nocwd rst_noexe rst_nofile rst_nopid rst_perm
rst_reloc_exe rst_shell rst_single rst_stdin rst_stdin_default rst_term
rst_trunc rst_version
self_pid0 self_tree
`

// notReplayed is a row of the last table in the README of the scripts.
var notReplayed = regexp.MustCompile(`(?m)^\| (\w+) \| .+ \|$`)

// TestObserved checks that each observed case is replayed by a script, or that
// there is a reason why not, and that there is nothing else.
func TestObserved(t *testing.T) {
	t.Parallel()
	const dir = "testdata/script/observed"
	covered := map[string]int{}
	scripts, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range scripts {
		name := strings.TrimSuffix(filepath.Base(script), ".txtar")
		covered[strings.ReplaceAll(name, "-", "_")]++
	}
	readme, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(readme), "\n| case | reason |\n")
	if !found {
		t.Fatal("the README has no table of the cases that are not replayed")
	}
	for _, row := range notReplayed.FindAllStringSubmatch(table, -1) {
		covered[row[1]]++
	}

	for _, name := range strings.Fields(observed) {
		if n := covered[name]; n != 1 {
			t.Errorf("%s: %d scripts and rows of the README's table, want 1", name, n)
		}
		delete(covered, name)
	}
	for name := range covered {
		t.Errorf("%s: a script or a row of the README's table, but no observed case", name)
	}
}
