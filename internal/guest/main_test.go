package guest_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
)

// interrupted is a context that ends when the tests are to end early, so that
// they still clean up.
var interrupted context.Context

func TestMain(m *testing.M) {
	if address := os.Getenv(relayVariable); address != "" {
		if err := relay(address); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	var stop context.CancelFunc
	interrupted, stop = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := m.Run()
	stop()
	os.Exit(status)
}
