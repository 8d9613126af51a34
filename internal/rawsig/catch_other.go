//go:build !amd64

package rawsig

import "syscall"

// Catch is written in assembly for amd64 only; here it is ENOSYS.
func Catch(syscall.Signal) error { return syscall.ENOSYS }

// Take returns 0: nothing is caught.
func Take(syscall.Signal) int { return 0 }

// Add does nothing.
func Add(syscall.Signal) {}

// Bell never changes.
func Bell() uint32 { return 0 }

// Sleep never returns: no signal is ever caught.
func Sleep(uint32) { select {} }

func setDefault(syscall.Signal) error { return syscall.ENOSYS }
