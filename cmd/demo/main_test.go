package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cinder-csi/cinder-csi/internal/demo"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name    string
		args    []string
		volumes []string
		kills   []string
		fails   string
	}{
		{"no flags mean all volumes and no kills", nil, demo.Volumes(), nil, ""},
		{"chosen volumes", []string{"--fs=xfs,block"}, []string{"xfs", "block"}, nil, ""},
		{"kills in their order", []string{"--kill", "node1@stage", "--kill", "controller@xfs/attach"},
			demo.Volumes(), []string{"node1@stage", "controller@xfs/attach"}, ""},
		{"a kill of nothing known", []string{"--kill", "nova@stage"}, nil, nil, `--kill: "nova@stage": no component "nova"`},
		{"an unknown flag", []string{"--nonsense"}, nil, nil, "unknown flag: --nonsense"},
		{"an argument", []string{"now"}, nil, nil, `unexpected argument "now"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			opts, err := parse(tt.args)
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Fatalf("got %v, want %q", err, tt.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var kills []string
			for _, k := range opts.Kills {
				kills = append(kills, k.String())
			}
			if diff := cmp.Diff([][]string{tt.volumes, tt.kills}, [][]string{opts.Volumes, kills}); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if opts.BinDir == "" {
				t.Error("no directory of binaries")
			}
		})
	}
}

func TestChaosStaysWithTheChosenVolumes(t *testing.T) {
	opts, err := parse([]string{"--chaos", "--fs=block"})
	if err != nil {
		t.Fatal(err)
	}
	if len(opts.Kills) < 4 {
		t.Errorf("only %d kills", len(opts.Kills))
	}
	for _, k := range opts.Kills {
		if k.Volume != "block" {
			t.Errorf("%v is for another volume", k)
		}
	}
}
