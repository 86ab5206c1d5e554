package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// notify tells a channel when a child has ended.
func notify(c chan<- os.Signal) { signal.Notify(c, syscall.SIGCHLD) }

// Serve answers on a Unix socket until the process is killed.
func Serve(ctx context.Context, socket string) error {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", socket)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: New().handler(), ReadHeaderTimeout: 10 * time.Second}
	return server.Serve(listener)
}

// handler is the supervisor as a service of HTTP.
func (s *Supervisor) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /services", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(s.States()) // a client that has gone can't be told
	})
	mux.HandleFunc("PUT /services", func(w http.ResponseWriter, r *http.Request) {
		var service Service
		err := json.NewDecoder(r.Body).Decode(&service)
		if err == nil && len(service.Args) == 0 {
			err = errors.New("the service has no program")
		}
		if err == nil {
			err = s.Start(service)
		}
		answer(w, err)
	})
	mux.HandleFunc("DELETE /services/{name}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, s.Stop(r.PathValue("name")))
	})
	mux.HandleFunc("POST /services/{name}/signal/{number}", func(w http.ResponseWriter, r *http.Request) {
		number, err := strconv.Atoi(r.PathValue("number"))
		if err == nil {
			err = s.Signal(r.PathValue("name"), syscall.Signal(number))
		}
		answer(w, err)
	})
	return mux
}

func answer(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
