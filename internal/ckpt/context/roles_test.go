package context

import "os"

func full()   { os.Exit(0) }
func limit()  { os.Exit(0) }
func stdout() { os.Exit(0) }
func memory() { os.Exit(0) }
func feed()   { os.Exit(0) }
