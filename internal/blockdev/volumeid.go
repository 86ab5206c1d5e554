package blockdev

import (
	"fmt"
	"strings"
)

// virtioSerialLength is how much of a serial virtio-blk hands to the guest
// (VIRTIO_BLK_ID_BYTES); the rest is cut off.
const virtioSerialLength = 20

// checkVolumeID returns an error unless id is a UUID in its usual form, which
// every Cinder volume has.
func checkVolumeID(id string) error {
	if !isUUID(id) {
		return fmt.Errorf("%w: %q", ErrVolumeID, id)
	}
	return nil
}

// isUUID tells whether s is a UUID of 36 characters.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !isHex(c) {
				return false
			}
		}
	}
	return true
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// undashed returns a UUID without its dashes, the form it has in a WWN.
func undashed(id string) string {
	return strings.ReplaceAll(id, "-", "")
}
