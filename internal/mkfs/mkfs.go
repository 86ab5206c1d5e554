// Package mkfs says which options of mkfs a volume context may ask for. It reads
// them as mkfs itself does, in every spelling, and refuses what names other
// devices or files, what mkfs would refuse whatever the size of the device, and
// what lays a filesystem out in such a way that a later proof of blankness could
// miss it when its head is lost (see package filesystem).
//
// It runs nothing and looks at no device: the controller asks it before a volume
// is made, and the node before a filesystem is.
package mkfs

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The keys of a volume context that shape the filesystem made on a blank volume.
// A filesystem that exists is used as it is.
const (
	// OptionsKey: options of mkfs, separated by white space, as in
	// "-E stride=16,stripe_width=64 -m 1".
	OptionsKey = "cinder.csi.openstack.org/mkfs-options"
	// ReferenceOptionsKey is OptionsKey as cloud-provider-openstack's plugin writes it.
	ReferenceOptionsKey = "mkfs-options"
	// BlockSizeKey: bytes of a block, a power of two from 1024 to 4096; ext and XFS.
	BlockSizeKey = "cinder.csi.openstack.org/blockSize"
	// InodeSizeKey: bytes of an inode, a power of two from 256 to 2048; ext and XFS.
	InodeSizeKey = "cinder.csi.openstack.org/inodeSize"
	// BytesPerInodeKey: one inode is made for so many bytes, 1024 to 67108864; ext.
	BytesPerInodeKey = "cinder.csi.openstack.org/bytesPerInode"
)

// ErrOptions means that an option isn't one that may be given to mkfs, or that its
// value isn't. The error says why.
var ErrOptions = errors.New("option of mkfs refused")

// Options reads what a volume context asks of the mkfs of a filesystem, checked and in
// one spelling. They are none when it asks for nothing. It fails with ErrOptions.
func (d Dialect) Options(volumeContext map[string]string) (List, error) {
	var words []string
	for _, s := range sizes() {
		value, asked := volumeContext[s.key]
		if !asked {
			continue
		}
		option, err := s.option(d.sizes[s.key], value)
		if err != nil {
			return nil, fmt.Errorf("mkfs.%s %w", d.fsType, err)
		}
		words = append(words, option...)
	}
	options, ours := volumeContext[OptionsKey]
	reference, theirs := volumeContext[ReferenceOptionsKey]
	if ours && theirs && options != reference {
		return nil, fmt.Errorf("%w: %s is %q, but %s is %q", ErrOptions, OptionsKey, options, ReferenceOptionsKey, reference)
	}
	if !ours {
		options = reference
	}
	return d.Parse(append(words, strings.Fields(options)...))
}

// size is a key of the volume context whose value is a number of bytes.
type size struct {
	key     string
	allowed check
}

func sizes() []size {
	return []size{
		{BlockSizeKey, power(1<<10, largestBlock)},
		{InodeSizeKey, power(256, 2<<10)},
		{BytesPerInodeKey, number(1<<10, 64<<20)},
	}
}

// option returns a value as the words of an option, of which as has all but the value;
// it is empty where mkfs has none.
func (s size) option(as, value string) ([]string, error) {
	if as == "" {
		return nil, fmt.Errorf("%w: %s can't be set for this filesystem", ErrOptions, s.key)
	}
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%w: %s is %q: it must be a number of bytes", ErrOptions, s.key, value)
	}
	value = strconv.FormatUint(n, 10)
	if err := s.allowed(value); err != nil {
		return nil, fmt.Errorf("%w: %s is %q: %w", ErrOptions, s.key, value, err)
	}
	name, prefix, _ := strings.Cut(as, " ")
	return []string{name, prefix + value}, nil
}

// Option is one option of mkfs.
type Option struct {
	// Name as in -E, the shortest that mkfs knows.
	Name string
	// Value is empty for an option that has none.
	Value string
}

// List is options of mkfs, each name once.
type List []Option

// Arguments returns the options as arguments of mkfs.
func (l List) Arguments() []string {
	var arguments []string
	for _, o := range l {
		arguments = append(arguments, o.Name)
		if o.Value != "" {
			arguments = append(arguments, o.Value)
		}
	}
	return arguments
}

// Default adds an option unless it was asked for.
func (l List) Default(name, value string) List {
	if l.says(name, "") {
		return l
	}
	return append(List{{name, value}}, l...)
}

// DefaultSetting adds a setting to the option with that name, whose value is a
// list, unless the list turns it on or off, or sets it, already.
func (l List) DefaultSetting(name, setting string) List {
	at := slices.IndexFunc(l, func(o Option) bool { return o.Name == name })
	if at < 0 {
		return append(List{{name, setting}}, l...)
	}
	if l.Sets(name, setting) {
		return l
	}
	l = slices.Clone(l)
	l[at].Value = setting + "," + l[at].Value
	return l
}

// Sets tells whether the option with that name, whose value is a list, says
// anything about a setting: what it is set to, or that it is turned on or off.
func (l List) Sets(name, setting string) bool {
	for _, o := range l {
		if o.Name == name && slices.ContainsFunc(strings.Split(o.Value, ","), func(s string) bool { return subject(s) == subject(setting) }) {
			return true
		}
	}
	return false
}

// subject returns what a setting is about.
func subject(setting string) string {
	key, _, _ := strings.Cut(setting, "=")
	return strings.TrimPrefix(strings.TrimPrefix(key, "^"), "no")
}

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

// Dialect is what the mkfs of one filesystem can be told, and how it reads that: as
// getopt(3) does, by the letters of short options and the names of long ones.
type Dialect struct {
	fsType string
	rules  map[string]rule
	// sizes are the options for the keys of a volume context that are numbers of
	// bytes, each without its value, such as "-i size=".
	sizes map[string]string
	// combinations are the options that exclude each other, or need one another,
	// whatever the size of the device.
	combinations []combination
}

// combination is a setting of an option, or the option alone, that excludes another
// setting of the same option, or needs one of another.
type combination struct {
	option, setting string
	without         string
	needed, needs   string
}

// Parse reads arguments of mkfs in any spelling that mkfs takes, joined (-m0),
// bundled (-qm0), separate or long, and returns what of them shapes the
// filesystem. It fails with ErrOptions.
func (d Dialect) Parse(words []string) (List, error) {
	p := parser{rules: d.rules, words: words}
	for len(p.words) > 0 {
		if err := p.word(); err != nil {
			return nil, fmt.Errorf("mkfs.%s %w", d.fsType, err)
		}
	}
	for _, c := range d.combinations {
		switch {
		case !p.list.says(c.option, c.setting):
		case c.without != "" && p.list.says(c.option, c.without):
			return nil, fmt.Errorf("mkfs.%s %w", d.fsType, refusal(c.option+" "+c.setting, "it excludes "+c.without))
		case c.needs != "" && !p.list.says(c.needed, c.needs):
			return nil, fmt.Errorf("mkfs.%s %w", d.fsType, refusal(strings.TrimSpace(c.option+" "+c.setting), "it needs "+c.needed+" "+c.needs))
		}
	}
	return p.list, nil
}

// says tells whether the option is there, with that setting unless that is empty.
func (l List) says(option, setting string) bool {
	return slices.ContainsFunc(l, func(o Option) bool {
		return o.Name == option && (setting == "" || slices.ContainsFunc(strings.Split(o.Value, ","), func(s string) bool {
			key, _, _ := strings.Cut(s, "=")
			return key == setting
		}))
	})
}

// parser reads words from the front.
type parser struct {
	rules map[string]rule
	words []string
	list  List
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
		r, known := p.rules[name]
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
	for known := range p.rules {
		if strings.HasPrefix(known, name) {
			matching = append(matching, known)
		}
	}
	slices.Sort(matching)
	r, known := p.rules[name]
	if !known && len(matching) == 1 {
		name = matching[0]
		r, known = p.rules[name], true
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
