//go:build real

package real

import (
	"strconv"
	"testing"
)

// TestEndsAtOnce: a program with many threads that ends as soon as it runs again. CRIU
// must not find a thread gone that it has not let go.
func TestEndsAtOnce(t *testing.T) {
	engine(t)
	j := newJob(t, "atonce")
	j.write("threads.py", `import os, threading, time
for i in range(32):
	threading.Thread(target=time.sleep, args=(10000,), daemon=True).start()
open("ready", "w").close()
while not os.access("go", os.F_OK):
	pass
os._exit(7)
`)
	p := j.run("/usr/bin/python3", "threads.py")
	j.until("the program to be ready", func() bool { return j.exists("ready") })
	save := j.command("cr_checkpoint", "--kill", "-f", "ctx", strconv.Itoa(p.pid))
	j.silent(save, j.wait(save))
	j.wait(p)
	j.write("go", "")
	times := 20
	if testing.Short() {
		times = 5
	}
	for range times {
		j.ends(j.again("ctx"), 7, "", "")
	}
	j.nothing()
}
