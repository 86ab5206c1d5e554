// Package nearest finds what somebody meant who made a mistake in writing.
package nearest

import "strings"

// Of returns the one of the known words that is nearest to word, in any letter case, "" if
// there is none.
func Of(word string, known []string) (nearest string) {
	least := -1
	for _, one := range known {
		if d := distance(strings.ToLower(word), strings.ToLower(one)); least < 0 || d < least {
			nearest, least = one, d
		}
	}
	return nearest
}

// distance is how many characters have to be put in, taken out or exchanged to make b of
// a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			exchange := before
			if a[i] != b[j] {
				exchange++
			}
			before = row[j+1]
			row[j+1] = min(exchange, before+1, row[j]+1)
		}
	}
	return row[len(b)]
}
