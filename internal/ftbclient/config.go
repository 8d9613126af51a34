package ftbclient

import (
	"bytes"
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// The defaults with which the C library is built (section 1).
const (
	DefaultAgentPort     = 10809
	DefaultBootstrapPort = 14455
)

// Config is where an agent is searched for (section 1). Only the lower 16 bits of the
// ports are used, as in C.
type Config struct {
	AgentPort       int    // the local agent's TCP port
	BootstrapServer string // IPv4 address or "localhost", white space after it is ignored; "" for none
	BootstrapPort   int    // its UDP port
}

// LoadConfig reads the configuration as the C library does: each setting from its own
// variable, FTB_AGENT_PORT, FTB_BSTRAP_SERVER or FTB_BSTRAP_PORT, if that is set; else
// from the file that FTB_CONFIG_FILE names; else its default. There are no errors: a
// port that is not a number is 0, and a file that cannot be read, or is not a regular
// file, has no settings. lookup is os.LookupEnv or a function like it.
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

// Doubts returns a sentence for each port that is not the one that was probably meant:
// FTB's library uses the lower 16 bits of a number, and 0 for what is no number.
func (c *Config) Doubts() []string {
	var doubts []string
	for _, s := range []struct {
		name string
		port int
	}{{"FTB_AGENT_PORT", c.AgentPort}, {"FTB_BSTRAP_PORT", c.BootstrapPort}} {
		if s.name == "FTB_BSTRAP_PORT" && c.BootstrapServer == "" {
			continue // not used
		}
		switch port := uint16(s.port); {
		case s.port == 0:
			doubts = append(doubts, s.name+" is no number of a port, so it is 0, as in FTB's library")
		case s.port != int(port):
			doubts = append(doubts, fmt.Sprintf("%s is %d, which becomes port %d, as in FTB's library", s.name, s.port, port))
		}
	}
	return doubts
}

// maxConfig is the number of bytes of a configuration file that are read.
const maxConfig = 1 << 20

// readConfig returns the first maxConfig bytes of a regular file. Other files could
// block, or be endless. (os.ReadFile would start the poller.)
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

// pieceSize is how much of a line the C library reads at a time, including the line
// feed.
const pieceSize = 127

// find returns what follows the first = after the first key, anywhere in a line, also
// in a comment. It includes the line feed. A line without that = is skipped (the C
// library continues with whatever its memory contains there).
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

// atoi is C's atoi on a machine with a 64-bit long: leading white space, a sign,
// digits; the rest is ignored. Without digits it returns 0.
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
