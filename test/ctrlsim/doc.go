// Package ctrlsim plays BLCR's control file, /proc/checkpoint/ctrl, for any
// unmodified program, static Go or dynamic C. It is for tests only. It needs
// neither root nor a kernel module nor FUSE: a seccomp filter with a user
// notification, inherited over fork and exec, hands the program's openat calls
// and its 0xA1 ioctls to a supervisor in the test's own process, which answers
// them from a [Scenario]. It knows BLCR's binary interface (package abi) and
// nothing of the tools that are tested with it.
//
// # Use
//
// The supervising binary starts itself again to get at the program, so its
// main or TestMain begins with [Init]:
//
//	func TestMain(m *testing.M) { ctrlsim.Init(); os.Exit(m.Run()) }
//
//	c := &ctrlsim.Command{
//		Path:     "cr_restart",
//		Args:     []string{"context.1"},
//		Scenario: ctrlsim.MustScenario("procs 1 4\njob exit 7"),
//	}
//	res, err := c.Run() // res.ExitCode, res.Transcript, ...
//
// The command in the directory ctrlsim does the same from a shell.
//
// It simulates what the tests of the commands need and what the notes on the
// module's interface say, and is checked against those: its own tests name the
// observed case or the module's source file. An operation that the commands never
// make, or an argument that they never give it, is a problem (Result.Problems), not
// something to simulate.
//
// # Scenario
//
// With an empty scenario everything goes as on the real module: a checkpoint
// writes a small context into the destination and signals the target, a
// restart reads such a context and turns one single-threaded child into a job
// that exits with 0. A scenario changes that. Its text form has one "key value"
// a line; blank lines and lines that begin with # are skipped; an unknown key
// is an error.
//
// A RESULT is the name of an errno (ENOENT, CR_ENOSUPPORT), a negative number
// (-2, the same as ENOENT) or a value that is returned as it is (0, 4711). A
// TIME is as for [time.ParseDuration], or "never". A SIZE is a number of bytes
// with an optional K, M or G.
//
//	open RESULT            opening the control file (0: it opens)
//	version RESULT         CR_OP_VERSION
//	chkpt-req RESULT       CR_OP_CHKPT_REQ
//	rstrt-req RESULT       CR_OP_RSTRT_REQ
//	rstrt-procs RESULT     CR_OP_RSTRT_PROCS
//	hand-phase1 RESULT     CR_OP_HAND_PHASE1
//	hand-susp RESULT       CR_OP_HAND_SUSP
//
// Each of these may be limited to its Nth time with KEY@N: "open@2 EMFILE" lets
// the first open through and fails the second; "rstrt-procs@3 EIO" fails after
// two processes. A forced error has no side effect; a forced value of 0 or more
// for chkpt-req, rstrt-req and rstrt-procs is returned without anything else
// happening, too.
//
//	chkpt-log TEXT         a line of the kernel log, repeated for more lines
//	chkpt-delay TIME       from the request to its completion
//	chkpt-size SIZE        size of the context (default 4K)
//	chkpt-pace TIME        pause after each 64K of it
//	chkpt-reap RESULT      CR_OP_CHKPT_REAP, instead of what really happened.
//	                       An error writes nothing, unless chkpt-size is given:
//	                       then that much is left behind. The target need not
//	                       exist; a signal is sent on success only.
//
//	ask yes                every process in the scope of a checkpoint request is
//	                       asked, see below; without it none is. One without a
//	                       handler for signal 64 counts as saved and runs on.
//	restarted yes          those who are saved go on as if they were the restored
//	                       copies (implies ask)
//	stranger WHEN OPTION...  somebody outside the program makes a request; may be
//	                       repeated (implies ask). WHEN is one of
//	    before OP[@N]      when the Nth operation OP comes, before it is answered
//	    after OP[@N]       right after its answer
//	    at TIME            that long after the program's exec
//	                       OP is any of the above keys that are operations, or
//	                       chkpt-log, chkpt-fwd, rstrt-log and rstrt-reap; N is 1
//	                       if not given. An OPTION is one of
//	    scope SCOPE        process, group, session or tree (default) of the
//	                       program; the target is the program, its group or its
//	                       session
//	    signal NAME|N      for all that are saved
//
//	rstrt-log TEXT         as chkpt-log
//	rstrt-read no          do not look at the source at all
//	procs N...             processes, with N threads each (default: 1);
//	                       "procs none" for no process at all
//	clone-flags FLAGS      clone_flags of CR_OP_RSTRT_PROCS (default 0x410f00)
//	procs-block TIME       how long CR_OP_RSTRT_PROCS blocks; also
//	                       procs-block@N for the Nth one
//	rstrt-child RESULT     CR_OP_RSTRT_CHILD: an error is returned to every
//	                       thread of the process instead of starting the job
//	                       and becomes the result of the restart (also
//	                       rstrt-child@N, for the Nth process); 0 runs the job
//	                       even if rstrt-reap is an error
//	rstrt-delay TIME       from the last CR_OP_RSTRT_PROCS to the jobs' start
//	                       and the completion
//	rstrt-reap RESULT      CR_OP_RSTRT_REAP; default is the pid of the first
//	                       process. An error is what rstrt-child gets, too.
//	job JOB                what a process becomes, repeated for the second, the
//	                       third...; the last one is for all that follow
//
// A JOB is one of
//
//	exit N                 ends with N
//	signal NAME|N          kills itself with that signal
//	sleep                  sleeps until it is signalled (comm is "sleep")
//	sh SCRIPT              /bin/sh -c SCRIPT, with the program's environment
//
// # What a restart does
//
// As on the module, a process that CR_OP_RSTRT_PROCS asked for is ready when
// all of its threads are in CR_OP_RSTRT_CHILD; until then the next
// CR_OP_RSTRT_PROCS blocks (and gives EINTR if a signal is pending). When it has
// returned 0 all processes go on as their jobs: their dispositions are reset,
// the descriptors of the control file and of the context are closed, the
// request's signal is delivered, and then the request completes. To make a
// blocked process go on as something else, a short piece of machine code is put
// into its (private) text through /proc/PID/mem.
//
// A restarted thread must have 0 in %fs and a base of at least 4 GiB, which is
// looked at by ptrace. Otherwise the restart fails with EIO, the process is
// killed, and the run has a problem: on the module it would die of SIGSEGV
// sooner or later.
//
// # What a checkpoint does
//
// Without "ask yes" it writes a context and signals the target. With it, every
// thread of every process in scope gets signal 64 as the module sends it: with
// si_code SI_KERNEL and, in si_pid, a descriptor of the control file in its
// process, one that it has registered by HAND_PHASE1 or else one that is put there and closed again when the last of its threads is through. A
// moment's ptrace does that, so nobody else may trace the program. The signal is
// unblocked. Before the request is answered it is on its way to all: a thread
// that is in the kernel, in an operation included, finds it when it returns. A
// thread that comes into RSTRT_CHILD with it is omitted there.
//
// From then on everything is as in the module's cr_chkpt_req.c and
// cr_dump_self.c. Those of phase 1 are asked first. HAND_CHKPT waits until all
// have answered and the context is written, and HAND_ABORT with "omit" for the
// other threads of its process; one thread that omits its process does so for
// all of them. The request's signal goes to a process when the last of its
// threads is through, and the request is complete when everybody is. Threads
// that end, or exec, are dropped within some 10 ms. HAND_CHKPT_INFO and
// CHKPT_FWD know the request. A request for somebody who is asked already, or is
// in RSTRT_CHILD, gives EBUSY.
//
// What is in scope is looked for among the processes under this supervisor, and
// nowhere else. There is nothing in the context but what there is without "ask".
//
// With "restarted yes" HAND_CHKPT returns 1, no signal is sent, and the request
// completes first, since those who were left out play the ones who have stayed
// behind: a process that was saved goes on when all of its children that were
// not have ended, and finds nothing to wait for. Processes without a handler are
// held for that time. A requester that was saved itself reaps CR_ERESTARTED.
//
// A stranger's request has the supervisor's pid as its requester, asks at the
// time that is named, and delays that operation by no more than the asking
// takes. After "rstrt-child" means when a
// thread has come in. Its target is the program; for a target that only
// includes the program under test, run that by a shell.
//
// # Transcript
//
// Every open of the control file and every operation is one line, in the order
// of the answers: the name (CR_OP_ left out), decoded arguments, the result.
//
//	open {flags=O_WRONLY|O_CLOEXEC} = 0
//	VERSION 0xa = 0
//	CHKPT_REQ {target=99999 scope=3 fd=4 secs=0 format=0 signal=0 flags=0x10} = 0
//	CHKPT_LOG = 33
//	CHKPT_LOG {len=33} = 33 "Retry request on -CR_ENOSUPPORT\n"
//	CHKPT_REAP = -CR_ENOSUPPORT
//	RSTRT_REQ {fd=5 signal=0 relocate={/a=/b /c=/d} flags=0x3} = 0
//	RSTRT_PROCS = 1 {threads=4 clone_flags=0x410f00}
//	RSTRT_CHILD
//	RSTRT_REAP = PID
//	HAND_PHASE1 4 = 0
//	HAND_SUSP NULL
//	HAND_ABORT 0x4 = -CR_EOMITTED (cr_checkpoint)
//	HAND_CHKPT_INFO = 0 {requester=7 target=8 scope=3 signal=0 dest="/c"} (comm)
//	STRANGER {scope=3 target=PID} = 0 saved=2 omitted=1
//
// An open shows no descriptor, and RSTRT_REAP the word PID for the pid of a
// process that was forked in the run, as these change. RSTRT_CHILD is logged
// when a thread comes in, with a result only if that is an error; HAND_SUSP when
// it begins, and again if it returns. A failure of a fault plan ends in
// "[fault]".
//
// If everybody is asked, the lines of HAND_ operations say in parentheses which
// program it was. A stranger's line comes when its request is over, or at the
// end without a result; it counts processes, and PID is the program. Descriptors
// that are put into a process do not show.
//
// # Contexts
//
// The context of a simulated checkpoint begins with the five ints of a BLCR
// context ('C', 'R', version, scope, architecture). Then follow the eight bytes
// "ctrlsim\n", the payload's length as 64 bits and the payload: the target's
// command line, padded with dots. A restart reads as much, and never more. If
// the payload is cut it fails as BLCR does. Of a context whose header is not
// followed by that mark only the header and the eight bytes are read.
//
// # Fault plan
//
// With [Faults] the system calls that can be counted are numbered, in the
// program and in forks of it (a process belongs as long as its executable is
// the program's; hooks and jobs do not). One of them can be made to fail, or
// the process can be killed right before it. So that two runs of one program
// give the same numbers, calls that the Go runtime makes of its own accord are
// left out:
//
//   - opens below /sys and /proc, other than the control file (cgroup limits,
//     huge page size), and fstat of what they have opened;
//   - fcntl F_GETFL and F_GETFD on 0, 1 and 2, which start-up checks;
//   - writes to an eventfd, by which the poller wakes itself;
//   - threads: clone with CLONE_THREAD, and HAND_SUSP, where one waits at a time
//     of its own;
//   - a poll, select or wait that repeats the previous counted call of its
//     process, and a fork after a fork that made no child: it is the same one,
//     restarted after a signal.
//
// The calls of several processes that run at the same time arrive in any
// order. [Point] can therefore name a call as "the 5th of the 2nd process",
// too; processes are numbered in the order of their first counted call.
//
// # Limits
//
//   - linux/amd64, kernel 5.14 or newer (before 5.19 a signal may make an
//     operation happen twice); no second supervisor inside a supervised
//     program, as the kernel allows one listener.
//   - no_new_privs is set: the program cannot gain privileges by exec.
//   - poll does not report POLLERR before a request; fstat of the descriptor
//     shows a socket; fcntl shows O_RDWR.
//   - Only openat and faccessat of exactly /proc/checkpoint/ctrl find the file; open
//     and openat2 do not, nor stat, nor a name relative to a directory.
//   - Every open of a supervised process takes some 50 microseconds longer, and
//     so does every counted call.
//   - An operation can be interrupted by a signal only while it blocks
//     (RSTRT_PROCS, HAND_SUSP), within some 10 ms; RSTRT_CHILD not at all.
//   - Only processes that the program forks are restored.
//   - A handler that was registered is not put back if it has been replaced
//     since. A stopped process that is asked does not answer.
//   - HAND_CHKPT is always one without callbacks, and HAND_ABORT always an omission.
//     There is no HAND_PHASE2, HAND_DONE or HAND_SRC. Requests are taken for ones
//     with CR_CHKPT_ASYNC_ERR and CR_RSTRT_ASYNC_ERR.
//   - If a request's descriptor is closed before the context is written, HAND_
//     gives EINTR to those who have answered; the module would save them.
//   - A child that shares its requester's memory (vfork) cannot be restored.
//   - Children whose requester dies before the last RSTRT_PROCS stay blocked,
//     as on the module, until Command.Linger ends them.
package ctrlsim
