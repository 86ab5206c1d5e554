package node

// SplitFlags is splitFlags.
func SplitFlags(group string) []string { return splitFlags(group) }
