// Package report prints what benchmarks have measured beside what it may be.
package report

import (
	"fmt"
	"io"
	"os"
	"slices"
	"testing"
	"text/tabwriter"
	"time"
)

// Table collects the rows of one printed table.
type Table struct {
	// Columns are the heads of all columns but that of the verdicts, each
	// followed by a tab.
	Columns string
	rows    []string
	over    []string
}

// Add adds a row whose last column says whether it is within its budget.
func (t *Table) Add(within bool, format string, args ...any) {
	row := fmt.Sprintf(format, args...)
	verdict := "ok"
	if !within {
		verdict = "OVER"
		t.over = append(t.over, row)
	}
	t.rows = append(t.rows, row+"\t"+verdict)
}

// Remark adds a row that is not judged.
func (t *Table) Remark(row string) { t.rows = append(t.rows, row) }

// Print writes the table to standard output, aligned, and fails the benchmark
// for every row that is over its budget.
func (t *Table) Print(b testing.TB) {
	b.Helper()
	if err := t.write(os.Stdout); err != nil {
		b.Fatal(err)
	}
	for _, row := range t.over {
		b.Errorf("over budget: %s", row)
	}
}

func (t *Table) write(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	for _, row := range append([]string{"", t.Columns}, t.rows...) {
		if _, err := fmt.Fprintln(w, row); err != nil {
			return err
		}
	}
	return w.Flush()
}

// Median returns the one in the middle.
func Median(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

// ByTurns has every way take its turn, so many rounds, and returns the median
// of what each says that it took. A machine that others work on is faster at one
// time and slower at another: turns have all ways share that. The one that
// begins is another in each round.
func ByTurns(rounds int, ways ...func() time.Duration) []time.Duration {
	took := make([][]time.Duration, len(ways))
	for round := range rounds {
		for turn := range ways {
			i := (round + turn) % len(ways)
			took[i] = append(took[i], ways[i]())
		}
	}
	medians := make([]time.Duration, len(ways))
	for i := range ways {
		medians[i] = Median(took[i])
	}
	return medians
}

// Timed returns how long work takes.
func Timed(work func()) time.Duration {
	start := time.Now()
	work()
	return time.Since(start)
}
