package volumes

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// maxMetadata is the length, in characters, of the longest key and value that Cinder takes.
const maxMetadata = 255

// metadataKey is the pattern of Cinder's API schema for keys of metadata
// (cinder/api/validation/parameter_types.py, metadata_allows_null), but for its length: a
// pattern that counts to 255 takes 240 kB of each plugin's memory.
var metadataKey = regexp.MustCompile(`^[a-zA-Z0-9_:. /-]+$`)

// CheckMetadata returns cloud.ErrInvalid for metadata that Cinder refuses, or by which
// the driver or Cinder itself recognises what the driver has made.
func CheckMetadata(metadata map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		// The database of most clouds takes a key in other letter case, or with blanks at
		// its end, for the same.
		folded := strings.TrimSpace(strings.ToLower(key))
		switch n := utf8.RuneCountInString(metadata[key]); {
		case len(key) > maxMetadata, !metadataKey.MatchString(key):
			return fmt.Errorf("metadata key %q: Cinder takes 1 to 255 letters, digits, blanks and any of -_:./ as a key: %w", key, cloud.ErrInvalid)
		case n > maxMetadata:
			return fmt.Errorf("metadata key %s: the value has %d characters, Cinder takes %d: %w", key, n, maxMetadata, cloud.ErrInvalid)
		case strings.HasPrefix(folded, ReservedPrefix):
			return fmt.Errorf("metadata key %s: keys that begin with %s are the driver's own: %w", key, ReservedPrefix, cloud.ErrInvalid)
		case folded == "readonly", folded == "attached_mode", folded == "src_backup_id":
			return fmt.Errorf("metadata key %s is Cinder's own: %w", key, cloud.ErrInvalid)
		}
	}
	return nil
}

// metadata returns what is recorded with something that is made for a request: the
// driver's own comes last.
func (s *Service) metadata(requested map[string]string) (map[string]string, error) {
	if s.opts.Cluster == "" {
		return nil, fmt.Errorf("the driver has no name for its cluster, by which it knows what it has made: set --cluster: %w", ErrState)
	}
	all := make(map[string]string, len(s.opts.Metadata)+len(requested)+1)
	maps.Copy(all, s.opts.Metadata)
	maps.Copy(all, requested)
	if err := CheckMetadata(all); err != nil {
		return nil, err
	}
	all[ClusterKey] = s.opts.Cluster
	return all, nil
}
