package bundle

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"html"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Redacted takes the place of what is secret, or may be.
const Redacted = "REDACTED"

// shortest is the length below which a secret is not looked for in texts: it would be
// found by chance in too many words. Where its key tells that it is one, it is left out
// all the same.
const shortest = 5

// redactor takes secrets out of texts: those that it knows, and whatever looks like one.
type redactor struct {
	known    []string
	replacer *strings.Replacer
	// keys are private keys, and looks what other secrets look like in a line, with what is
	// left of them.
	keys  *regexp.Regexp
	looks []look
	// values are what keys with their values look like, from the key's last word on. What
	// their group has is left.
	values []*regexp.Regexp
}

// look is what a kind of secrets looks like. It is searched for in lines that have one of
// its signs, in small letters: most lines of a long log have none.
type look struct {
	signs []string
	like  *regexp.Regexp
	left  string
}

// secretWord is what the last word of a key says that has a secret for its value.
const secretWord = `(?:pass(?:words?|wd|phrase)?|secrets?|tokens?|authorization|(?:private|api|access|encryption)[-_]?key|key[-_]data)` // #nosec G101 -- a pattern

// newRedactor returns one that knows no secret. It compiles its patterns here, for a program that needs
// none of them at its start.
func newRedactor() redactor {
	// Between a key and its value; a list in Go's or JSON's writing may begin, or a string in Python's.
	const is = `\s*[:=]\s*\[*\s*[ub]?`
	return redactor{
		// In PEM, also with its lines' ends written as \n. One that is cut off goes to the end.
		keys: regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|$)`),
		looks: []look{
			// Keystone's Fernet tokens, JSON Web Tokens, and PEM in base64, as in a kubeconfig.
			{[]string{"gaaaaa"}, regexp.MustCompile(`\bgAAAAA[A-Za-z0-9_=-]{20,}`), Redacted},
			{[]string{"eyj"}, regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(\.[A-Za-z0-9_-]*)?`), Redacted},
			{[]string{"ls0tls1crudjti"}, regexp.MustCompile(`\bLS0tLS1CRUdJTi[A-Za-z0-9+/_=-]{20,}`), Redacted},
			// A header.
			{[]string{"bearer ", "basic "}, regexp.MustCompile(`(?i)\b(bearer|basic) [A-Za-z0-9._~+/=-]{8,}`), "$1 " + Redacted},
			// Who logs in by a URL, which may have an @ in the password.
			{[]string{"@"}, regexp.MustCompile(`(://)[^/\s"']+@`), "${1}" + Redacted + "@"},
			// An option of a command line.
			{[]string{"--"}, regexp.MustCompile(`(?i)(--[a-z-]*` + secretWord + `\s+["']?)[^\s"'-][^\s"']*`), "${1}" + Redacted},
		},
		values: []*regexp.Regexp{
			// In quotes, in JSON that is quoted; in quotes; bare behind a key in quotes; bare.
			regexp.MustCompile(`(?i)^(` + secretWord + `(?:\\+")?` + is + `\\+")(?:[^"\\]|\\\\\\"|\\[^"])+`),
			regexp.MustCompile(`(?i)^(` + secretWord + `["']?` + is + `")(?:[^"\\]|\\.)+`),
			regexp.MustCompile(`(?i)^(` + secretWord + `["']?` + is + `')(?:[^'\\]|\\.|'')+`),
			regexp.MustCompile(`(?i)^(` + secretWord + `\\*["']` + is + `)[^\s"'\\,;{}\[\]]+`),
			regexp.MustCompile(`(?i)^(` + secretWord + is + `)(?:[^\s"'\\\[]|\\\\|\\u[0-9a-f]{4})(?:[^\s"'\\]|\\\\|\\u[0-9a-f]{4})*`),
		},
	}
}

// know adds secrets, in all the forms in which they may be written.
func (r *redactor) know(secrets ...string) {
	var all []string
	for _, secret := range secrets {
		all = append(all, secret)
		if lines := strings.Split(secret, "\n"); len(lines) > 1 {
			all = append(all, lines...) // a log may have a part of a key
		}
	}
	for _, secret := range all {
		secret = strings.TrimSpace(secret)
		if strings.HasPrefix(secret, "-----") && !strings.Contains(secret, "\n") {
			continue
		}
		if _, err := strconv.ParseBool(strings.ToLower(secret)); err == nil || len(secret) < shortest {
			continue
		}
		for _, form := range formsOf(secret) {
			if len(form) >= shortest && !slices.Contains(r.known, form) {
				r.known = append(r.known, form)
			}
		}
	}
	// The longest first, so that none is left of which another one is a part.
	slices.SortFunc(r.known, func(a, b string) int { return len(b) - len(a) })
	pairs := make([]string, 0, 2*len(r.known))
	for _, secret := range r.known {
		pairs = append(pairs, secret, Redacted)
	}
	r.replacer = strings.NewReplacer(pairs...)
}

// formsOf returns the forms in which a secret may be written: in JSON, JSON that is quoted
// once more, YAML, HTML, a URL, and base64, also as a part of something longer.
func formsOf(secret string) []string {
	forms := []string{
		secret, url.QueryEscape(secret), url.PathEscape(secret), strings.TrimPrefix(url.UserPassword("", secret).String(), ":"),
		html.EscapeString(secret), strings.ReplaceAll(secret, "'", "''"), strings.Trim(strconv.QuoteToASCII(secret), `"`),
	}
	for _, escapes := range []bool{false, true} {
		once := inJSON(secret, escapes)
		forms = append(forms, once, inJSON(once, escapes))
	}
	for before := range 3 { // bytes of something else, by which its place in base64 shifts
		padded := append(make([]byte, before), secret...)
		first, last := (before*8+5)/6, len(padded)*8/6 // characters that are of the secret alone
		for _, alphabet := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			forms = append(forms, alphabet.EncodeToString(padded)[first:last])
		}
	}
	return forms
}

// inJSON returns a text as JSON has it between its quotes; escapes says whether <, > and & are escaped.
func inJSON(text string, escapes bool) string {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(escapes)
	_ = encoder.Encode(text) // a text always is JSON
	quoted := strings.TrimSuffix(out.String(), "\n")
	return quoted[1 : len(quoted)-1]
}

// passwordIn returns the secrets of a URL: who logs in by it, with the password and without.
func passwordIn(address string) (secrets []string) {
	_, rest, _ := strings.Cut(address, "://")
	if at := strings.LastIndex(rest, "@"); at > 0 {
		name, password, with := strings.Cut(rest[:at], ":")
		if !with {
			return []string{name}
		}
		secrets = []string{password}
		if plain, err := url.PathUnescape(password); err == nil && plain != password {
			secrets = append(secrets, plain)
		}
	}
	return secrets
}

// clean returns a text without secrets.
func (r *redactor) clean(text []byte) []byte {
	if r.replacer != nil {
		text = []byte(r.replacer.Replace(string(text)))
	}
	var out bytes.Buffer
	out.Grow(len(text))
	text = r.keys.ReplaceAll(bytes.ToValidUTF8(text, []byte("?")), []byte(Redacted))
	for line := range bytes.Lines(text) {
		small := smallLetters(line)
		for _, p := range r.looks {
			if slices.ContainsFunc(p.signs, func(sign string) bool { return bytes.Contains(small, []byte(sign)) }) {
				line = p.like.ReplaceAll(line, []byte(p.left))
			}
		}
		r.writeWithoutValues(&out, line)
	}
	return out.Bytes()
}

// writeWithoutValues writes a line without the values of keys for secrets.
func (r *redactor) writeWithoutValues(out *bytes.Buffer, line []byte) {
	// What secretWord may begin with, and where each is next.
	words := [...]string{"pass", "secret", "token", "authorization", "private", "api", "access", "encryption", "key"}
	var next [len(words)]int
	small := smallLetters(line)
	for done, began := 0, true; ; began = false {
		at, end := len(line), len(line)
		for i, word := range words {
			if next[i] < done || began {
				next[i] = len(line)
				if found := bytes.Index(small[done:], []byte(word)); found >= 0 {
					next[i] = done + found
				}
			}
			if next[i] < at {
				at, end = next[i], next[i]+len(word)
			}
		}
		left := end
		for _, value := range r.values {
			if found := value.FindSubmatchIndex(line[at:]); found != nil {
				left, end = at+found[3], at+found[1]
				break
			}
		}
		out.Write(line[done:left])
		if end > left {
			out.WriteString(Redacted)
		}
		if done = end; done == len(line) {
			return
		}
	}
}

// smallLetters returns a text of the same length with the letters of ASCII in small.
func smallLetters(text []byte) []byte {
	small := bytes.Clone(text)
	for i, c := range small {
		if c >= 'A' && c <= 'Z' {
			small[i] = c + 'a' - 'A'
		}
	}
	return small
}
