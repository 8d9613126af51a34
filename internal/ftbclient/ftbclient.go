// Package ftbclient publishes events on a CIFTS Fault Tolerance Backplane (FTB), and
// receives them, as a client of an agent: connect, publish or subscribe, close, each
// within a deadline.
// Package wire has the protocol's structures. Sections that comments name are
// those of the project's description of the protocol, ftb-protocol.md.
//
// A Conn consists of one socket, which is close-on-exec and is closed at the first
// error. A Conn retries nothing. The package starts no goroutine, and uses no timer or
// context: like package net, these make the Go runtime open an epoll descriptor and
// keep it open, and BLCR's module cannot save a process that has one.
package ftbclient
