package nodeinspect

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/registration"
)

// Registration is what the kubelet knows of the driver.
type Registration struct {
	// Socket is the registration socket of a plugin that registers itself; empty where a
	// side container does.
	Socket string `json:"socket,omitempty"`
	// Served tells that a plugin answers there, Error why it doesn't.
	Served bool   `json:"served"`
	Error  string `json:"error,omitempty"`
	// Registered is the kubelet's last word by the plugin's metrics: yes, no or unknown.
	Registered string `json:"registered"`
	// Refusals are those since the start of the plugin, by reason, without zeros.
	Refusals map[string]int `json:"refusals,omitempty"`
	// MetricsError is why the plugin's metrics could not be read.
	MetricsError string `json:"metricsError,omitempty"`
}

// askTime is how long the plugin is asked.
const askTime = 5 * time.Second

// registered asks the plugin that runs here.
func registered(ctx context.Context, opts Options) Registration {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	r := Registration{Socket: opts.RegistrationSocket, Registered: "unknown"}
	if r.Socket != "" {
		info, err := registration.Ask(ctx, r.Socket)
		if err == nil && info.GetName() != opts.Driver {
			err = fmt.Errorf("%s answers there", info.GetName())
		}
		r.Served, r.Error = err == nil, text(err)
	}
	if opts.MetricsURL != "" {
		r.MetricsError = text(r.readMetrics(ctx, opts.MetricsURL))
	}
	return r
}

// readMetrics reads what of the plugin's metrics belongs here.
func (r *Registration) readMetrics(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: HTTP %d", url, answer.StatusCode)
	}
	const most = 16 << 20
	lines := bufio.NewScanner(io.LimitReader(answer.Body, most))
	for lines.Scan() {
		name, text, _ := strings.Cut(lines.Text(), " ")
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			continue // a comment
		}
		reason, refusal := strings.CutPrefix(name, `cinder_csi_node_refusals_total{reason="`)
		switch {
		case name == "cinder_csi_node_registered" && value == 1:
			r.Registered = "yes"
		case name == "cinder_csi_node_registered":
			r.Registered = "no"
		case refusal && value > 0:
			if r.Refusals == nil {
				r.Refusals = make(map[string]int)
			}
			r.Refusals[strings.TrimSuffix(reason, `"}`)] = int(value)
		}
	}
	return lines.Err()
}
