package node

// SetStep makes s call f between any two steps.
func SetStep(s *Server, f func(done string)) { s.step = f }

// SplitFlags is splitFlags.
func SplitFlags(group string) []string { return splitFlags(group) }

// MkfsOptions is mkfsOptions.
func MkfsOptions(volumeContext map[string]string, fsType string) ([]string, error) {
	return mkfsOptions(volumeContext, fsType)
}
