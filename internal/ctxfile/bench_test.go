package ctxfile

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// benchSize is the size of the image, in bytes; CONTEXT_BENCH_MIB changes it.
func benchSize() int {
	if mib, err := strconv.Atoi(os.Getenv("CONTEXT_BENCH_MIB")); err == nil {
		return mib << 20
	}
	return 1 << 30
}

// feeder starts a process that gives away n bytes of its memory as criu does,
// and returns the pipe's end to read and a func that waits for the process.
func feeder(b *testing.B, n int) (r int, wait func()) {
	pr, pw, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	cmd := asRole("feed")
	cmd.Env = append(cmd.Env, "CONTEXT_TEST_BYTES="+strconv.Itoa(n))
	cmd.Stdout = pw
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	pw.Close()
	return int(pr.Fd()), func() {
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
		pr.Close()
	}
}

// BenchmarkWrite has one big image of memory stored in TMPDIR: by splice or
// not, with fsync or not.
func BenchmarkWrite(b *testing.B) {
	for _, sync := range []bool{false, true} {
		for _, splice := range []bool{true, false} {
			b.Run(fmt.Sprintf("splice=%v/fsync=%v", splice, sync), func(b *testing.B) {
				b.SetBytes(int64(benchSize()))
				var total, sums time.Duration // of the fastest
				for range b.N {
					b.StopTimer()
					f, err := os.CreateTemp("", "context")
					if err != nil {
						b.Fatal(err)
					}
					os.Remove(f.Name())
					w, err := NewWriter(int(f.Fd()), someHeader, 0)
					if err != nil {
						b.Fatal(err)
					}
					w.noSplice.Store(!splice)
					b.StartTimer()
					r, wait := feeder(b, benchSize())
					begun := time.Now()
					if err := w.Pipe("pages-1.img", r, true); err != nil {
						b.Fatal(err)
					}
					stored := time.Now()
					if err := w.Close(); err != nil {
						b.Fatal(err)
					}
					closed := time.Now()
					if sync {
						f.Sync()
					}
					if d := time.Since(begun); total == 0 || d < total {
						total = d
					}
					if d := closed.Sub(stored); sums == 0 || d < sums {
						sums = d
					}
					b.StopTimer()
					wait()
					f.Close()
					b.StartTimer()
				}
				b.ReportMetric(float64(sums.Milliseconds()), "ms-sums")
				b.ReportMetric(float64(total.Milliseconds()), "ms-total")
			})
		}
	}
}

// BenchmarkServe has it read from a pipe: with a checksum to be verified first
// or not, and without splice.
func BenchmarkServe(b *testing.B) {
	f, err := os.CreateTemp("", "context")
	if err != nil {
		b.Fatal(err)
	}
	os.Remove(f.Name())
	defer f.Close()
	w, err := NewWriter(int(f.Fd()), someHeader, 0)
	if err != nil {
		b.Fatal(err)
	}
	r, wait := feeder(b, benchSize())
	if err := w.Pipe("pages-1.img", r, true); err != nil {
		b.Fatal(err)
	}
	wait()
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	for _, how := range []string{"splice", "verify", "copy"} {
		b.Run(how, func(b *testing.B) {
			unix.Seek(int(f.Fd()), 0, unix.SEEK_SET)
			r, err := Open(context.Background(), int(f.Fd()))
			if err != nil {
				b.Fatal(err)
			}
			defer r.Close()
			e := r.byName["pages-1.img"]
			b.SetBytes(int64(benchSize()))
			b.ResetTimer()
			for range b.N {
				if how == "verify" {
					if _, err := r.Verify(func(d Damage) { b.Error(d) }); err != nil {
						b.Fatal(err)
					}
					continue
				}
				pr, pw := pipe2(b)
				done := make(chan error, 1)
				go func() {
					var err error
					if how == "copy" {
						enlarge(pw)
						p, _ := r.calls.openPipe(pw)
						err = (&extentServer{r: r, entry: e, left: e.extents}).copy(p)
						p.close()
					} else {
						err = r.Serve("pages-1.img", pw)
					}
					unix.Close(pw)
					done <- err
				}()
				buf := make([]byte, 1<<20)
				for {
					if n, err := unix.Read(pr, buf); n == 0 || err != nil {
						break
					}
				}
				unix.Close(pr)
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCompress has an image compressed and served whose pages are empty,
// noise, and text.
func BenchmarkCompress(b *testing.B) {
	data := mixed(64 << 20)
	for _, level := range []int{1, 3, 6} {
		fd := memfd(b, nil)
		defer unix.Close(fd)
		b.Run(fmt.Sprintf("write/level=%d", level), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for range b.N {
				unix.Ftruncate(fd, 0)
				seek(b, fd, 0)
				if err := (images{"pages-1.img": data}).saveCompressed(b, fd, level); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("serve/level=%d", level), func(b *testing.B) {
			seek(b, fd, 0)
			r, err := Open(context.Background(), fd)
			if err != nil {
				b.Fatal(err)
			}
			defer r.Close()
			b.SetBytes(int64(len(data)))
			buf := make([]byte, 1<<20)
			for range b.N {
				pr, pw := pipe2(b)
				served := make(chan error, 1)
				go func() {
					served <- r.Serve("pages-1.img", pw)
					unix.Close(pw)
				}()
				for {
					if n, err := unix.Read(pr, buf); n == 0 || err != nil {
						break
					}
				}
				unix.Close(pr)
				if err := <-served; err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
