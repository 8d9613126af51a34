package batch

import (
	"fmt"
	"hash/fnv"
	"strings"
)

// scheduler is the batch system that has started this job, as its environment shows it.
type scheduler struct {
	name string // "" for none
	job  string // its id
	task string // of a job array; "" for none
}

// detect finds out which batch system there is. The array's own id comes first where a
// task has a job id of its own: a task that is requeued keeps it.
func detect(env func(string) string) scheduler {
	task := func(names ...string) string {
		for _, name := range names {
			if v := env(name); v != "" && v != "undefined" && v != "0" {
				return v
			}
		}
		return ""
	}
	first := func(names ...string) string {
		for _, name := range names {
			if v := env(name); v != "" {
				return v
			}
		}
		return ""
	}
	switch {
	case env("SLURM_JOB_ID") != "":
		s := scheduler{name: "slurm", job: env("SLURM_JOB_ID")}
		if id := env("SLURM_ARRAY_JOB_ID"); id != "" {
			s.job, s.task = id, env("SLURM_ARRAY_TASK_ID") // which may be 0
		}
		return s
	case env("PBS_JOBID") != "":
		return scheduler{"pbs", env("PBS_JOBID"), first("PBS_ARRAY_INDEX", "PBS_ARRAYID")}
	case env("LSB_JOBID") != "":
		return scheduler{"lsf", env("LSB_JOBID"), task("LSB_JOBINDEX")}
	case env("OAR_JOB_ID") != "":
		return scheduler{"oar", env("OAR_JOB_ID"), ""}
	case env("JOB_ID") != "" && env("SGE_TASK_ID") != "":
		return scheduler{"sge", env("JOB_ID"), task("SGE_TASK_ID")}
	}
	return scheduler{}
}

// dirName returns what distinguishes the job's directory from others': its id, or else the
// command's name.
func (s scheduler) dirName(command string) string {
	name := s.job
	switch {
	case s.name == "":
		name = command
	case s.name == "pbs":
		name = strings.ReplaceAll(strings.ReplaceAll(name, "[", "_"), "]", "")
		if s.task != "" && !strings.Contains(s.job, "["+s.task+"]") {
			name += "_" + s.task
		}
	case s.task != "":
		name += "_" + s.task
	}
	name = strings.ReplaceAll(name, "/", "_")
	if len(name) > longest {
		h := fnv.New64a()
		h.Write([]byte(name))
		name = fmt.Sprintf("%s_%016x", name[:longest-17], h.Sum64())
	}
	return name
}

// longest is how many bytes of a directory's name it may be. A file system takes 255.
const longest = 200

// eventID returns the id for events, of at most 15 bytes: FTB has no room for more.
func (s scheduler) eventID() string {
	id, _, _ := strings.Cut(s.job, ".")
	if s.task != "" && !strings.Contains(id, "[") {
		id += "_" + s.task
	}
	if len(id) > 15 {
		return ""
	}
	return id
}

// requeue returns the command that has the batch system start the job again, nil if there
// is none, and the status to exit with.
func (s scheduler) requeue() (argv []string, status int) {
	switch s.name {
	case "slurm":
		id := s.job
		if s.task != "" {
			id += "_" + s.task
		}
		return []string{"scontrol", "requeue", id}, StatusSaved
	case "pbs":
		return []string{"qrerun", s.job}, StatusSaved
	case "lsf":
		id := s.job
		if s.task != "" {
			id = fmt.Sprintf("%s[%s]", id, s.task)
		}
		return []string{"brequeue", id}, StatusSaved
	case "sge":
		const rescheduled = 99 // the status by which a job of Grid Engine asks for it
		return nil, rescheduled
	}
	return nil, StatusSaved
}
