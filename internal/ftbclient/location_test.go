package ftbclient

import (
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestStartTime(t *testing.T) {
	at := time.Date(2009, 2, 13, 23, 31, 30, 4242000, time.UTC)
	if s := startTime(at); s != "Fri_Feb_13_044_23:31:30.004242" {
		t.Error(s)
	}
	// The longest value; 31 bytes would fit.
	if s := startTime(time.Date(2024, 12, 31, 0, 0, 0, 999999999, time.UTC)); s != "Tue_Dec_31_366_00:00:00.999999" {
		t.Error(s)
	}
	if s := startTime(time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)); s != "Tue_Jan_02_002_03:04:05.000000" {
		t.Error(s)
	}
}

// Also if the clock stands still or goes backwards.
func TestUniqueTime(t *testing.T) {
	seen := map[int64]bool{}
	now := time.Now()
	for i := range 1000 {
		u := uniqueTime(now.Add(-time.Duration(i) * time.Millisecond)).UnixMicro()
		if seen[u] {
			t.Fatal(u)
		}
		seen[u] = true
	}
	times := make(chan int64, 4000)
	for range 4 {
		go func() {
			for range 1000 {
				times <- uniqueTime(time.Now()).UnixMicro()
			}
		}()
	}
	for range 4000 {
		u := <-times
		if seen[u] {
			t.Fatal(u)
		}
		seen[u] = true
	}
}

func TestLocation(t *testing.T) {
	l := newLocation()
	if int(l.PID) != os.Getpid() {
		t.Errorf("%+v", l)
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Skipf("no list of interfaces: %v", err)
	}
	var addresses []string
	for _, i := range interfaces {
		if strings.HasPrefix(i.Name, "lo") {
			continue
		}
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			if ip := a.(*net.IPNet).IP.To4(); ip != nil {
				addresses = append(addresses, ip.String())
			}
		}
	}
	if len(addresses) == 0 {
		addresses = []string{"127.0.0.1"}
	}
	if !slices.Contains(addresses, l.Hostname) {
		t.Errorf("%s is none of %v", l.Hostname, addresses)
	}
}
