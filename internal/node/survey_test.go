package node_test

import (
	"errors"
	"io/fs"
	"os"
	"testing"
)

// TestASurveyMakesNoStagingPath: the kubelet takes the path of a volume away that was
// unstaged while it is looked at, and fails when it is there again.
func TestASurveyMakesNoStagingPath(t *testing.T) {
	t.Parallel()
	r, v := staged(t, filesystemOf("ext4"))
	next, err := r.server().NextAfter(r.context(), v.id, v.staging, func() {
		must(t, r.unstage(v))
		if err := os.Remove(v.staging); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	})
	if _, serr := os.Lstat(v.staging); !errors.Is(serr, fs.ErrNotExist) {
		t.Errorf("the path is there again: %v (%s, %v)", serr, next, err)
	}
	must(t, r.stage(v))
}
