package ftbclient

import (
	"bytes"
	"math"

	"golang.org/x/sys/unix"
)

// What the C library is built with unless told otherwise (section 1).
const (
	DefaultAgentPort     = 10809
	DefaultBootstrapPort = 14455
)

// Config says where an agent may be found (section 1). Of the ports only the
// lower 16 bits count, as in C.
type Config struct {
	AgentPort       int    // TCP; of the local agent
	BootstrapServer string // IPv4 address or "localhost", white space behind it is ignored; "" is none
	BootstrapPort   int    // UDP
}

// LoadConfig reads the configuration as the C library does: each setting from
// its own variable, FTB_AGENT_PORT, FTB_BSTRAP_SERVER or FTB_BSTRAP_PORT, if
// that is set at all; else from the file that FTB_CONFIG_FILE names; else its
// default. There are no errors: a port is 0 if it is no number, and a file that
// cannot be read, or is no regular file, has no settings. lookup is
// os.LookupEnv, or the like.
func LoadConfig(lookup func(name string) (value string, set bool)) Config {
	var file []byte
	name, named := lookup("FTB_CONFIG_FILE")
	setting := func(key string) (string, bool) {
		if value, ok := lookup(key); ok || !named {
			return value, ok
		}
		if file == nil {
			file = append([]byte{}, readConfig(name)...)
		}
		return find(file, key)
	}

	cfg := Config{AgentPort: DefaultAgentPort, BootstrapPort: DefaultBootstrapPort}
	if s, ok := setting("FTB_AGENT_PORT"); ok {
		cfg.AgentPort = atoi(s)
	}
	if s, ok := setting("FTB_BSTRAP_PORT"); ok {
		cfg.BootstrapPort = atoi(s)
	}
	cfg.BootstrapServer, _ = setting("FTB_BSTRAP_SERVER")
	return cfg
}

// maxConfig is how many bytes of a configuration file are looked at.
const maxConfig = 1 << 20

// readConfig returns the start of a regular file. Anything else might block,
// or have no end. (os.ReadFile would start the poller.)
func readConfig(name string) []byte {
	fd, err := ignoringEINTR(func() (int, error) {
		return unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	b := make([]byte, min(st.Size, maxConfig))
	done := 0
	for done < len(b) {
		n, err := ignoringEINTR(func() (int, error) { return unix.Read(fd, b[done:]) })
		if err != nil {
			return nil
		}
		if n == 0 {
			break
		}
		done += n
	}
	return b[:done]
}

// pieceSize is what C reads of a line at a time, the line feed included.
const pieceSize = 127

// find returns what follows the first = behind the first key, anywhere in a
// line, comments too; the line feed included. A line without that = is passed
// over (C goes on in whatever its memory holds there).
func find(file []byte, key string) (string, bool) {
	for len(file) > 0 {
		n := min(pieceSize, len(file))
		if i := bytes.IndexByte(file[:n], '\n'); i >= 0 {
			n = i + 1
		}
		piece, _, _ := bytes.Cut(file[:n], []byte{0})
		file = file[n:]
		if i := bytes.Index(piece, []byte(key)); i >= 0 {
			if _, value, ok := bytes.Cut(piece[i:], []byte{'='}); ok {
				return string(value), true
			}
		}
	}
	return "", false
}

// atoi is C's on a machine with a 64-bit long: leading white space, a sign,
// digits, whatever follows ignored; 0 without digits.
func atoi(s string) int {
	i := 0
	for i < len(s) && isSpace(s[i]) {
		i++
	}
	negative := false
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		negative = s[i] == '-'
		i++
	}
	var v int64
	for ; i < len(s) && '0' <= s[i] && s[i] <= '9'; i++ {
		digit := int64(s[i] - '0')
		if v > (math.MaxInt64-digit)/10 {
			// strtol's limits, as an int.
			if negative {
				return 0
			}
			return -1
		}
		v = 10*v + digit
	}
	if negative {
		v = -v
	}
	return int(int32(v))
}

// isSpace is C's isspace in the C locale.
func isSpace(c byte) bool {
	return c == ' ' || '\t' <= c && c <= '\r'
}
