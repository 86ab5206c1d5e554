package demo

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// style is what the output can show.
type style struct {
	// Live: lines can be rewritten, because it is a terminal.
	Live bool
	// Color: it understands colours, and nobody has set NO_COLOR.
	Color bool
	// Unicode: it shows more than ASCII.
	Unicode bool
	// Width of the terminal in columns.
	Width int
}

// styleOf finds out what a file can show, given the environment.
func styleOf(f *os.File, getenv func(string) string) style {
	s := style{Width: 80}
	fd := int(f.Fd())
	if _, err := unix.IoctlGetTermios(fd, unix.TCGETS); err != nil || getenv("TERM") == "dumb" {
		return s
	}
	s.Live = true
	s.Color = getenv("NO_COLOR") == ""
	s.Unicode = speaksUTF8(getenv)
	if size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ); err == nil && size.Col > 20 {
		s.Width = int(size.Col)
	}
	return s
}

// speaksUTF8 reads the locale, in the order of precedence of POSIX.
func speaksUTF8(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(getenv(name)); v != "" {
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}

func (s style) paint(code, text string) string {
	if !s.Color || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) bold(text string) string   { return s.paint("1", text) }
func (s style) dim(text string) string    { return s.paint("2", text) }
func (s style) red(text string) string    { return s.paint("31", text) }
func (s style) green(text string) string  { return s.paint("32", text) }
func (s style) yellow(text string) string { return s.paint("33", text) }
func (s style) cyan(text string) string   { return s.paint("36", text) }

// choose returns the sign that the output can show. All plain signs are as
// wide as markWidth says.
func (s style) choose(fancy, plain string) string {
	if s.Unicode {
		return fancy
	}
	return plain
}

func (s style) markWidth() int {
	if s.Unicode {
		return 1
	}
	return 4
}

func (s style) ok() string     { return s.green(s.choose("✓", "ok  ")) }
func (s style) failed() string { return s.red(s.choose("✗", "FAIL")) }
func (s style) note() string   { return s.yellow(s.choose("↻", "note")) }

// spinner returns the picture of a moving sign.
func (s style) spinner(frame int) string {
	if s.Unicode {
		pictures := []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
		return string(pictures[frame%len(pictures)])
	}
	return pad(string(`|/-\`[frame%4]), s.markWidth())
}
