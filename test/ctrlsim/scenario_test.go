package ctrlsim

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestScenario(t *testing.T) {
	num := func(n int) *int { return &n }
	for _, test := range []struct {
		text string
		want Scenario
	}{
		{"", Scenario{}},
		{"# nothing\n\n  # to see\n", Scenario{}},
		{"open ENOENT", Scenario{Answers: []Answer{{"open", 0, -2}}}},
		{"open@2 -13\nversion CR_EVERSION", Scenario{Answers: []Answer{{"open", 2, -13}, {"version", 0, -2357}}}},
		{"hand-chkpt 1\nrstrt-procs@3 EIO", Scenario{Answers: []Answer{{"hand-chkpt", 0, 1}, {"rstrt-procs", 3, -5}}}},
		{"chkpt-log a  b # c\nchkpt-log", Scenario{ChkptLog: []string{"a  b # c", ""}}},
		{"chkpt-delay never\nchkpt-size 3M\nchkpt-pace 1.5ms\nchkpt-reap ENOSPC",
			Scenario{ChkptDelay: Never, ChkptSize: 3 << 20, ChkptPace: 1500 * time.Microsecond, ChkptReap: num(-28)}},
		{"rstrt-delay 1s\nrstrt-reap 0\nrstrt-log x\nrstrt-read no",
			Scenario{RstrtDelay: time.Second, RstrtReap: num(0), RstrtLog: []string{"x"}, RstrtNoRead: true}},
		{"procs 1 4\nclone-flags 0x10f00\nprocs-block@2 1s\nprocs-block 2s",
			Scenario{Procs: []int{1, 4}, CloneFlags: 0x10f00, ProcsBlock: []Block{{2, time.Second}, {0, 2 * time.Second}}}},
		{"procs none", Scenario{Procs: []int{}}},
		{"job exit 7\njob signal term\njob signal 33\njob sleep\njob sh echo a; exit 2", Scenario{Jobs: []Job{
			{Kind: JobExit, Code: 7}, {Kind: JobSignal, Signal: 15}, {Kind: JobSignal, Signal: 33},
			{Kind: JobSleep}, {Kind: JobShell, Script: "echo a; exit 2"}}}},
		{"open-delay 10ms", Scenario{OpenDelay: 10 * time.Millisecond}},
	} {
		s, err := ParseScenario(strings.NewReader(test.text))
		if err != nil || !reflect.DeepEqual(*s, test.want) {
			t.Errorf("%q: %+v %v", test.text, s, err)
		}
	}
	for _, text := range []string{
		"nosuch 1", "open", "open ENOSUCH", "open@0 EIO", "open@x EIO", "open@2", "chkpt-delay -1s", "chkpt-delay 5",
		"chkpt-size 0", "chkpt-size 1X", "chkpt-size", "chkpt-reap@2 EIO", "procs", "procs 0", "procs one",
		"job", "job exit", "job exit 256", "job signal NOSUCH", "job signal 65", "job sleep 1", "job sh", "job wait",
		"clone-flags x", "rstrt-read maybe", "rstrt-reap", "exit 7",
	} {
		if s, err := ParseScenario(strings.NewReader(text)); err == nil {
			t.Errorf("%q is accepted: %+v", text, s)
		}
	}
}

func TestAnswer(t *testing.T) {
	s := MustScenario("open EIO\nopen@2 0\nopen EPERM\nprocs-block 1s\nprocs-block@3 2s")
	for nth, want := range map[int]int{1: -1, 2: 0, 3: -1} {
		if got, ok := s.answer("open", nth); !ok || got != want {
			t.Errorf("open %d: %d %v", nth, got, ok)
		}
	}
	if _, ok := s.answer("version", 1); ok {
		t.Error("version has an answer")
	}
	if s.procsBlock(1) != time.Second || s.procsBlock(3) != 2*time.Second {
		t.Error("procs-block")
	}
	if _, err := ParseErrno("0"); err == nil {
		t.Error("0 is an errno")
	}
	for name, want := range map[string]int{"EPERM": 1, "EHWPOISON": 133, "CR_ENOINIT": 2365, "EWOULDBLOCK": 11, "5": 5, "-5": 5} {
		if n, err := ParseErrno(name); err != nil || n != want {
			t.Errorf("%s: %d %v", name, n, err)
		}
	}
	for n, want := range map[int]string{1: "EPERM", 11: "EAGAIN", 2357: "CR_EVERSION", 4000: "4000", 134: "134"} {
		if got := ErrnoName(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}
