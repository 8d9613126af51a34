package getopttest

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"

	"blcr-cli/internal/cli/getopt"
)

// line is one command line to try.
type line struct {
	number int
	flags  byte
	args   []string // no NUL byte in any, no more than 255
}

func (l line) posix() bool    { return l.flags&(flagPosixEmpty|flagPosixOne) != 0 }
func (l line) messages() bool { return l.flags&flagMessages != 0 }

func (l line) String() string {
	env := ""
	switch {
	case l.flags&flagPosixOne != 0:
		env = "POSIXLY_CORRECT=1 "
	case l.flags&flagPosixEmpty != 0:
		env = "POSIXLY_CORRECT= "
	}
	return fmt.Sprintf("%s%q", env, l.args)
}

// generator generates command lines from the names in a table.
type generator struct {
	rng    *rand.Rand
	longs  []string
	shorts []byte
}

func newGenerator(table getopt.Table, seed int64) *generator {
	g := &generator{rng: rand.New(rand.NewPCG(uint64(seed), 0))}
	for _, o := range table {
		g.longs = append(g.longs, o.Long...)
		if o.Short != 0 {
			g.shorts = append(g.shorts, o.Short)
		}
	}
	return g
}

// lines yields the systematic ones, then random ones until there are n in all.
func (g *generator) lines(n int) iter.Seq[line] {
	return func(yield func(line) bool) {
		number := 0
		for args := range g.systematic() {
			for _, flags := range []byte{flagMessages, flagMessages | flagPosixOne} {
				number++
				if !yield(line{number, flags, args}) {
					return
				}
			}
		}
		for number < n {
			number++
			if !yield(g.line(number)) {
				return
			}
		}
	}
}

// systematic yields every prefix of every long name, and a name and one byte
// more, in every position that matters; and every byte as an option character.
func (g *generator) systematic() iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		for _, long := range g.longs {
			for i := range len(long) + 2 {
				name := "--" + (long + "x")[:i]
				for _, args := range [][]string{
					{name},
					{name, "12"},
					{"12", name},
					{name, "--", "12"},
					{name + "="},
					{name + "=x", "12"},
					{name + "=--" + long, "--" + long},
				} {
					if !yield(args) {
						return
					}
				}
			}
		}
		for i := 1; i < 256; i++ {
			c := string([]byte{byte(i)})
			for _, args := range [][]string{
				{"-" + c},
				{"-" + c, "12"},
				{"-" + c + "12", "13"},
				{"--" + c},
				{"12", "-" + c, "--", "-" + c},
			} {
				if !yield(args) {
					return
				}
			}
			for _, short := range g.shorts {
				if !yield([]string{"-" + string([]byte{short}) + c, "12"}) {
					return
				}
			}
		}
	}
}

func (g *generator) line(number int) line {
	l := line{number: number}
	if g.chance(2) {
		l.flags |= flagMessages
	}
	switch g.rng.IntN(6) {
	case 0:
		l.flags |= flagPosixEmpty
	case 1:
		l.flags |= flagPosixOne
	}
	n := g.rng.IntN(8)
	if g.chance(50) {
		n = g.rng.IntN(40)
	}
	for range n {
		l.args = append(l.args, g.element())
	}
	return l
}

// chance returns true one time in n.
func (g *generator) chance(n int) bool { return g.rng.IntN(n) == 0 }

func pick[T any](g *generator, from []T) T { return from[g.rng.IntN(len(from))] }

func (g *generator) element() string {
	switch n := g.rng.IntN(100); {
	case n < 35:
		return g.long()
	case n < 60:
		return g.cluster()
	case n < 80:
		return pick(g, operands)
	case n < 84:
		return "--"
	case n < 87:
		return "-"
	case n < 89:
		return "-?"
	case n < 90:
		return ""
	case n < 93:
		return g.junk(6)
	case n < 97:
		return g.damage(g.long())
	default:
		return g.damage(g.cluster())
	}
}

var operands = []string{
	"12", "4185", "x", "context.12", "/tmp/a b", "a=b", "=", "?", "+", "-1", "--1", "---", "- ",
	"\xff", "\xc3\xa9", "-\xc3\xa9", "--\xff",
}

// value returns text to follow a "=" or a short option.
func (g *generator) value() string {
	switch g.rng.IntN(6) {
	case 0:
		return ""
	case 1:
		return g.junk(4)
	case 2:
		return g.cluster()
	default:
		return pick(g, operands)
	}
}

// long returns a long name or the beginning of one, in most cases.
func (g *generator) long() string {
	if len(g.longs) == 0 {
		return "--" + g.junk(3)
	}
	name := pick(g, g.longs)
	switch g.rng.IntN(8) {
	case 0, 1, 2: // in full
	case 3:
		name += string(rune('a' + g.rng.IntN(26)))
	default:
		name = name[:g.rng.IntN(len(name)+1)]
	}
	dashes := "--"
	if g.chance(20) {
		dashes = pick(g, []string{"-", "---", ""})
	}
	if g.chance(3) {
		name += "=" + g.value()
	}
	return dashes + name
}

// cluster returns one or more short options, in most cases.
func (g *generator) cluster() string {
	var s strings.Builder
	s.WriteByte('-')
	for range 1 + g.rng.IntN(4) {
		if len(g.shorts) == 0 || g.chance(8) {
			s.WriteByte(pick(g, []byte("??-:;=W+xZ0 \x01\x7f\x80\xff")))
		} else {
			s.WriteByte(pick(g, g.shorts))
		}
	}
	if g.chance(5) {
		s.WriteString(pick(g, operands))
	}
	return s.String()
}

// junk returns up to n bytes, none of them NUL.
func (g *generator) junk(n int) string {
	b := make([]byte, g.rng.IntN(n+1))
	for i := range b {
		b[i] = byte(1 + g.rng.IntN(255))
		if g.chance(3) {
			b[i] = pick(g, []byte("-=?:;"))
		}
	}
	return string(b)
}

// damage changes, adds or removes one byte.
func (g *generator) damage(s string) string {
	i := g.rng.IntN(len(s) + 1)
	c := string([]byte{byte(1 + g.rng.IntN(255))})
	if g.chance(2) {
		c = pick(g, []string{"-", "=", "?", ":"})
	}
	switch {
	case g.chance(3) || i == len(s):
		return s[:i] + c + s[i:]
	case g.chance(2):
		return s[:i] + s[i+1:]
	default:
		return s[:i] + c + s[i+1:]
	}
}
