package blcrevents

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	// What the runtime opens when it is first needed, it keeps for ever.
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	l.Close()
	goroutines, files := runtime.NumGoroutine(), openFiles()
	status := m.Run()
	if status == 0 {
		status = leaks(goroutines, files)
	}
	os.Exit(status)
}

// openFiles lists descriptors without opening one.
func openFiles() string {
	var b strings.Builder
	link := make([]byte, 200)
	for fd := range 1024 {
		if n, err := unix.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd), link); err == nil {
			fmt.Fprintf(&b, "%d %s\n", fd, link[:n])
		}
	}
	return b.String()
}

func leaks(goroutines int, files string) int {
	for range 100 {
		if runtime.NumGoroutine() <= goroutines && openFiles() == files {
			return 0
		}
		time.Sleep(10 * time.Millisecond)
	}
	stacks := make([]byte, 1<<16)
	fmt.Printf("leak: %d goroutines, were %d; descriptors:\n%swere:\n%s\n%s\n", runtime.NumGoroutine(), goroutines,
		openFiles(), files, stacks[:runtime.Stack(stacks, true)])
	return 1
}
