package node

// SplitFlags is splitFlags.
func SplitFlags(group string) []string { return splitFlags(group) }

// MkfsOptions is mkfsOptions.
func MkfsOptions(volumeContext map[string]string, fsType string) ([]string, error) {
	return mkfsOptions(volumeContext, fsType)
}
