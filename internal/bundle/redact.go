package bundle

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
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
}

// look is what a kind of secrets looks like.
type look struct {
	like *regexp.Regexp
	left string
}

// newRedactor returns one that knows no secret. It compiles its patterns here, for a program that needs
// none of them at its start.
func newRedactor() redactor {
	return redactor{
		// In PEM, also with its lines' ends written as \n. One that is cut off goes to the end.
		keys: regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|$)`),
		looks: []look{
			// Keystone's Fernet tokens, and JSON Web Tokens.
			{regexp.MustCompile(`\bgAAAAA[A-Za-z0-9_=-]{20,}`), Redacted},
			{regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(\.[A-Za-z0-9_-]*)?`), Redacted},
			// A header.
			{regexp.MustCompile(`(?i)\b(bearer|basic) [A-Za-z0-9._~+/=-]{8,}`), "$1 " + Redacted},
			// A password in a URL.
			{regexp.MustCompile(`(://[^/\s:@"]*:)[^/\s@"]+@`), "${1}" + Redacted + "@"},
			// A key that ends in a word for a secret, with a value; also in JSON that is quoted.
			{regexp.MustCompile(`(?i)((?:passwords?|passwd|passphrase|secrets?|tokens?|private[-_]?key|api[-_]?key|access[-_]?key|encryption[-_]?key)(?:\\*["'])?\s*[:=]\s*(?:\\*["'])?)([^\s"'\\,;{}\[\]]+)`), "${1}" + Redacted},
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
		quoted, _ := json.Marshal(secret)
		for _, form := range []string{
			secret, strings.Trim(string(quoted), `"`), url.QueryEscape(secret), url.PathEscape(secret),
			base64.StdEncoding.EncodeToString([]byte(secret)), base64.RawStdEncoding.EncodeToString([]byte(secret)),
			base64.URLEncoding.EncodeToString([]byte(secret)), base64.RawURLEncoding.EncodeToString([]byte(secret)),
		} {
			if !slices.Contains(r.known, form) {
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

// suspicious reports whether a line may have what one of the looks finds. Most of a long log
// is passed over by this.
func suspicious(line []byte) bool {
	return bytes.ContainsAny(line, ":=") || bytes.Contains(line, []byte("gAAAAA")) || bytes.Contains(line, []byte("eyJ")) ||
		bytes.Contains(bytes.ToLower(line), []byte("bearer ")) || bytes.Contains(bytes.ToLower(line), []byte("basic "))
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
		if suspicious(line) {
			for _, p := range r.looks {
				line = p.like.ReplaceAll(line, []byte(p.left))
			}
		}
		out.Write(line)
	}
	return out.Bytes()
}
