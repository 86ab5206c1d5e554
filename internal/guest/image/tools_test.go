package image

import (
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/luks"
)

func TestTheGuestHasEveryProgramThatTheNodePluginRuns(t *testing.T) {
	for _, name := range append(filesystem.Programs(), luks.Programs()...) {
		if tools()[name] == "" {
			t.Errorf("%s is missing", name)
		}
	}
}
