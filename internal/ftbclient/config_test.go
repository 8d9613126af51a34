package ftbclient

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLoadConfig(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	plain := Config{10809, "", 14455}
	for _, c := range []struct {
		name string
		env  map[string]string
		file string // FTB_CONFIG_FILE's text, if not empty
		want Config
	}{
		{"nothing", nil, "", plain},
		{"environment", map[string]string{"FTB_AGENT_PORT": "1", "FTB_BSTRAP_PORT": "2", "FTB_BSTRAP_SERVER": "s"}, "", Config{1, "s", 2}},
		{"garbage", map[string]string{"FTB_AGENT_PORT": "x", "FTB_BSTRAP_PORT": "-"}, "", Config{0, "", 0}},
		{"set and empty", map[string]string{"FTB_AGENT_PORT": "", "FTB_BSTRAP_PORT": "", "FTB_BSTRAP_SERVER": ""}, "", Config{0, "", 0}},
		{"other variables", map[string]string{"FTB_LOGFILE": "x", "FTB_DEBUG": "1"}, "", plain},
		{"file", nil, "FTB_AGENT_PORT=1\nFTB_BSTRAP_PORT=2\nFTB_BSTRAP_SERVER=10.0.0.1\n", Config{1, "10.0.0.1\n", 2}},
		{"environment before file", map[string]string{"FTB_AGENT_PORT": "7"}, "FTB_AGENT_PORT=1\nFTB_BSTRAP_PORT=2\n", Config{7, "", 2}},
		{"empty variable before file", map[string]string{"FTB_BSTRAP_SERVER": ""}, "FTB_BSTRAP_SERVER=10.0.0.1", plain},
		{"no line feed", nil, "FTB_BSTRAP_SERVER=localhost", Config{10809, "localhost", 14455}},
		{"first line counts", nil, "FTB_AGENT_PORT=1\nFTB_AGENT_PORT=2\n", Config{1, "", 14455}},
		{"comment counts", nil, "# FTB_AGENT_PORT=1\nFTB_AGENT_PORT=2\n", Config{1, "", 14455}},
		{"within a word", nil, "MYFTB_AGENT_PORTX =1\n", Config{1, "", 14455}},
		{"first =", nil, "A=5 FTB_AGENT_PORT = 1 = 2\n", Config{1, "", 14455}},
		{"no =", nil, "FTB_AGENT_PORT 1\nFTB_AGENT_PORT=2\n", Config{2, "", 14455}},
		{"case", nil, "ftb_agent_port=1\n", plain},
		{"no number", nil, "FTB_AGENT_PORT=x\n", Config{0, "", 14455}},
		{"long line, in pieces", nil, strings.Repeat("x", 120) + "FTB_AGENT_PORT=1\n", plain},
		{"second piece", nil, strings.Repeat("x", 127) + "FTB_AGENT_PORT=1\n", Config{1, "", 14455}},
		{"value cut off", nil, strings.Repeat("x", 127-17) + "FTB_AGENT_PORT=12345\n", Config{12, "", 14455}},
		{"NUL", nil, "\x00FTB_AGENT_PORT=1\nFTB_BSTRAP_PORT=\x002\n", Config{10809, "", 0}},
		{"no such file", map[string]string{"FTB_CONFIG_FILE": filepath.Join(dir, "none")}, "", plain},
		{"no name", map[string]string{"FTB_CONFIG_FILE": ""}, "", plain},
		{"directory", map[string]string{"FTB_CONFIG_FILE": dir}, "", plain},
		{"FIFO", map[string]string{"FTB_CONFIG_FILE": fifo}, "", plain},
		{"endless", map[string]string{"FTB_CONFIG_FILE": "/dev/zero"}, "", plain},
	} {
		t.Run(c.name, func(t *testing.T) {
			env := map[string]string{}
			for k, v := range c.env {
				env[k] = v
			}
			if c.file != "" {
				env["FTB_CONFIG_FILE"] = filepath.Join(t.TempDir(), "ftb.conf")
				if err := os.WriteFile(env["FTB_CONFIG_FILE"], []byte(c.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got := LoadConfig(func(k string) (string, bool) { v, ok := env[k]; return v, ok })
			if got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

// Expected values are glibc's.
func TestAtoi(t *testing.T) {
	for s, want := range map[string]int{
		"": 0, "x": 0, "10809": 10809, " \t\n\v\f\r12": 12, "+5": 5, "-5": -5, "- 5": 0, "+-5": 0, "12abc": 12, "0x10": 0, "010": 10,
		"2147483648": -2147483648, "4294967297": 1, "9223372036854775807": -1, "9223372036854775808": -1, "-9223372036854775808": 0,
		"99999999999999999999999": -1, "-99999999999999999999999": 0, "1 2": 1, "12\n": 12,
	} {
		if got := atoi(s); got != want {
			t.Errorf("atoi(%q) = %d, want %d", s, got, want)
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte("FTB_AGENT_PORT=1\n"), "FTB_AGENT_PORT")
	f.Add([]byte(strings.Repeat("x", 300)+"=\x00=\n"), "x=")
	f.Fuzz(func(t *testing.T, file []byte, key string) {
		if s, ok := find(file, key); len(s) >= pieceSize || s != "" && !ok {
			t.Errorf("%q, %v", s, ok)
		} else if p := atoi(s); int(int32(p)) != p {
			t.Errorf("%q is %d", s, p)
		}
	})
}

func TestBootstrapAddress(t *testing.T) {
	for s, want := range map[string]string{
		"127.0.0.1": "127.0.0.1:77", "localhost": "127.0.0.1:77", "10.1.2.3\n": "10.1.2.3:77", "10.1.2.3 \t\r\n": "10.1.2.3:77",
		"localhost\n": "127.0.0.1:77",
		"":            "", "Localhost": "", "example.org": "", "127.1": "", "1.2.3": "", "1.2.3.4.5": "", "256.0.0.1": "", "::1": "", " 1.2.3.4": "",
		"::ffff:1.2.3.4": "", "1.2.3.4:5": "",
	} {
		at, ok := (&Config{BootstrapServer: s, BootstrapPort: 65536 + 77}).bootstrap()
		if ok != (want != "") || ok && at.String() != want {
			t.Errorf("%q: %v, %v", s, at, ok)
		}
	}
}
