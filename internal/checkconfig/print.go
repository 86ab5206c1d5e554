package checkconfig

import (
	"fmt"
	"io"
	"strings"
)

// The columns of the text.
const (
	subjectWidth = 18
	verdictWidth = 7
	textWidth    = 76
)

// Print writes the answer for people, with what to do at its end.
func (a *Answer) Print(w io.Writer) error {
	var b strings.Builder
	for _, f := range a.Findings {
		f.print(&b)
	}
	for _, c := range a.Clouds {
		fmt.Fprintf(&b, "\ncloud %s: %s\n\n", c.Name, c.Verdict)
		for _, f := range c.Findings {
			f.print(&b)
		}
	}
	a.advice(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func (f Finding) print(b *strings.Builder) {
	indent := strings.Repeat(" ", 2+subjectWidth+1+verdictWidth+1)
	subject := f.Subject
	if len(subject) > subjectWidth {
		fmt.Fprintf(b, "  %s\n", subject)
		subject = ""
	}
	for i, line := range wrap(f.Text, textWidth) {
		if i == 0 {
			fmt.Fprintf(b, "  %-*s %-*s %s\n", subjectWidth, subject, verdictWidth, f.Verdict, line)
		} else {
			b.WriteString(indent + line + "\n")
		}
	}
}

// advice lists what is not well with what to do, the worst first.
func (a *Answer) advice(b *strings.Builder) {
	title := "\nWhat to do:\n"
	for _, verdict := range []Verdict{Wrong, Unseen, Warn} {
		tell := func(where string, findings []Finding) {
			for _, f := range findings {
				if f.Verdict != verdict || f.Do == "" {
					continue
				}
				b.WriteString(title)
				title = ""
				for i, line := range wrap(fmt.Sprintf("%s%s: %s.", where, f.Subject, f.Do), textWidth+subjectWidth) {
					b.WriteString([]string{fmt.Sprintf("  %-*s ", verdictWidth, verdict), strings.Repeat(" ", verdictWidth+3)}[min(i, 1)] + line + "\n")
				}
			}
		}
		tell("", a.Findings)
		for _, c := range a.Clouds {
			tell("cloud "+c.Name+", ", c.Findings)
		}
	}
	if title != "" {
		b.WriteString("\nNothing is to be done.\n")
	}
}

// wrap breaks the lines of a text between words. A word that is longer stands alone.
func wrap(text string, width int) (lines []string) {
	for line := range strings.SplitSeq(text, "\n") {
		lines = append(lines, wrapLine(line, width)...)
	}
	return lines
}

func wrapLine(text string, width int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
