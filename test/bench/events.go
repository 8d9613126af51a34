package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"blcr-cli/test/ctrlsim"
	"blcr-cli/test/ftbsim"
)

const (
	rounds = 101

	limitNobody = time.Millisecond
	limitAgent  = 10 * time.Millisecond
)

// measureEvents measures by how much events of the Fault Tolerance Backplane delay the
// end of the command: without an agent, and with one. Each round runs every variant
// once, so that other load of the machine affects all of them alike. The result is the
// difference between each variant and the run without events in the same round.
func (c *command) measureEvents() error {
	nobody, err := ftbsim.Start(ftbsim.Config{Fault: ftbsim.Fault{Kind: ftbsim.Refuse}})
	if err != nil {
		return err
	}
	defer nobody.Close()
	agent, err := ftbsim.Start(ftbsim.Config{})
	if err != nil {
		return err
	}
	defer agent.Close()
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "FTB_") || strings.HasPrefix(v, "CR_FTB=")
	})
	ways := [][]string{
		append(slices.Clone(env), "CR_FTB=off"),
		append(slices.Clone(env), "FTB_AGENT_PORT="+strconv.Itoa(nobody.Port())),
		append(slices.Clone(env), "FTB_AGENT_PORT="+strconv.Itoa(agent.Port())),
	}
	more := make([][]time.Duration, len(ways))
	for round := range rounds {
		took := make([]time.Duration, len(ways))
		for i := range ways {
			way := (round + i) % len(ways)
			cmd := &ctrlsim.Command{Path: c.path, Args: c.args, Env: ways[way], Stderr: os.Stderr}
			res, err := cmd.Run()
			if err != nil {
				return err
			}
			// A process that keeps the socket open for the agent may run on for a while.
			took[way] = res.Elapsed
			if res.Status != 0 {
				return fmt.Errorf("%v: status %#x\n%s", c.args, res.Status, res.TranscriptText())
			}
		}
		for way := range ways {
			more[way] = append(more[way], took[way]-took[0])
		}
	}
	c.nobody, c.agent = median(more[1]), median(more[2])
	if err := agent.Settle(10 * time.Second); err != nil {
		return err
	}
	if n := len(agent.Events()); n != 2*rounds {
		return fmt.Errorf("%d events of %d have arrived", n, 2*rounds)
	}
	return nil
}
