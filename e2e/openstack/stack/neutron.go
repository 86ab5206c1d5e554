package stack

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// neutronAddress is where Nova looks for its network service.
const neutronAddress = "127.0.0.1:9696"

// ServeNeutron is all of a network service that Nova needs for servers without
// a network: nothing of anything.
func ServeNeutron() error {
	server := &http.Server{Addr: neutronAddress, Handler: http.HandlerFunc(nothing), ReadHeaderTimeout: 10 * time.Second}
	return server.ListenAndServe()
}

func nothing(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	var body any
	switch len(parts) {
	case 1:
		body = map[string]any{"versions": []any{map[string]any{
			"id": "v2.0", "status": "CURRENT", "links": []any{map[string]any{"rel": "self", "href": "http://" + neutronAddress + "/v2.0/"}},
		}}}
	case 2:
		body = map[string]any{strings.ReplaceAll(strings.TrimSuffix(parts[1], ".json"), "-", "_"): []any{}}
	}
	w.Header().Set("Content-Type", "application/json")
	if body == nil {
		w.WriteHeader(http.StatusNotFound)
		body = map[string]any{"NeutronError": map[string]any{"type": "NotFound", "message": "not found", "detail": ""}}
	}
	_ = json.NewEncoder(w).Encode(body) // a client that has gone can't be told
}
