package blcrevents

import (
	"os"
	"testing"

	"blcr-cli/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
