package report

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// recorder notes failures in place of the test's own.
type recorder struct {
	testing.TB
	failures []string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func TestOnlyWhatIsOverFails(t *testing.T) {
	table := &Table{Columns: "what\tmeasured\t"}
	table.Add(true, "cheap\t%d ms", 1)
	table.Add(false, "dear\t%d ms", 20)
	table.Remark("elsewhere")
	var out strings.Builder
	if err := table.write(&out); err != nil {
		t.Fatal(err)
	}
	want := "\nwhat   measured  \ncheap  1 ms      ok\ndear   20 ms     OVER\nelsewhere\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	r := &recorder{TB: t}
	table.Print(r)
	if want := []string{"over budget: dear\t20 ms"}; !slices.Equal(r.failures, want) {
		t.Errorf("got failures %q, want %q", r.failures, want)
	}
}

func TestTurnsAreSharedAndMediansTold(t *testing.T) {
	var order []int
	say := func(i int, answers ...time.Duration) func() time.Duration {
		return func() time.Duration {
			order = append(order, i)
			first := answers[0]
			answers = answers[1:]
			return first
		}
	}
	medians := ByTurns(3, say(0, 9, 1, 2), say(1, 5, 7, 6))
	if want := []int{0, 1, 1, 0, 0, 1}; !slices.Equal(order, want) {
		t.Errorf("turns %v, want %v", order, want)
	}
	if want := []time.Duration{2, 6}; !slices.Equal(medians, want) {
		t.Errorf("medians %v, want %v", medians, want)
	}
}
