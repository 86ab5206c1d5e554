package demo

import (
	"context"
	"fmt"
	"path"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// How long a call has been running when the kill comes: long enough that the
// work has begun, short enough that it is not over. Calls to a node take from
// 5 ms (a bind mount) to 100 ms (a mkfs), those to the controller longer than
// the cloud's quickest transition.
const (
	intoNodeCall       = 4 * time.Millisecond
	intoControllerCall = 25 * time.Millisecond
)

// gun kills components in the middle of calls. It sits in every connection.
type gun struct {
	// kill ends a component's process; why is for the person who watches.
	kill func(component, why string)
	// calling is told of every call that begins.
	calling func(method string)

	mu     sync.Mutex
	loaded []Kill
	last   string // the component called last
	fired  sync.WaitGroup
}

// load takes the kills for the step that begins.
func (g *gun) load(kills []Kill) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.loaded = kills
}

// unload waits for the kills under way and carries out those that found no
// call to hit.
func (g *gun) unload() {
	g.mu.Lock()
	rest := g.loaded
	g.loaded = nil
	g.mu.Unlock()
	for _, k := range rest {
		g.kill(k.Component, "killed after "+k.Step)
	}
	g.fired.Wait()
}

// lastCalled names the component that the latest call went to.
func (g *gun) lastCalled() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.last
}

// intercept returns the interceptor for the connection to a component.
func (g *gun) intercept(component string) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if g.calling != nil {
			g.calling(path.Base(method))
		}
		done := make(chan struct{})
		g.called(component, path.Base(method), done)
		err := invoke(ctx, method, req, reply, conn, opts...)
		close(done)
		return err
	}
}

// called fires the kills that the call of a component gives occasion to. The
// cloud is at work in every call to the controller.
func (g *gun) called(component, method string, done <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last = component
	var rest []Kill
	for _, k := range g.loaded {
		if k.Component != component && (k.Component != Devcloud || component != Controller) {
			rest = append(rest, k)
			continue
		}
		delay := intoNodeCall
		if component == Controller {
			delay = intoControllerCall
		}
		g.fired.Go(func() { g.fire(k.Component, method, delay, done) })
	}
	g.loaded = rest
}

func (g *gun) fire(component, method string, delay time.Duration, done <-chan struct{}) {
	select {
	case <-time.After(delay):
		g.kill(component, fmt.Sprintf("killed %s into %s", shortTime(delay), method))
	case <-done:
		g.kill(component, "killed at the end of "+method)
	}
}
