package instance

import (
	"bytes"
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

// parseMetadata reads which server a meta_data.json is of. Without the server's id it is
// of no use; a name or a zone in another form than Nova's is read as far as it can be.
func parseMetadata(data []byte) (Identity, error) {
	var doc struct {
		UUID word `json:"uuid"`
		Zone word `json:"availability_zone"`
	}
	if err := decode(data, &doc); err != nil {
		return Identity{}, err
	}
	if doc.UUID == "" {
		return Identity{}, errors.New("meta_data.json has no uuid")
	}
	id, err := ParseID(string(doc.UUID))
	if err != nil {
		return Identity{}, fmt.Errorf("meta_data.json: %w", err)
	}
	return Identity{ServerID: id, Zone: strings.TrimSpace(string(doc.Zone))}, nil
}

// ParseID returns the id of a server as Nova writes it: in lower case and with dashes.
// Gateways in front of Nova have been seen to write capitals, and no dashes.
func ParseID(s string) (string, error) {
	const withDashes, without = 36, 32
	id, err := uuid.Parse(s)
	if err != nil || len(s) != withDashes && len(s) != without {
		return "", fmt.Errorf("uuid %.64q is none", s)
	}
	return id.String(), nil
}

// decode reads a meta_data.json.
func decode(data []byte, doc any) error {
	if len(data) > maxMetadata {
		return fmt.Errorf("meta_data.json is %w", errTooLarge)
	}
	if err := json.Unmarshal(bytes.TrimPrefix(data, []byte("\ufeff")), doc); err != nil {
		return fmt.Errorf("meta_data.json: %w", err)
	}
	return nil
}

// word is a string of JSON, or a number as it is written: a zone that is called 7 may have
// lost its quotes. Anything else is an empty word.
type word string

// UnmarshalJSON implements json.Unmarshaler.
func (w *word) UnmarshalJSON(data []byte) error {
	*w = ""
	switch data[0] {
	case '"':
		return json.Unmarshal(data, (*string)(w))
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		*w = word(data)
	}
	return nil
}
