package driver

import (
	"context"
	"net"
	"net/http"
	"testing"
)

// TestAStopWaitsForNobodyWhoRecordsAProfile: such an answer ends when the plugin is told to.
func TestAStopWaitsForNobodyWhoRecordsAProfile(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	begun, ended := make(chan struct{}), make(chan struct{})
	stopped := make(chan error, 1)
	go func() {
		stopped <- serveHTTP(ctx, listener, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(begun)
			<-r.Context().Done()
			close(ended)
		}), 0)
	}()
	go func() {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+listener.Addr().String(), nil)
		if err != nil {
			return
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
		}
	}()
	<-begun
	stop()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	select {
	case <-ended:
	default:
		t.Error("the plugin has waited until its patience was over")
	}
}
