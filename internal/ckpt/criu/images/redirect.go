package images

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// Keys name the descriptors that the saved descriptors of one open file are to
// come from: criu's option `--inherit-fd fd[N]:KEY` takes such a name.
type Keys struct {
	// Default is for all that FD does not name.
	Default string

	// FD is by the number of the saved descriptor, in any task. A shell's
	// terminal often is one open file for 0, 1 and 2; without a terminal these
	// have to come from three different places.
	FD map[uint32]string
}

// Redirection is what Redirect did, for the tables of descriptors.
type Redirection struct {
	files map[uint32]bool      // ids that are regular files now
	split map[[2]uint32]uint32 // new id, by id and descriptor
}

// Redirect changes files.img so that criu takes the open files with the ids in
// keys from descriptors it is given. Whatever they were, they become regular
// files whose name is made of the key. Several may have the same key.
//
// criu then uses the descriptor itself. (Had it stayed a pipe, criu would open
// the inherited descriptor again: that fails for a socket, and for a file
// forgets position and O_APPEND.) Flags and pending data of the saved open file
// are dropped.
//
// Then the tables need Redirection.FDs, and tty-info.img and tty-data.img
// PruneTTYInfo and PruneTTYData. Relocate comes before all, since it would take
// the keys for names.
func Redirect(files []byte, keys map[uint32]Keys) ([]byte, *Redirection, error) {
	all, err := Files(files)
	if err != nil {
		return nil, nil, err
	}
	var free uint32 // the highest id in use
	found := make(map[uint32]int)
	for _, f := range all {
		free = max(free, f.ID)
		found[f.ID]++
	}
	for id, k := range keys {
		if found[id] != 1 {
			return nil, nil, fmt.Errorf("files: %w", malformed("%d files have the id %#x", found[id], id))
		}
		if err := k.check(); err != nil {
			return nil, nil, fmt.Errorf("files: file %#x: %w", id, err)
		}
	}
	done := &Redirection{make(map[uint32]bool), make(map[[2]uint32]uint32)}
	var added []byte
	out, _, err := kindFiles.rewrite(files, func(m message) (message, verdict, error) {
		f, err := parseFile(m)
		k, ok := keys[f.ID]
		if err != nil || !ok {
			return m, keep, err
		}
		done.files[f.ID] = true
		ids := make(map[string]uint32) // one file for each key
		for _, fd := range slices.Sorted(maps.Keys(k.FD)) {
			key := k.FD[fd]
			if key == k.Default {
				continue
			}
			if ids[key] == 0 {
				if free == math.MaxUint32 {
					return nil, keep, malformed("no free file id")
				}
				free++
				ids[key] = free
				entry := inherited(message{}, free, f, key).encode()
				added = binary.LittleEndian.AppendUint32(added, uint32(len(entry)))
				added = append(added, entry...)
			}
			done.split[[2]uint32{f.ID, fd}] = ids[key]
		}
		for body := uint32(fileReg + 1); body <= fileLast; body++ {
			m = m.without(body)
		}
		return inherited(m, f.ID, f, k.Default), replace, nil
	})
	if err != nil {
		return nil, nil, err
	}
	return append(out, added...), done, nil
}

// check is about what cannot be a key: criu would not find the descriptor, and
// open a file of that name.
func (k Keys) check() error {
	keys := []string{k.Default}
	for _, key := range k.FD {
		keys = append(keys, key)
	}
	for _, key := range keys {
		if key == "" || strings.ContainsRune(key, 0) {
			return fmt.Errorf("%q cannot name a descriptor", key)
		}
	}
	return nil
}

// inherited makes m the entry of a regular file with number id, named by key,
// which stands for f.
func inherited(m message, id uint32, f File, key string) message {
	var fown message // sends no signals: uid, euid, signum, pid_type, pid
	for num := uint32(1); num <= 5; num++ {
		fown = append(fown, numberField(num, 0))
	}
	reg := message{
		numberField(regID, uint64(id)),
		numberField(regFlags, uint64(f.Flags)),
		numberField(regPos, 0),
		bytesField(regFown, fown.encode()),   // required, not used
		bytesField(regName, []byte("/"+key)), // criu drops the first byte
	}
	m = m.put(numberField(fileType, uint64(TypeReg)))
	m = m.put(numberField(fileID, uint64(id)))
	return m.put(bytesField(fileReg, reg.encode()))
}

// FDs changes fdinfo-N.img to fit.
func (r *Redirection) FDs(fdinfo []byte) (out []byte, changed bool, err error) {
	return kindFDInfo.rewrite(fdinfo, func(m message) (message, verdict, error) {
		if err := m.require(fdFile, fdType, fdFD); err != nil {
			return nil, keep, err
		}
		id := m.u32(fdFile)
		if !r.files[id] {
			return m, keep, nil
		}
		if split, ok := r.split[[2]uint32{id, m.u32(fdFD)}]; ok {
			m = m.put(numberField(fdFile, uint64(split)))
		}
		return m.put(numberField(fdType, uint64(TypeReg))), replace, nil
	})
}
