package explain

import (
	"regexp"
	"strings"
	"sync"
	"syscall"
)

// rule turns one kind of line of CRIU's log into a sentence. The lines are those of
// CRIU 3.17 to 4.2.
type rule struct {
	has  string // in every line of that kind; the expression is tried only there
	expr pattern
	// errno is what the line comes to, 0 for the text of strerror(3) that it
	// ends with.
	errno syscall.Errno
	// say makes the sentence from the expression's groups; "" if the line turns
	// out to be another kind.
	say  func(s *situation, m []string) string
	hint string // what to do, "" if nothing is known to help
}

// match finds the number and the sentence for a line, and what to do; 0 and "" where
// there are none.
func (s *situation) match(rules []rule, text string) (errno syscall.Errno, sentence, hint string) {
	for _, r := range rules {
		if !strings.Contains(text, r.has) {
			continue
		}
		if m := r.expr.compiled().FindStringSubmatch(text); m != nil {
			s.hint = r.hint
			if sentence = r.say(s, m); sentence == "" {
				continue
			}
			if errno = r.errno; errno == 0 {
				errno = lastErrno(text)
			}
			return errno, sentence, s.hint
		}
	}
	return 0, "", ""
}

// pattern is a regular expression that is compiled when it is first needed: only
// failures need it, and every start of a command would have to wait for it.
type pattern string

var compiledPatterns sync.Map // of pattern: its *regexp.Regexp

func (p pattern) compiled() *regexp.Regexp {
	if re, ok := compiledPatterns.Load(p); ok {
		return re.(*regexp.Regexp)
	}
	re := regexp.MustCompile(string(p))
	compiledPatterns.Store(p, re)
	return re
}

// says is a fixed sentence.
func says(sentence string) func(*situation, []string) string {
	return func(*situation, []string) string { return sentence }
}

// holds is a sentence about what the process has that CRIU was saving.
func holds(what string) func(*situation, []string) string {
	return func(s *situation, _ []string) string { return s.process() + " has " + what + cannot }
}

// What several rules say.
const (
	cannot       = ", which criu cannot save"
	closeHint    = "the program has to close it before it is saved"
	tryAgainHint = "try again; it may be over by then"
	ioUringHint  = "start the program so that it does without io_uring, by a setting of its own: as UV_USE_IO_URING=0 for Node.js, innodb_use_native_aio=0 for MariaDB, io_method=worker for PostgreSQL"
)

// consequence is lines that only follow from others, and are never shown.
var consequence = pattern(`FAILED\.$|^Unable to open stats-(dump|restore)|^One of more action scripts failed|^Script .* exited with|^Aborting restore due to|^Dump files \(fd|^Killing processes because` +
	"|^Can't fixup VMA's fd|^`- Can't open vma" + `|^[0-9]+ exited, status=1$|^[0-9]+ killed by signal 9`)

// killedLine is a consequence, too, unless there is no other line.
var killedLine = pattern(`^[0-9]+ killed by signal 9`)

// followUp is lines that say no more than the sentence that was made from another.
var followUp = pattern(`\(pid: \d+\) failed with -?\d+$|^Can't retrieve FDs from socket|^Message reply from daemon is trimmed|^Can't open \d+'s mapfile link|^Can't make \w+ns id` +
	`|^One or more namespaces doesn't belong|^sockets: Can't get 1:34 opt|^BUG at |^Can't stop all tasks on rt_sigreturn|is in unexpected state: b7f|^Task stopped with 11: ` +
	`|^inet: In-flight connections can be ignored|^Command \d+ for daemon failed|^Can't dump page with parasite|^remote_mprotect failed|^Can't rmap memfd for parasite|^Can't infect \(pid: ` +
	`|^Unable to detach from \d+: No such process|^kerndat_\w+ failed when init|^Could not initialize kernel features|^Unable to open fd=\d+ id=`)

// aboutPid is in lines that say which process CRIU was saving.
var aboutPid = pattern(`\(pid: (\d+)\) (?:failed with -?\d+|with parasite)$|^Can't open (\d+)'s mapfile link`)
