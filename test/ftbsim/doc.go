// Package ftbsim plays the other side of FTB for tests: an agent and a bootstrap
// server, on loopback, that can be told to misbehave.
//
// An [Agent] does what the agent of FTB 0.6.2 does as far as a client can tell:
// it answers handshakes, takes events, and gives them to those of its clients
// that have subscribed to such. It closes a connection that has deregistered, but
// only when something else wakes it; and with Config.Lag it loses what a client has
// sent that does not wait for that. Beyond that it remembers all that it got, and
// notes as a problem what a real agent would take, and a client should not do
// because it puts events or other clients at risk. A [Bootstrap] is the server
// that tells clients of agents elsewhere, of either packet size; it chooses among
// them at random.
//
// Sections that comments name are those of the project's description of the
// protocol. Package wire has the layouts; this package knows nothing of package
// ftbclient, nor of checkpoints.
package ftbsim
