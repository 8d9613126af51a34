package attributes

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestRemoved: a removed file is noted, once, and another one gets what it had. What might give
// power is not set, and a file that has a name is left alone.
func TestRemoved(t *testing.T) {
	when := time.Unix(2000, 987654321)
	file := func(name string) *os.File {
		f, err := os.Create(filepath.Join(t.TempDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	remove := func(f *os.File) *os.File {
		if err := os.Remove(f.Name()); err != nil {
			t.Fatal(err)
		}
		return f
	}
	from := file("from")
	if err := os.Chtimes(from.Name(), when, when); err != nil {
		t.Fatal(err)
	}
	attribute := unix.Fsetxattr(int(from.Fd()), "user.mark", []byte("saved"), 0) == nil
	d := newDescriptorSaver()
	if noted := d.removed(os.Getpid(), int(from.Fd())); noted != "" {
		t.Errorf("one with a name: %q", noted)
	}
	noted := d.removed(os.Getpid(), int(remove(from).Fd()))
	if again := d.removed(os.Getpid(), int(from.Fd())); noted == "" || again != "" {
		t.Fatalf("noted %q, and again %q", noted, again)
	}
	to, named := remove(file("to")), file("named")
	_, noted, _ = strings.Cut(noted, ":")
	const security = ",73656375726974792e78=61" // security.x
	for _, f := range []*os.File{to, named} {
		setRemoved(os.Getpid(), strconv.Itoa(int(f.Fd()))+":"+noted+security+";99999:0:0:;x")
		var value [16]byte
		n, _ := unix.Fgetxattr(int(f.Fd()), "user.mark", value[:])
		st, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if got := st.ModTime().Equal(when); got != (f == to) || attribute && (n == 5) != (f == to) {
			t.Errorf("%s: of %v, attribute %q", f.Name(), st.ModTime(), value[:max(n, 0)])
		}
		if n, err := unix.Fgetxattr(int(f.Fd()), "security.x", value[:]); err == nil {
			t.Errorf("security.x has %d bytes", n)
		}
	}
}
