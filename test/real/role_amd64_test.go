//go:build real && amd64

package real

import "os"

// role plays the part of another program, if this process is to be one.
func role() (status int, is bool) {
	if os.Getenv(injectEnv) == "" {
		return 0, false
	}
	return inject(), true
}
