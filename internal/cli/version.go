package cli

// Version is set by the Makefile, from the CHANGELOG's first heading.
var Version = "devel"
