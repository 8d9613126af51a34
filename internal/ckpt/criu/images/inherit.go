package images

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// InheritKeys name the descriptors that the saved descriptors of one open file
// are replaced by: the KEY of criu's option --inherit-fd fd[N]:KEY.
type InheritKeys struct {
	// Default is for all that FD does not name.
	Default string

	// FD is by the number of the saved descriptor, in any task. A shell's
	// terminal often is one open file for 0, 1 and 2; without a terminal these
	// have to be inherited from three different descriptors.
	FD map[uint32]string
}

// Inheritance is what Inherit has changed, for the tables of descriptors.
type Inheritance struct {
	files map[uint32]bool      // File.ID of those that are inherited
	split map[[2]uint32]uint32 // new File.ID, by the former and the descriptor
}

// Inherit changes files.img so that criu takes the open files with the ids in
// keys from descriptors that it inherits. Whatever they were, they become regular
// files whose name is made of the key. Several may have the same key.
//
// criu then uses the descriptor itself. (For a pipe it would open the inherited
// descriptor again: that fails for a socket, and for a file forgets position and
// O_APPEND.) Flags and pending data of the saved open file are dropped.
//
// The tables of descriptors then need Inheritance.FDInfo, and tty-info.img and
// tty-data.img need PruneTTYInfo and PruneTTYData. Relocate must come before
// Inherit, since it would take the keys for names.
//
// The error wraps ErrMalformed if keys has an id that files.img has not exactly
// once.
func Inherit(files []byte, keys map[uint32]InheritKeys) ([]byte, *Inheritance, error) {
	all, err := Files(files)
	if err != nil {
		return nil, nil, err
	}
	var highest uint32 // id in use
	count := make(map[uint32]int)
	for _, f := range all {
		highest = max(highest, f.ID)
		count[f.ID]++
	}
	for id, k := range keys {
		if count[id] != 1 {
			return nil, nil, fmt.Errorf("files: %w", malformed("%d files have the id %#x", count[id], id))
		}
		if err := k.check(); err != nil {
			return nil, nil, fmt.Errorf("files: file %#x: %w", id, err)
		}
	}
	done := &Inheritance{make(map[uint32]bool), make(map[[2]uint32]uint32)}
	var added []byte
	out, err := kindFiles.rewrite(files, func(i int, m message) (message, error) {
		f := all[i]
		k, ok := keys[f.ID]
		if !ok {
			return m, nil
		}
		done.files[f.ID] = true
		ids := make(map[string]uint32) // one file for each key
		var fds []uint64
		for fd := range k.FD {
			fds = append(fds, uint64(fd))
		}
		slices.Sort(fds)
		for _, wide := range fds {
			fd := uint32(wide)
			key := k.FD[fd]
			if key == k.Default {
				continue
			}
			if ids[key] == 0 {
				if highest == math.MaxUint32 {
					return nil, malformed("no free file id")
				}
				highest++
				ids[key] = highest
				added = appendEntry(added, inherited(nil, highest, f.Flags, key))
			}
			done.split[[2]uint32{f.ID, fd}] = ids[key]
		}
		return inherited(m.without(fileReg+1, fileLast), f.ID, f.Flags, k.Default), nil
	})
	if err != nil {
		return nil, nil, err
	}
	return append(out, added...), done, nil
}

// check refuses what cannot be a key: criu would not find the descriptor, and
// open a file of that name.
func (k InheritKeys) check() error {
	for _, key := range append(slices.Collect(maps.Values(k.FD)), k.Default) {
		if key == "" || strings.ContainsRune(key, 0) {
			return fmt.Errorf("%q cannot name a descriptor", key)
		}
	}
	return nil
}

// inherited makes m the file_entry of a regular file that is inherited by key.
func inherited(m message, id, flags uint32, key string) message {
	var fown message // sends no signals: uid, euid, signum, pid_type, pid
	for num := uint32(1); num <= 5; num++ {
		fown = append(fown, intField(num, 0))
	}
	reg := message{
		intField(regID, uint64(id)),
		intField(regFlags, uint64(flags)),
		intField(regPos, 0),
		bytesField(regFown, fown.append(nil)), // required, not used
		bytesField(regName, []byte("/"+key)),  // criu drops the first byte
	}
	m = m.put(intField(fileType, uint64(TypeReg)))
	m = m.put(intField(fileID, uint64(id)))
	return m.put(bytesField(fileReg, reg.append(nil)))
}

// FDInfo changes fdinfo-N.img to fit files.img after Inherit.
func (h *Inheritance) FDInfo(fdinfo []byte) ([]byte, error) {
	return kindFDInfo.rewrite(fdinfo, func(_ int, m message) (message, error) {
		fd, err := parseFD(m)
		if err != nil || !h.files[fd.FileID] {
			return m, err
		}
		if id, ok := h.split[[2]uint32{fd.FileID, fd.FD}]; ok {
			m = m.put(intField(fdFile, uint64(id)))
		}
		return m.put(intField(fdType, uint64(TypeReg))), nil
	})
}
