package cinder

import (
	"errors"
	"strings"
)

var errLiteral = errors.New("not a dictionary of strings")

// pythonDict reads a Python dictionary of strings, as in {'k': "v", u'a': 'b'}.
func pythonDict(text string) (map[string]string, error) {
	p := literal{rest: text}
	if !p.take('{') {
		return nil, errLiteral
	}
	m := map[string]string{}
	if p.take('}') {
		return m, p.end()
	}
	for {
		key, err := p.str()
		if err != nil || !p.take(':') {
			return nil, errLiteral
		}
		value, err := p.str()
		if err != nil {
			return nil, errLiteral
		}
		m[key] = value
		if p.take('}') {
			return m, p.end()
		}
		if !p.take(',') {
			return nil, errLiteral
		}
		if p.take('}') {
			return m, p.end()
		}
	}
}

type literal struct{ rest string }

func (p *literal) skip() { p.rest = strings.TrimLeft(p.rest, " \t\n") }

func (p *literal) take(c byte) bool {
	p.skip()
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *literal) end() error {
	if p.skip(); p.rest != "" {
		return errLiteral
	}
	return nil
}

func (p *literal) str() (string, error) {
	p.skip()
	if strings.HasPrefix(p.rest, "u'") || strings.HasPrefix(p.rest, `u"`) {
		p.rest = p.rest[1:]
	}
	if p.rest == "" || p.rest[0] != '\'' && p.rest[0] != '"' {
		return "", errLiteral
	}
	quote := p.rest[0]
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == quote:
			p.rest = p.rest[i+1:]
			return b.String(), nil
		case c == '\\' && i+1 < len(p.rest):
			i++
			b.WriteByte(p.rest[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", errLiteral
}
