package binary

// NoConfig is the option that makes criu read none of its configuration files. They
// are found by HOME, which may lead to a directory of another user, and what they say
// counts as if it were on the command line: a program to be run, a file to be written.
// CRIU 3.11 and later know the option. It goes with every verb.
const NoConfig = "--no-default-config"

// Environment returns the environment in which this criu is run: that of any criu, and
// where it is to do without hardware breakpoints, what tells it so: a fault that it has to
// be able to endure, FI_NO_BREAKPOINTS in criu's fault-injection.h.
func (b *Binary) Environment() []string {
	env := environment(b.runtimeDir)
	if b.NoBreakpoints {
		env = append(env, "CRIU_FAULT=130")
	}
	return env
}

// environment is none of the caller's, with that XDG_RUNTIME_DIR if it is not "". Criu takes
// a configuration file from CRIU_CONFIG_FILE and HOME, and starts iptables, nft and tar by
// PATH; the dynamic loader takes libraries from LD_LIBRARY_PATH and LD_PRELOAD. Where sudo
// or su has kept these, another user would choose what root runs.
func environment(runtimeDir string) []string {
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"LC_ALL=C",
	}
	if runtimeDir != "" {
		env = append(env, "XDG_RUNTIME_DIR="+runtimeDir)
	}
	return env
}
