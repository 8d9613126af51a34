package ftbclient

import (
	"os"
	"testing"

	"blcr-cli/test/harness"
)

func TestMain(m *testing.M) {
	if port := os.Getenv(aloneVar); port != "" {
		os.Exit(alone(port))
	}
	os.Exit(harness.Main(m))
}
