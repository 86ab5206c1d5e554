package node_test

import (
	"testing"
	"time"
	"github.com/cinder-csi/cinder-csi/internal/node"
)

func TestZZ(t *testing.T) {
	for range 4 {
		r := newRig(t)
		v := r.attach(large, filesystemOf("ext4"))
		s := r.server()
		start := time.Now()
		node.SetStep(s, func(done string) { t.Log(done, time.Since(start)); start = time.Now() })
		_, err := s.NodeStageVolume(r.context(), v.stageRequest())
		must(t, err)
		t.Log("end", time.Since(start))
		must(t, r.unstage(v))
	}
}
