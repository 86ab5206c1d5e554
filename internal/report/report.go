// Package report shows what a command found out, and says by which status it exits.
package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
)

// Answer is what a command found out. The value itself is marshalled to JSON; its keys
// are lowerCamel.
type Answer interface {
	// Print writes the answer for people: at most 120 columns wide, with what is wrong,
	// and the command that mends it, at the end.
	Print(w io.Writer) error
	// Wrong tells whether somebody has to do something.
	Wrong() bool
}

// Formats of an answer.
const (
	Text = "text"
	JSON = "json"
)

// Exit statuses of commands.
const (
	// Well: what was asked about is as it should be.
	Well = 0
	// SomethingWrong: something was found that somebody has to mend.
	SomethingWrong = 1
	// NoAnswer: the command could not look, or its command line makes no sense.
	NoAnswer = 2
)

// ErrWrong is the error of an answer that has been shown and tells of something wrong.
var ErrWrong = errors.New("something is wrong")

// Show writes an answer as Text or JSON. It returns ErrWrong if something is wrong by
// the answer, and any other error if the answer could not be written.
func Show(w io.Writer, answer Answer, format string) error {
	var out bytes.Buffer
	switch format {
	case Text:
		if err := answer.Print(&out); err != nil {
			return fmt.Errorf("print the answer: %w", err)
		}
	case JSON:
		encoder := json.NewEncoder(&out)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(answer); err != nil {
			return fmt.Errorf("print the answer: %w", err)
		}
	default:
		return CheckFormat(format)
	}
	text := Plain(out.String())
	if format == JSON {
		text = escaped(out.String())
	}
	if _, err := io.WriteString(w, text); err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	if answer.Wrong() {
		return ErrWrong
	}
	return nil
}

// Plain returns a text without what a terminal would obey: control characters, and those
// that turn the direction of the text around or are not seen. Names and messages in a
// cloud are whatever somebody has written there.
func Plain(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) && r != '\n' && r != '\t' {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// escaped returns JSON with escapes for what Plain leaves out and JSON lets stand.
func escaped(text string) string {
	var out strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) || r == '\n' {
			out.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&out, `\u%04x`, unit)
		}
	}
	return out.String()
}

// CheckFormat refuses what Show can't write.
func CheckFormat(format string) error {
	if format != Text && format != JSON {
		return fmt.Errorf("output %q: want %s or %s", format, Text, JSON)
	}
	return nil
}

// Status is the exit status of a command that ended with err.
func Status(err error) int {
	switch {
	case err == nil:
		return Well
	case errors.Is(err, ErrWrong):
		return SomethingWrong
	}
	return NoAnswer
}
