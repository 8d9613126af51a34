// Package ftbsim plays the other side of FTB for tests: an agent and a bootstrap
// server, on loopback, that can be told to misbehave.
//
// An [Agent] does what the agent of FTB 0.6.2 does as far as a client can tell:
// it answers handshakes, takes events, and gives them to those of its clients
// that have subscribed to such. Beyond that it remembers all that it got, and
// notes as a problem what a real agent would take, and a client should not do
// because it puts events or other clients at risk. A [Bootstrap] is the server
// that tells clients of agents elsewhere, of either packet size.
//
// Sections that comments name are those of the project's description of the
// protocol. Package wire has the layouts; this package knows nothing of package
// ftbclient, nor of checkpoints. Command ftbsim is an agent for the shell.
package ftbsim
