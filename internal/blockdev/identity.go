package blockdev

import (
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"github.com/google/uuid"
)

// virtioSerialLength is how much of a serial virtio-blk hands to the guest
// (VIRTIO_BLK_ID_BYTES); the rest is cut off.
const virtioSerialLength = 20

// CheckVolumeID returns an error unless id is a UUID in its usual form, which
// every Cinder volume has.
func CheckVolumeID(id string) error {
	if !isUUID(id) {
		return fmt.Errorf("%w: %q", ErrVolumeID, id)
	}
	return nil
}

// isUUID tells whether s is a UUID of 36 characters.
func isUUID(s string) bool { return len(s) == 36 && uuid.Validate(s) == nil }

// undashed returns a UUID without its dashes, the form it has in a WWN.
func undashed(id string) string {
	return strings.ReplaceAll(id, "-", "")
}

// identity is one of the names that a disk has for itself.
type identity struct {
	// name in lower case, without padding.
	name string
	// serial is true for the name that the hypervisor sets per disk. Another
	// volume's id there proves the disk to be that volume's.
	serial bool
}

// identities collects what sysfs knows about who a disk is, without asking the
// disk. virtio-blk has to be asked for its serial, see serials.
func (s sysfs) identities(disk string) []identity {
	var all []identity
	add := func(serial bool, names ...string) {
		for _, n := range names {
			if n = tidy(n); n != "" {
				all = append(all, identity{name: n, serial: serial})
			}
		}
	}
	add(true, s.text(disk, "device", "serial"))   // NVMe controller
	add(false, bare(s.text(disk, "wwid")))        // NVMe namespace
	add(false, s.text(disk, "uuid"))              // NVMe namespace
	add(false, s.text(disk, "nguid"))             // NVMe namespace
	add(false, bare(s.text(disk, "device/wwid"))) // SCSI
	if page, err := os.ReadFile(s.block(disk, "device", "vpd_pg80")); err == nil {
		add(true, unitSerial(page))
	}
	if page, err := os.ReadFile(s.block(disk, "device", "vpd_pg83")); err == nil {
		add(false, designators(page)...)
	}
	return all
}

// tidy removes padding and folds case.
func tidy(name string) string {
	return strings.ToLower(strings.Trim(name, " \t\r\n\x00"))
}

// bare removes from a world wide id what says of which kind it is: naa., eui.,
// uuid., and t10. with the vendor and the model that follow it.
func bare(wwid string) string {
	kind, rest, ok := strings.Cut(wwid, ".")
	if !ok {
		return wwid
	}
	switch strings.ToLower(kind) {
	case "naa", "eui", "uuid":
		return rest
	case "t10":
		return lastField(rest)
	}
	return wwid
}

func lastField(s string) string {
	fields := strings.Fields(strings.Trim(s, "\x00"))
	if len(fields) == 0 {
		return ""
	}
	return fields[len(fields)-1]
}

// vpdPage returns the payload of a SCSI vital product data page, or nil when
// the bytes aren't that page.
func vpdPage(page []byte, code byte) []byte {
	const header = 4
	if len(page) < header || page[1] != code {
		return nil
	}
	length := int(page[2])<<8 | int(page[3])
	payload := page[header:]
	if length < len(payload) {
		payload = payload[:length]
	}
	return payload
}

// unitSerial returns the serial of VPD page 0x80.
func unitSerial(page []byte) string {
	return string(vpdPage(page, 0x80))
}

// designators returns the names that VPD page 0x83 gives to the logical unit.
func designators(page []byte) []string {
	const header = 4
	var names []string
	for rest := vpdPage(page, 0x83); len(rest) >= header; {
		length := int(rest[3])
		if len(rest) < header+length {
			break
		}
		// Association 0 is the logical unit; others name ports and targets.
		if rest[1]&0x30 == 0 {
			names = append(names, designator(rest[1]&0x0f, rest[header:header+length]))
		}
		rest = rest[header+length:]
	}
	return names
}

// designator returns the name in one designation descriptor of a given type.
func designator(kind byte, value []byte) string {
	const vendor = 8 // characters of vendor before a T10 name
	switch kind {
	case 0: // vendor specific: QEMU's serial
		return string(value)
	case 1: // T10 vendor, then model and serial
		if len(value) > vendor {
			return lastField(string(value[vendor:]))
		}
	case 2, 3: // EUI-64, NAA
		return hex.EncodeToString(value)
	case 8: // SCSI name string
		return bare(string(value))
	case 10: // UUID, after two bytes of header
		if len(value) == 18 {
			return hex.EncodeToString(value[2:])
		}
	}
	return ""
}

// fits tells whether names of a disk are the volume's, or as much of its id as virtio
// tells, and none says that it is another volume's.
func fits(volumeID string, identities []identity) bool {
	id := strings.ToLower(volumeID)
	found := false
	for _, i := range identities {
		switch {
		case i.name == id, i.name == undashed(id), i.name == id[:virtioSerialLength]:
			found = true
		case i.serial && isUUID(i.name):
			return false
		}
	}
	return found
}
