package state

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// SameText reports whether the services' database takes two texts for the same.
// MySQL compares with utf8_general_ci: letter case, accents and blanks at the
// end make no difference, blanks at the beginning do.
func SameText(a, b string) bool { return a == b || folded(a) == folded(b) }

func folded(s string) string {
	s = strings.TrimRight(s, " ")
	for i := range len(s) {
		if s[i] >= 0x80 {
			return strings.Map(func(r rune) rune {
				if unicode.Is(unicode.Mn, r) {
					return -1
				}
				return unicode.ToLower(r)
			}, norm.NFD.String(s))
		}
	}
	return strings.ToLower(s)
}
