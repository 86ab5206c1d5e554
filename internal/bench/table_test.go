package bench

import (
	"fmt"
	"io"
	"os"
	"testing"
	"text/tabwriter"
)

// table collects the rows of one printed table.
type table struct {
	columns string
	rows    []string
	over    []string
}

// add adds a row whose last column says whether it is within its budget.
func (t *table) add(within bool, format string, args ...any) {
	row := fmt.Sprintf(format, args...)
	verdict := "ok"
	if !within {
		verdict = "OVER"
		t.over = append(t.over, row)
	}
	t.rows = append(t.rows, row+"\t"+verdict)
}

// print writes the table to standard output, aligned, and fails the benchmark
// for every row that is over its budget.
func (t *table) print(b *testing.B) {
	b.Helper()
	if err := t.write(os.Stdout); err != nil {
		b.Fatal(err)
	}
	for _, row := range t.over {
		b.Errorf("over budget: %s", row)
	}
}

func (t *table) write(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	for _, row := range append([]string{"", t.columns}, t.rows...) {
		if _, err := fmt.Fprintln(w, row); err != nil {
			return err
		}
	}
	return w.Flush()
}
