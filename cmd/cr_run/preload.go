package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

const preload = "LD_PRELOAD"

// environment returns the program's environment: that of this process, with the library
// added at the front of LD_PRELOAD. On a machine without the library it is unchanged:
// otherwise the dynamic loader would print an error on the stderr of every program.
func environment(library string) []string {
	if element := thisMachine().element(library); element != "" {
		os.Setenv(preload, preloaded(element, os.Getenv(preload)))
	}
	return os.Environ()
}

// preloaded returns old with the library at its front, and without libraries that
// another cr_run has added.
func preloaded(library, old string) string {
	elements := []string{library}
	for element := range strings.SplitSeq(old, ":") {
		base := filepath.Base(element)
		if element != "" && !strings.HasPrefix(base, "libcr_run.so") && !strings.HasPrefix(base, "libcr_omit.so") {
			elements = append(elements, element)
		}
	}
	return strings.Join(elements, ":")
}

// loader is where the dynamic loader searches for a library that is named without a
// directory. Not considered are what it expands in LD_LIBRARY_PATH ($ORIGIN and
// similar), its subdirectories for newer processors, and the RUNPATH of the program,
// which may start other programs.
type loader struct {
	path   string   // LD_LIBRARY_PATH
	cache  string   // ldconfig's file
	dirs   []string // the built-in ones
	prefix string   // where this command is installed, "" if unknown; the loader does not search there
}

// triplets are Debian's names for architectures.
var triplets = map[string]string{
	"386":   "i386-linux-gnu",
	"amd64": "x86_64-linux-gnu",
	"arm":   "arm-linux-gnueabihf",
	"arm64": "aarch64-linux-gnu",
}

func thisMachine() *loader {
	l := &loader{
		path:  os.Getenv("LD_LIBRARY_PATH"),
		cache: "/etc/ld.so.cache",
		dirs:  []string{"/lib", "/usr/lib", "/lib64", "/usr/lib64"},
	}
	if t := triplets[runtime.GOARCH]; t != "" {
		l.dirs = append(l.dirs, "/lib/"+t, "/usr/lib/"+t)
	}
	if exe, err := os.Executable(); err == nil {
		l.prefix = filepath.Dir(filepath.Dir(exe))
	}
	return l
}

// element returns the element of LD_PRELOAD for the library, "" if the library was not
// found.
//
// If the loader finds the library by its bare name, the element is that name, as in
// BLCR's script. A 32-bit program on a 64-bit machine has a loader of its own, which
// skips libraries for other machines and finds the 32-bit library by the same name. A
// library beside this command, in a private prefix that the loader does not search,
// needs its path, and works for programs of one kind only.
func (l *loader) element(library string) string {
	if l.finds(library) {
		return library
	}
	if l.prefix == "" {
		return ""
	}
	for _, lib := range []string{"lib64", "lib"} {
		file := filepath.Join(l.prefix, lib, library)
		// The loader ends a name at a colon or a blank, and expands a dollar sign.
		if readable(file) && !strings.ContainsAny(file, ": $") {
			return file
		}
	}
	return ""
}

// finds reports whether the loader would find the library.
func (l *loader) finds(library string) bool {
	if l.path != "" {
		// An empty element means the working directory, also for Join.
		for dir := range strings.SplitSeq(strings.ReplaceAll(l.path, ";", ":"), ":") {
			if readable(filepath.Join(dir, library)) {
				return true
			}
		}
	}
	for _, file := range l.cached(library) {
		if readable(file) {
			return true
		}
	}
	for _, dir := range l.dirs {
		if readable(filepath.Join(dir, library)) {
			return true
		}
	}
	return false
}

// cached returns the paths of the library in ldconfig's cache. In each format of the
// cache the paths are NUL-terminated strings. The cache may be out of date.
func (l *loader) cached(library string) []string {
	cache, err := os.ReadFile(l.cache)
	if err != nil {
		return nil
	}
	var files []string
	end := []byte("/" + library + "\x00")
	for rest := cache; ; {
		i := bytes.Index(rest, end)
		if i < 0 {
			return files
		}
		file := rest[bytes.LastIndexByte(rest[:i], 0)+1 : i+len(end)-1]
		files = append(files, string(file))
		rest = rest[i+len(end):]
	}
}

func readable(file string) bool { return unix.Access(file, unix.R_OK) == nil }
