// Goroutines is a program of the suite (see ../selfcheck.h for how it is run):
// goroutines that hand numbers on to each other, timers, tickers, a mutex, an
// open file, a signal handler, and memory that is collected all the time.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

var dir string

func wrong(format string, args ...any) {
	f, err := os.OpenFile(filepath.Join(dir, "wrong"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err == nil {
		fmt.Fprintf(f, format+"\n", args...)
	}
	os.Exit(1)
}

func writeFile(name, format string, args ...any) {
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path+".new", fmt.Appendf(nil, format, args...), 0o644); err != nil {
		wrong("%v", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		wrong("%v", err)
	}
}

func exists(name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

// node is one of a list that is built anew all the time and checked.
type node struct {
	next  *node
	value int
	_     [100]byte
}

func list(n int) *node {
	var head *node
	for i := range n {
		head = &node{next: head, value: i}
	}
	return head
}

func main() {
	dir = os.Args[1]
	pid := os.Getpid()

	// A ring of goroutines: each adds one to what comes by.
	const ring = 200
	first := make(chan int)
	last := first
	for range ring {
		in, out := last, make(chan int)
		go func() {
			for v := range in {
				out <- v + 1
			}
		}()
		last = out
	}

	var ticks, usr1 atomic.Int64
	go func() {
		for range time.Tick(5 * time.Millisecond) {
			ticks.Add(1)
		}
	}()
	early := time.AfterFunc(time.Hour, func() { wrong("an hour is over early") })
	defer early.Stop()
	signals := make(chan os.Signal, 10)
	signal.Notify(signals, syscall.SIGUSR1)
	go func() {
		for range signals {
			usr1.Add(1)
		}
	}()

	var mu sync.Mutex
	table := map[int]string{}
	keep := list(5000)
	file, err := os.OpenFile(filepath.Join(dir, "log"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		wrong("%v", err)
	}
	writeFile("ready", "%d 2\n", pid)

	// Processors that are busy while the process is saved.
	for range 2 {
		go func() {
			for x := uint64(1); ; {
				x = x*6364136223846793005 + 1
				if x == 0 {
					wrong("cannot be")
				}
				mu.Lock()
				table[int(x>>40)%1000] = "x"
				mu.Unlock()
				time.Sleep(time.Millisecond)
			}
		}()
	}

	count := 0
	for !exists("finish") {
		time.Sleep(10 * time.Millisecond)
		count++
		if os.Getpid() != pid {
			wrong("pid is %d, was %d", os.Getpid(), pid)
		}
		first <- count
		if got := <-last; got != count+ring {
			wrong("round the ring: %d, want %d", got, count+ring)
		}
		before := ticks.Load()
		for tries := 0; ticks.Load() == before; tries++ {
			if tries > 1000 {
				wrong("the ticker stands still")
			}
			time.Sleep(5 * time.Millisecond)
		}
		i := 4999
		for n := keep; n != nil; n = n.next {
			if n.value != i {
				wrong("list: %d, want %d", n.value, i)
			}
			i--
		}
		if i != -1 {
			wrong("list ends at %d", i)
		}
		if count%10 == 0 {
			keep = list(5000)
			runtime.GC()
		}
		was := usr1.Load()
		if err := syscall.Kill(pid, syscall.SIGUSR1); err != nil {
			wrong("kill: %v", err)
		}
		for tries := 0; usr1.Load() == was; tries++ {
			if tries > 1000 {
				wrong("no signal arrives")
			}
			time.Sleep(time.Millisecond)
		}
		fmt.Fprintf(file, "%07d\n", count)
		if st, err := file.Stat(); err != nil || st.Size() != int64(8*count) {
			wrong("log: %v, %v", st.Size(), err)
		}
		if d, err := os.ReadFile(filepath.Join(dir, "damage")); err == nil {
			os.Remove(filepath.Join(dir, "damage"))
			switch d[0] {
			case '1':
				keep.next.value++
			case '2':
				file.Truncate(3)
			}
		}
		writeFile("beat", "%020d\n", count)
	}
	os.Exit(42)
}
