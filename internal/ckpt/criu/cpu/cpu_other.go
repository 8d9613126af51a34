//go:build !amd64

package cpu

// Here returns nothing: of other processors nothing is known.
func Here() Features { return Features{} }
