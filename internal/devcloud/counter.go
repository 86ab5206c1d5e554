package devcloud

import (
	"net/http"
	"strconv"
	"sync"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/metadata"
)

// counter counts requests.
type counter struct {
	mu sync.Mutex
	r  admin.Requests
}

func newCounter() *counter {
	c := &counter{}
	c.reset()
	return c
}

func (c *counter) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.r = admin.Requests{Operations: map[string]int64{}, Statuses: map[string]int64{}, Answers: map[string]map[string]int64{}}
}

// begin counts a request when it has come in.
func (c *counter) begin(method, operation string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if operation == metadata.Operation {
		c.r.Metadata++
		return
	}
	if method == http.MethodGet || method == http.MethodHead {
		c.r.Reads++
	} else {
		c.r.Writes++
	}
	c.r.Total++
	c.r.Operations[operation]++
	c.r.InFlight++
	c.r.MaxInFlight = max(c.r.MaxInFlight, c.r.InFlight)
}

// end counts how it was answered; 0 is for a connection that was closed.
func (c *counter) end(operation string, status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if operation == metadata.Operation {
		return
	}
	if c.r.InFlight > 0 {
		c.r.InFlight--
	}
	text := strconv.Itoa(status)
	c.r.Statuses[text]++
	if c.r.Answers[operation] == nil {
		c.r.Answers[operation] = map[string]int64{}
	}
	c.r.Answers[operation][text]++
}

func (c *counter) admin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.r.Admin++
}

func (c *counter) read() admin.Requests {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.r.Clone()
}
