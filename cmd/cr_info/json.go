package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"

	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ckpt/criu/inspect"
)

// The objects of --json. The names are documented in cr_info(1). Members that are
// unknown or do not apply are left out.

type jsonContext struct {
	File     string `json:"file"`
	Error    string `json:"error,omitempty"`
	Format   string `json:"format,omitempty"`
	Complete *bool  `json:"complete,omitempty"`
	Newest   bool   `json:"newest,omitempty"`

	Engine        string `json:"engine,omitempty"`
	EngineVersion string `json:"engine_version,omitempty"`
	FormatVersion int    `json:"format_version,omitempty"`
	Scope         string `json:"scope,omitempty"`

	Created string `json:"created,omitempty"`
	Host    string `json:"host,omitempty"`
	Kernel  string `json:"kernel,omitempty"`
	Machine string `json:"machine,omitempty"`

	Compression string `json:"compression,omitempty"`

	Command    []string `json:"command,omitempty"`
	CommandCut bool     `json:"command_cut,omitempty"`

	FirstProcess *jsonFirst     `json:"first_process,omitempty"`
	Processes    []*jsonProcess `json:"processes,omitempty"`
	RemovedFiles []jsonRemoved  `json:"removed_files,omitempty"`
	SavedFiles   []jsonSaved    `json:"saved_files,omitempty"`
	Size         *jsonSize      `json:"size,omitempty"`

	Whole      *bool        `json:"whole,omitempty"`
	Unverified *int64       `json:"unverified,omitempty"`
	Damage     []jsonDamage `json:"damage,omitempty"`

	Restartable *bool    `json:"restartable,omitempty"`
	Obstacles   []string `json:"obstacles,omitempty"`
	Notes       []string `json:"notes,omitempty"`
}

type jsonDamage struct {
	Image  string `json:"image,omitempty"`
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
	Reason string `json:"reason"`
}

type jsonFirst struct {
	PID     int          `json:"pid"`
	PGID    int          `json:"pgid"`
	SID     int          `json:"sid"`
	Name    string       `json:"name"`
	Threads []jsonThread `json:"threads"`
}

type jsonProcess struct {
	PID        int32        `json:"pid"`
	PPID       *int32       `json:"ppid,omitempty"`
	PGID       int32        `json:"pgid"`
	SID        int32        `json:"sid"`
	Name       string       `json:"name"`
	State      string       `json:"state,omitempty"`
	ExitStatus *int         `json:"exit_status,omitempty"`
	ExitSignal *int         `json:"exit_signal,omitempty"`
	UID        *uint32      `json:"uid,omitempty"`
	GID        *uint32      `json:"gid,omitempty"`
	Threads    []jsonThread `json:"threads"`
	Memory     *jsonMemory  `json:"memory,omitempty"`
	Exe        string       `json:"exe,omitempty"`
	Cwd        string       `json:"cwd,omitempty"`
	Root       string       `json:"root,omitempty"`
	FilesOf    int32        `json:"files_of,omitempty"`
	Files      []jsonFile   `json:"files,omitempty"`
}

type jsonThread struct {
	TID  int    `json:"tid"`
	Name string `json:"name,omitempty"`
}

type jsonMemory struct {
	Mapped uint64 `json:"mapped"`
	Saved  uint64 `json:"saved"`
}

type jsonFile struct {
	FD          uint32 `json:"fd"`
	Kind        string `json:"kind"`
	Path        string `json:"path,omitempty"`
	Offset      *int64 `json:"offset,omitempty"`
	Access      string `json:"access,omitempty"`
	Inode       uint32 `json:"inode,omitempty"`
	Local       string `json:"local,omitempty"`
	Peer        string `json:"peer,omitempty"`
	PeerInode   uint32 `json:"peer_inode,omitempty"`
	Listening   bool   `json:"listening,omitempty"`
	CloseOnExec bool   `json:"close_on_exec"`
	Removed     bool   `json:"removed"`
	External    bool   `json:"external"`
}

type jsonRemoved struct {
	Path   string `json:"path"`
	To     string `json:"to,omitempty"`
	Stored int64  `json:"stored"`
}

type jsonSaved struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	Stored int64  `json:"stored"`
	Shared bool   `json:"shared"`
}

type jsonSize struct {
	Memory       int64 `json:"memory"`
	RemovedFiles int64 `json:"removed_files"`
	SavedFiles   int64 `json:"saved_files"`
	Images       int64 `json:"images"`
	Rest         int64 `json:"rest"`
	Total        int64 `json:"total"`
}

// json returns the line of --json.
func (r *report) json() string {
	c := jsonContext{File: r.file, Newest: r.newest}
	if complete, known := r.complete(); known {
		c.Complete = &complete
	}
	if r.err != nil {
		c.Error = reason(r.err)
	}
	switch {
	case r.criu != nil:
		c.criu(r.criu)
	case r.blcr != nil:
		c.blcr(r.blcr)
	}
	if v := r.verified; v != nil {
		c.Unverified = &v.unknown
		if whole, known := r.whole(); known {
			c.Whole = &whole
		}
		for _, d := range v.damage {
			c.Damage = append(c.Damage, jsonDamage{d.Name, d.Offset, d.Length, damageReason(d)})
		}
	}
	if r.checked != nil {
		restartable := len(r.checked.obstacles) == 0 && len(r.found()) == 0
		c.Restartable, c.Obstacles, c.Notes = &restartable, r.checked.obstacles, r.checked.notes
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(c) // all of its types can be encoded
	return escape(b.String())
}

func (c *jsonContext) criu(info *inspect.Info) {
	h := info.Header
	c.Format = "criu"
	if info.Directory {
		c.Format = "criu_directory"
	}
	c.Engine, c.EngineVersion = "criu", engineVersion(info)
	if !h.Created.IsZero() {
		c.Created = h.Created.UTC().Format(time.RFC3339)
	}
	c.Host, c.Kernel, c.Machine = h.Host, h.Kernel, h.Machine
	c.Compression = h.Compression
	c.Command, c.CommandCut = h.Command, h.Cut
	for i := range info.Processes {
		c.Processes = append(c.Processes, processJSON(&info.Processes[i]))
	}
	for _, f := range info.Removed {
		c.RemovedFiles = append(c.RemovedFiles, jsonRemoved(f))
	}
	for _, f := range info.Saved {
		c.SavedFiles = append(c.SavedFiles, jsonSaved(f))
	}
	s := info.Sizes
	c.Size = &jsonSize{s.Pages, s.Removed, s.Saved, s.Images, s.Rest, s.Total()}
}

func (c *jsonContext) blcr(b *blcrContext) {
	c.Format, c.Engine, c.FormatVersion = "blcr", "kernel", b.Version
	c.Scope, c.Machine = scopeName(b), machineName(b)
	if p := b.First; p != nil {
		c.Kernel = p.Kernel
		c.FirstProcess = &jsonFirst{PID: p.PID, PGID: p.PGID, SID: p.SID, Name: p.Name}
		for _, tid := range p.Threads {
			c.FirstProcess.Threads = append(c.FirstProcess.Threads, jsonThread{TID: tid})
		}
	}
	if b.size >= 0 {
		c.Size = &jsonSize{Rest: b.size, Total: b.size}
	}
}

func processJSON(p *inspect.Process) *jsonProcess {
	j := &jsonProcess{
		PID: p.PID, PGID: p.PGID, SID: p.SID, Name: p.Name, State: stateName(p.State),
		Exe: p.Exe, Cwd: p.Cwd, Root: p.Root, FilesOf: p.FilesOf,
	}
	if p.PPID != 0 {
		j.PPID = &p.PPID
	}
	for _, t := range p.Threads {
		j.Threads = append(j.Threads, jsonThread{int(t.TID), t.Name})
	}
	if p.State.Ended() {
		n := p.Status.ExitStatus()
		if p.Status.Signaled() {
			n = int(p.Status.Signal())
			j.ExitSignal = &n
		} else {
			j.ExitStatus = &n
		}
		return j
	}
	j.UID, j.GID = &p.UID, &p.GID
	j.Memory = &jsonMemory{p.Mapped, p.Saved}
	for _, f := range p.Files {
		d := jsonFile{
			FD: f.FD, Kind: f.Kind, Path: f.Path, Access: f.Access, Inode: f.Inode, Local: f.Local, Peer: f.Peer,
			PeerInode: f.PeerInode, Listening: f.Listening, CloseOnExec: f.CloseOnExec, Removed: f.Removed, External: f.External,
		}
		if f.Offset >= 0 {
			d.Offset = &f.Offset
		}
		j.Files = append(j.Files, d)
	}
	return j
}

// escape escapes the characters in a line of JSON that could control a terminal. Only
// strings contain such characters.
func escape(line string) string {
	var b strings.Builder
	for _, r := range line {
		switch {
		case r == '\n' || strconv.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			one, two := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, one, two)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// Names that the text and the JSON output share.

func engineVersion(info *inspect.Info) string {
	_, version, _ := strings.Cut(info.Header.Engine, " ")
	return version
}

func scopeName(b *blcrContext) string {
	if name := b.ScopeName(); name != "" {
		return name
	}
	return strconv.Itoa(b.Scope)
}

func machineName(b *blcrContext) string {
	if name := b.Machine(); name != "" {
		return name
	}
	return fmt.Sprintf("architecture %d", b.Architecture)
}

func stateName(s images.State) string {
	switch s {
	case 0:
		return ""
	case images.StateAlive:
		return "running"
	case images.StateStopped:
		return "stopped"
	case images.StateDead, images.StateZombie:
		return "zombie"
	}
	return fmt.Sprintf("state_%d", s)
}
