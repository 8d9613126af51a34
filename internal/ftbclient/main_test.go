package ftbclient

import (
	"flag"
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
	if port := os.Getenv(aloneVar); port != "" {
		os.Exit(alone(port))
	}
	warmUp()
	goroutines, fds := runtime.NumGoroutine(), openFiles()
	status := m.Run()
	// The fuzzing engine has descriptors of its own.
	if status == 0 && flag.Lookup("test.fuzz").Value.String() == "" {
		status = leaks(goroutines, fds)
	}
	os.Exit(status)
}

// warmUp makes the runtime open what it keeps for ever.
func warmUp() {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	l.Close()
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

func leaks(goroutines int, fds string) int {
	for range 100 {
		if runtime.NumGoroutine() <= goroutines && openFiles() == fds {
			return 0
		}
		time.Sleep(10 * time.Millisecond)
	}
	stacks := make([]byte, 1<<16)
	fmt.Printf("leak: %d goroutines, were %d; descriptors:\n%swere:\n%s\n%s\n", runtime.NumGoroutine(), goroutines,
		openFiles(), fds, stacks[:runtime.Stack(stacks, true)])
	return 1
}
