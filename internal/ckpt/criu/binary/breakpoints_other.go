//go:build !amd64

package binary

// breakpointsWork is yes: before it found out by itself, CRIU used hardware breakpoints on
// amd64 only.
func breakpointsWork(string) bool { return true }
