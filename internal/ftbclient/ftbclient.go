// Package ftbclient publishes events on a CIFTS Fault Tolerance Backplane (FTB)
// as a client of an agent: connect, publish, close, each within a deadline.
// Package wire has the protocol's structures. Sections that comments name are
// those of the project's description of the protocol, ftb-protocol.md.
//
// All there is to a Conn is one socket, closed on exec, and closed at the first
// error. Nothing is retried. The package starts no goroutine, and no timer or
// context either: those, like package net, make the Go runtime open an epoll
// descriptor for good, in processes that have to stay easy to save.
package ftbclient
