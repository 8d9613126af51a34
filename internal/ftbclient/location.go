package ftbclient

import (
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ftbclient/wire"
)

// newLocation returns the Location for a new connection of this process.
func newLocation() wire.Location {
	return wire.Location{Hostname: hostAddress(), StartTime: startTime(uniqueTime(time.Now())), PID: int32(os.Getpid())}
}

// startTime returns the time in the C library's format (section 3.1), which has seconds
// only, with microseconds added. Without them, an agent takes connections of one
// process within a second for the same one, and events are lost (section 7).
func startTime(t time.Time) string {
	return t.UTC().Format("Mon_Jan_02_002_15:04:05.000000")
}

var lastTime atomic.Int64 // in microseconds since 1970

// uniqueTime returns the present time, or a later microsecond that it has not returned
// before.
func uniqueTime(now time.Time) time.Time {
	for {
		last := lastTime.Load()
		t := max(now.UnixMicro(), last+1)
		if lastTime.CompareAndSwap(last, t) {
			return time.UnixMicro(t)
		}
	}
}

// hostAddress returns the first IPv4 address, in the kernel's order, of an interface
// whose name does not begin with "lo" (section 5, as in FTB 0.6.2). If there is none it
// returns 127.0.0.1, as in 0.6.1.
func hostAddress() string {
	const none = "127.0.0.1"
	// As in package net and getifaddrs.
	b, err := syscall.NetlinkRIB(unix.RTM_GETADDR, unix.AF_INET)
	if err != nil {
		return none
	}
	messages, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return none
	}
	for _, m := range messages {
		if m.Header.Type != unix.RTM_NEWADDR || len(m.Data) < 1 || m.Data[0] != unix.AF_INET {
			continue
		}
		attrs, err := syscall.ParseNetlinkRouteAttr(&m)
		if err != nil {
			continue
		}
		var name, address string
		for _, a := range attrs {
			switch {
			case a.Attr.Type == unix.IFA_LABEL:
				name = strings.TrimRight(string(a.Value), "\x00")
			case a.Attr.Type == unix.IFA_LOCAL && len(a.Value) == 4:
				address = ipv4(a.Value).String()
			}
		}
		if address != "" && name != "" && !strings.HasPrefix(name, "lo") {
			return address
		}
	}
	return none
}
