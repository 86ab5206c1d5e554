package controller

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// checkMetadata refuses metadata that Cinder would not take, or by which the
// driver or Cinder itself recognises a volume.
func checkMetadata(key, value string) error {
	switch {
	case key == "":
		return errors.New("the key of the metadata is empty")
	case utf8.RuneCountInString(key) > maxMetadata, utf8.RuneCountInString(value) > maxMetadata:
		return fmt.Errorf("metadata has at most %d characters in a key and in a value", maxMetadata)
	}
	// The database of most clouds takes a key in other letter case, or with blanks at
	// its end, for the same when it changes one.
	switch folded := strings.TrimSpace(strings.ToLower(key)); {
	case strings.HasPrefix(folded, volumes.ReservedPrefix), strings.HasPrefix(folded, sidecarPrefix):
		return fmt.Errorf("metadata key %s is the driver's own", key)
	case folded == "readonly", folded == "attached_mode", folded == "src_backup_id":
		return fmt.Errorf("metadata key %s is Cinder's own", key)
	}
	return nil
}
