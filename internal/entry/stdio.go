package entry

import (
	_ "os" // has to be initialised before this package

	"blcr-cli/internal/entry/nonblock"
)

func init() { nonblock.Restore() }
