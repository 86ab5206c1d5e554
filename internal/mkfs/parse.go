package mkfs

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// rule says what becomes of one option.
type rule struct {
	// name that the option gets, where it has several.
	name string
	// value: the option has one.
	value bool
	// harmless: the option changes nothing that this driver doesn't do anyway, and
	// is left out.
	harmless bool
	// refuse says why the option isn't accepted.
	refuse string
	// check is for a value that is no list.
	check check
	// settings are for a value that is a list: what may be in it. A setting without
	// "=" has the value "".
	settings map[string]check
	// never says why a setting isn't accepted that mkfs knows.
	never map[string]string
	// features: a setting may be turned off by a leading ^.
	features bool
	// pieces: mkfs takes the list in several pieces. Elsewhere the last one would
	// replace the others, so that there may be but one.
	pieces bool
}

// dialect is how the mkfs of a filesystem reads its arguments: as getopt(3) does,
// by the letters of short options and the names of long ones.
type dialect map[string]rule

// dialects are those of the filesystems, by name.
func dialects() map[string]func() dialect {
	return map[string]func() dialect{
		"ext2": func() dialect { return ext("ext2") }, "ext3": func() dialect { return ext("ext3") },
		"ext4": func() dialect { return ext("ext4") }, "xfs": xfs, "btrfs": btrfs,
	}
}

// Parse reads arguments of mkfs in any spelling that mkfs takes, joined (-m0),
// bundled (-qm0), separate or long, and returns what of them shapes the
// filesystem. It fails with ErrOptions.
func Parse(fsType string, words []string) (List, error) {
	known, ok := dialects()[fsType]
	if !ok {
		return nil, fmt.Errorf("%w: filesystem %q is not supported", ErrOptions, fsType)
	}
	p := parser{dialect: known(), words: words}
	for len(p.words) > 0 {
		if err := p.word(); err != nil {
			return nil, fmt.Errorf("mkfs.%s %w", fsType, err)
		}
	}
	if err := together(fsType, p.list); err != nil {
		return nil, fmt.Errorf("mkfs.%s %w", fsType, err)
	}
	return p.list, nil
}

// parser reads words from the front.
type parser struct {
	dialect dialect
	words   []string
	list    List
}

// next takes the first word away.
func (p *parser) next() string {
	word := p.words[0]
	p.words = p.words[1:]
	return word
}

// word reads the options of one word, and the next one where that is a value.
func (p *parser) word() error {
	word := p.next()
	switch {
	case len(word) < 2 || word[0] != '-' || word == "--":
		return refusal(word, "it is no option, and would be taken for a device")
	case strings.HasPrefix(word, "--"):
		return p.long(word)
	}
	for rest := word[1:]; rest != ""; {
		name := "-" + rest[:1]
		r, known := p.dialect[name]
		rest = rest[1:]
		if !known {
			return refusal(name, "there is no such option, or none that shapes a filesystem")
		}
		if !r.value {
			if err := p.add(name, r, ""); err != nil {
				return err
			}
			continue
		}
		if rest == "" {
			if len(p.words) == 0 {
				return refusal(name, "its value is missing")
			}
			rest = p.next()
		}
		return p.add(name, r, rest)
	}
	return nil
}

// long reads --name, --name=value or --name value. A name may be cut short as long
// as it is clear.
func (p *parser) long(word string) error {
	name, value, joined := strings.Cut(word, "=")
	var matching []string
	for known := range p.dialect {
		if strings.HasPrefix(known, name) {
			matching = append(matching, known)
		}
	}
	slices.Sort(matching)
	r, known := p.dialect[name]
	if !known && len(matching) == 1 {
		name = matching[0]
		r, known = p.dialect[name], true
	}
	switch {
	case !known && len(matching) > 1:
		return refusal(name, "it may mean "+strings.Join(matching, " or "))
	case !known:
		return refusal(name, "there is no such option, or none that shapes a filesystem")
	case !r.value && joined:
		return refusal(name, "it has no value")
	case !r.value || joined:
		return p.add(name, r, value)
	case len(p.words) == 0:
		return refusal(name, "its value is missing")
	}
	return p.add(name, r, p.next())
}

// add takes an option up.
func (p *parser) add(name string, r rule, value string) error {
	if r.refuse != "" {
		return refusal(name, r.refuse)
	}
	if r.harmless {
		return nil
	}
	if err := r.checkValue(name, value); err != nil {
		return err
	}
	if r.name != "" {
		name = r.name
	}
	at := slices.IndexFunc(p.list, func(o Option) bool { return o.Name == name })
	switch {
	case at < 0:
		p.list = append(p.list, Option{name, value})
	case !r.pieces:
		return refusal(name, "it is given twice")
	default:
		for setting := range strings.SplitSeq(value, ",") {
			if p.list.Sets(name, setting) {
				return refusal(name+" "+setting, "it is given twice")
			}
		}
		p.list[at].Value += "," + value
	}
	return nil
}

// checkValue looks at the value of an option.
func (r rule) checkValue(name, value string) error {
	plain := regexp.MustCompile(`^[A-Za-z0-9_^][A-Za-z0-9_=,.:^+-]*$`)
	switch {
	case !r.value:
		return nil
	case !plain.MatchString(value):
		return refusal(fmt.Sprintf("%s %q", name, value), "a value is made of letters, digits and _ = , . : ^ + -")
	case r.check != nil:
		if err := r.check(value); err != nil {
			return refusal(name+" "+value, err.Error())
		}
		return nil
	}
	seen := make(map[string]bool)
	for setting := range strings.SplitSeq(value, ",") {
		key, v, _ := strings.Cut(setting, "=")
		if r.features {
			key = strings.TrimPrefix(key, "^")
		}
		if why, ok := r.never[key]; ok {
			return refusal(name+" "+setting, why)
		}
		allowed, ok := r.settings[key]
		if !ok {
			return refusal(name+" "+setting, "it must be one of "+strings.Join(slices.Sorted(maps.Keys(r.settings)), ", "))
		}
		if err := allowed(v); err != nil {
			return refusal(name+" "+setting, err.Error())
		}
		if seen[key] {
			return refusal(name+" "+setting, "it is given twice")
		}
		seen[key] = true
	}
	return nil
}

// refusal makes the error for an option.
func refusal(option, why string) error {
	return fmt.Errorf("%s: %w: %s", option, ErrOptions, why)
}
