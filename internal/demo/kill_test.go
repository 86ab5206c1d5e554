package demo

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
)

func TestParseKill(t *testing.T) {
	tests := []struct {
		text  string
		want  Kill
		fails string
	}{
		{"controller@attach", Kill{Component: Controller, Step: "attach"}, ""},
		{"node1@xfs/stage", Kill{Component: Node1, Step: "stage", Volume: "xfs"}, ""},
		{"controller", Kill{}, "not COMPONENT@STEP"},
		{"nova@attach", Kill{}, `no component "nova"`},
		{"devcloud@lunch", Kill{}, `no step "lunch"`},
		{"devcloud@zfs/attach", Kill{}, `no volume "zfs"`},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			got, err := ParseKill(tt.text)
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Fatalf("got %v, want an error with %q", err, tt.fails)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Fatalf("got %+v, %v", got, err)
			}
			if got.String() != tt.text {
				t.Errorf("written as %q", got.String())
			}
		})
	}
}

func TestChaosKillsEveryComponentInStepsThatExist(t *testing.T) {
	for _, volumes := range [][]string{Volumes(), {Block}} {
		var killed []string
		for _, k := range Chaos(volumes) {
			if _, err := ParseKill(k.String()); err != nil {
				t.Error(err)
			}
			if !slices.Contains(volumes, k.Volume) {
				t.Errorf("%v: the volume is not chosen", k)
			}
			killed = append(killed, k.Component)
		}
		slices.Sort(killed)
		if diff := cmp.Diff([]string{Controller, Devcloud, Node1, Node2}, slices.Compact(killed)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

func TestAKillIsTakenOnce(t *testing.T) {
	anyVolume, xfsOnly := Kill{Component: Controller, Step: "attach"}, Kill{Component: Node1, Step: "attach", Volume: "xfs"}
	now, rest := takeKills([]Kill{anyVolume, xfsOnly}, "ext4", "attach")
	if diff := cmp.Diff([][]Kill{{anyVolume}, {xfsOnly}}, [][]Kill{now, rest}); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestTheGunFiresDuringACallOfTheComponent(t *testing.T) {
	tests := []struct {
		name   string
		kill   string
		called string
		during bool
	}{
		{"a controller during its own call", Controller, Controller, true},
		{"the cloud during a call to the controller", Devcloud, Controller, true},
		{"a node during its own call", Node1, Node1, true},
		{"not the cloud during a call to a node, but after the step", Devcloud, Node1, false},
		{"not one node during a call to the other", Node2, Node1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			defer goleak.VerifyNone(t)
			killed := make(chan string, 1)
			g := &gun{kill: func(component, why string) { killed <- component + " " + why }}
			g.load([]Kill{{Component: tt.kill, Step: "attach"}})
			var during bool
			err := g.intercept(tt.called)(t.Context(), "/csi.v1.Service/Method", nil, nil, nil,
				func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
					if tt.during {
						killed <- <-killed
						during = true
					}
					return errors.New("cut off")
				})
			if err == nil {
				t.Error("the answer of the call is lost")
			}
			g.unload()
			got := <-killed
			if during != tt.during || !strings.HasPrefix(got, tt.kill+" killed ") {
				t.Errorf("%s, during the call: %v", got, during)
			}
			if g.lastCalled() != tt.called {
				t.Errorf("last called: %s", g.lastCalled())
			}
		})
	}
}

func TestTheMeterAddsUpOverRestarts(t *testing.T) {
	cloud := &countingCloud{}
	m := &meter{admin: cloud}
	for _, tt := range []struct{ count, want int }{{3, 3}, {7, 7}} {
		cloud.count = tt.count
		if got, err := m.total(t.Context()); err != nil || got != tt.want {
			t.Fatalf("got %d, %v, want %d", got, err, tt.want)
		}
	}
	cloud.count = 9
	m.readLast()
	m.restarted()
	cloud.count, cloud.fail = 2, 3
	if got, err := m.total(t.Context()); err != nil || got != 11 {
		t.Errorf("got %d, %v, want 11 after three questions without an answer", got, err)
	}
}

// countingCloud is a cloud of which only the counter is asked.
type countingCloud struct{ count, fail int }

func (c *countingCloud) Requests(context.Context) (int, error) {
	if c.fail--; c.fail >= 0 {
		return 0, errors.New("connection refused")
	}
	return c.count, nil
}

func (c *countingCloud) Left(context.Context) ([]string, error) { return nil, nil }
