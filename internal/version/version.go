// Package version says which blcr-cli this is.
package version

// Version is set by the Makefile, from the CHANGELOG's first heading.
var Version = "devel"
