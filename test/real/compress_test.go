//go:build real

package real

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestCompressed takes programs through the cycles with contexts that are
// compressed: those with much memory, with threads, with processes, and with
// files that travel in the context.
func TestCompressed(t *testing.T) {
	engine(t)
	for _, name := range []string{"big", "memfd", "mmap_deleted", "posix_shm", "torn", "threads", "tree", "unlinked_big", "goroutines", "python.py"} {
		p := programs[slices.IndexFunc(programs, func(p program) bool { return p.name == name })]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := newJob(t, name)
			j.launch()
			for n, how := range []string{"--compress", "--compress=zstd:4", "--compress=zstd:19"} {
				j.with = []string{how}
				j.cycle(p, n)
			}
			j.throughPipes(p)
			if p.runOn {
				j.with = []string{"--compress"}
				j.goOn(p)
			}
			j.finish()
		})
	}
}

// throughPipes saves and kills the job into a pipe, and restores it out of one.
func (j *job) throughPipes(p program) {
	j.t.Helper()
	all := tree(j.pid)
	r, w, err := os.Pipe()
	if err != nil {
		j.t.Fatal(err)
	}
	save := j.start("cr_checkpoint", []string{filepath.Join(bin, "cr_checkpoint"), "--compress", "--kill", "-F", "3", strconv.Itoa(j.pid)}, nil, w.Fd())
	w.Close()
	context, err := io.ReadAll(r)
	r.Close()
	if err != nil {
		j.t.Fatal(err)
	}
	j.silent(save, j.wait(save))
	j.killed(all)
	if !isCompressed(context) {
		j.t.Errorf("the context begins %.300q", context)
	}

	if r, w, err = os.Pipe(); err != nil {
		j.t.Fatal(err)
	}
	go func() {
		_, _ = w.Write(context)
		w.Close()
	}()
	before := j.beat()
	keepClear(j.pid)
	args := append(slices.Clone(p.restart), "-F", "3")
	j.proc = j.start("cr_restart", append([]string{filepath.Join(bin, "cr_restart")}, args...), nil, r.Fd())
	r.Close()
	j.advances()
	if j.beat() < before {
		j.t.Errorf("the counter goes back from %d to %d", before, j.beat())
	}
	j.inspect(args)
}

func isCompressed(context []byte) bool {
	text := context[:min(4032, len(context))]
	return bytes.HasPrefix(text, []byte("blcr-cli context 3\n")) && bytes.Contains(text, []byte("\ncompression: zstd\n"))
}

// TestCompressedSize: it is smaller, and --compress=none takes it back.
func TestCompressedSize(t *testing.T) {
	engine(t)
	j := newJob(t, "python.py")
	j.launch()
	ctx := filepath.Join(j.dir, "ctx")
	saved := func(options ...string) (context []byte) {
		t.Helper()
		j.checkpoint(ctx, append(options, "--save-all", strconv.Itoa(j.pid))...)
		context, err := os.ReadFile(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return context
	}
	plain, one, three, none := saved(), saved("--compress"), saved("--compress=zstd:3"), saved("--compress", "--compress=none")
	t.Logf("%d bytes become %d, and %d at level 3", len(plain), len(one), len(three))
	if !isCompressed(one) || !isCompressed(three) || max(len(one), len(three)) > len(plain)/2 {
		t.Errorf("%d bytes become %d, and %d at level 3", len(plain), len(one), len(three))
	}
	if isCompressed(plain) || isCompressed(none) || len(none) < len(plain)-1<<20 {
		t.Errorf("not compressed: %d bytes became %d", len(plain), len(none))
	}
	j.finish()
}

// TestFaultCompressed: what may go wrong while there is something to compress.
func TestFaultCompressed(t *testing.T) {
	v := newVictim(t)
	v.with = []string{"--compress"}
	v.checkpoint(v.ctx, strconv.Itoa(v.pid))
	v.note()
	small := filepath.Join(v.dir, "small")
	if err := os.Mkdir(small, 0o755); err != nil {
		t.Fatal(err)
	}
	// Of which half the context fills the one and all but a page the other.
	for _, size := range []int{len(v.old) / 2, len(v.old) - 2*4096} {
		if err := unix.Mount("small", small, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
			t.Skip(err)
		}
		ctx := filepath.Join(small, "ctx")
		v.fails(v.command("cr_checkpoint", "--compress", "--kill", "-f", ctx, strconv.Itoa(v.pid)), 28,
			"Checkpoint failed: No space left on device\n- writing '"+small+"/.ctx.tmp': No space left on device\n- the file system "+small+" (tmpfs) has ...")
		if entries, _ := os.ReadDir(small); len(entries) != 0 {
			t.Errorf("left: %v", entries)
		}
		unix.Unmount(small, unix.MNT_DETACH)
		v.intact()
	}
	v.fails(v.shell(`exec cr_checkpoint --compress --kill -F 1 $0 >/dev/full`), 28, "Checkpoint failed: No space left on device\n- writing '<fd1>': No space left on device\n")
	v.intact()
	v.fails(v.shell(`ulimit -f 1000; exec cr_checkpoint --compress --kill -f "$1" $0`), 27, "Checkpoint failed: File too large\n...")
	v.intact()
	for _, n := range []string{"100", "1000000"} {
		v.fails(v.shell(`{ cr_checkpoint --compress --kill -F 1 $0; echo $? >status; } | head -c `+n+` >/dev/null; exit $(cat status)`), 32,
			"Checkpoint failed: Broken pipe\n- writing '<fd1>': Broken pipe\n")
		v.intact()
	}
	// A reader that does not read.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := v.start("cr_checkpoint", []string{filepath.Join(bin, "cr_checkpoint"), "--compress", "--time", "1", "--kill", "-F", "3", strconv.Itoa(v.pid)}, nil, w.Fd())
	w.Close()
	v.fails(p, 62, "Checkpoint failed: Timer expired\n")
	r.Close()
	v.intact()
	// Ended and killed at any moment.
	for n := range 16 {
		sig := []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGKILL, unix.SIGHUP}[n%4]
		p := v.command("cr_checkpoint", "--compress", "-f", v.ctx, strconv.Itoa(v.pid))
		time.Sleep(rand.N(400 * time.Millisecond))
		if sig == unix.SIGKILL {
			for _, pid := range childrenOf(p.pid) {
				_ = syscall.Kill(pid, sig)
			}
		}
		_ = syscall.Kill(p.pid, sig)
		end := v.wait(p)
		stderr, _ := os.ReadFile(p.stderr)
		v.workersGone()
		if end == 0 || sig == unix.SIGKILL {
			v.note() // it is the old one or the new one, and complete
			if at := len(v.old) - 64; at < 4096 || !bytes.HasPrefix(v.old[at:], []byte("\x00END\r\n\x1a\n")) {
				t.Fatalf("round %d: what is left of the context, %d bytes, is not complete", n, len(v.old))
			}
		}
		if end != 0 && (!end.Signaled() || end.Signal() != sig) && sig != unix.SIGKILL || len(stderr) > 0 && sig != unix.SIGKILL {
			t.Errorf("%v: cr_checkpoint ends so: %s\n%s", sig, describe(end), stderr)
		}
		if sig == unix.SIGKILL {
			v.intact(".ctx.tmp", ".ctx.old") // of which the next run takes care, if it comes to that
			_, _ = os.Remove(v.dir+"/to/.ctx.tmp"), os.Remove(v.dir+"/to/.ctx.old")
		} else {
			v.intact()
		}
		v.forgetScratch()
	}
	v.checkpoint(v.ctx, strconv.Itoa(v.pid))
	v.note()
	v.intact()
	v.finish()
}

// TestFaultCompressedContext: no part of a compressed context may be damaged
// without a restart noticing, memory included.
func TestFaultCompressedContext(t *testing.T) {
	engine(t)
	j := newJob(t, "big")
	j.launch()
	ctx := filepath.Join(j.dir, "ctx")
	j.checkpoint(ctx, "--kill", "--compress", strconv.Itoa(j.pid))
	j.killed([]int{j.pid})
	good, err := os.ReadFile(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 12 {
		bad := bytes.Clone(good)
		// Most of it is frames of memory.
		at := 4096 + rand.IntN(len(bad)-8192)
		if n%3 == 0 {
			bad = bad[:at]
		} else {
			bad[at] ^= 1 << rand.IntN(8)
		}
		j.write("bad", string(bad))
		p := j.command("cr_restart", filepath.Join(j.dir, "bad"))
		if end := j.wait(p); end == 0 {
			t.Errorf("byte %d: %s", at, describe(end))
		}
		stderr, _ := os.ReadFile(p.stderr)
		want := "Restart failed: Invalid argument\n- context: "
		if n%3 == 0 {
			want = "Restart failed: Input/output error\n- context: truncated: "
		}
		if s := string(stderr); !strings.HasPrefix(s, want) {
			t.Errorf("byte %d: %q", at, s)
		} else if n < 4 {
			t.Log(s)
		}
		j.nothing()
	}
	j.restart(ctx)
	j.finish()
}

// TestCompressSmallDisk: a compressed context gets onto a disk that has room for it, though
// not for all that is allocated in advance on a larger one.
func TestCompressSmallDisk(t *testing.T) {
	engine(t)
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	image := dir + ".img"
	if out, err := exec.Command("sh", "-ec", "truncate -s 64M $0; mkfs.ext4 -q $0; mount -o loop $0 $1", image, dir).CombinedOutput(); err != nil {
		t.Skipf("no file system in a file here: %s", out)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	j := newJob(t, "counter")
	j.launch()
	ctx := filepath.Join(dir, "ctx")
	for _, how := range []string{"--compress", "--nosync"} {
		j.checkpoint(ctx, how, strconv.Itoa(j.pid))
	}
	var st unix.Stat_t
	if err := unix.Stat(ctx, &st); err != nil || st.Blocks*512 > st.Size+1<<20 {
		t.Errorf("%d bytes take %d, %v", st.Size, st.Blocks*512, err)
	}
	j.finish()
}
