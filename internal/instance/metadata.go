package instance

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// metadataPath is where both the config drive and the metadata service keep
// what Nova tells a server about itself.
const metadataPath = "openstack/latest/meta_data.json"

// maxMetadata bounds what is read of meta_data.json. Real ones have a few KiB;
// user metadata is limited to 128 pairs of 255 characters each by Nova's quota.
const maxMetadata = 1 << 20

// errTooLarge: a file or an answer exceeds maxMetadata.
var errTooLarge = fmt.Errorf("larger than %d bytes", maxMetadata)

// parseMetadata reads the fields of interest from a meta_data.json.
func parseMetadata(data []byte) (Identity, error) {
	if len(data) > maxMetadata {
		return Identity{}, fmt.Errorf("meta_data.json is %w", errTooLarge)
	}
	var doc struct {
		UUID string  `json:"uuid"`
		Name string  `json:"name"`
		Zone *string `json:"availability_zone"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return Identity{}, fmt.Errorf("meta_data.json: %w", err)
	}
	if doc.UUID == "" {
		return Identity{}, errors.New("meta_data.json has no uuid")
	}
	id, err := uuid.Parse(doc.UUID)
	if err != nil || len(doc.UUID) != len(id.String()) {
		return Identity{}, fmt.Errorf("meta_data.json: uuid %.64q is none", doc.UUID)
	}
	identity := Identity{ServerID: id.String(), Name: doc.Name}
	if doc.Zone != nil {
		identity.Zone = strings.TrimSpace(*doc.Zone)
	}
	return identity, nil
}
