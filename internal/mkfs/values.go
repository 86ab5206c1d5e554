package mkfs

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// check returns an error that says what a value must be.
type check func(value string) error

// largestBlock is the largest page that every node has: a filesystem with larger
// blocks can't be mounted but by nodes with larger pages, or the newest kernels.
const largestBlock = 4 << 10

// anything is for a value that isn't looked at, such as a label.
func anything(string) error { return nil }

// bare is for a setting without a value.
func bare(value string) error {
	if value != "" {
		return errors.New("it has no value")
	}
	return nil
}

// number is for a whole number, which may have a unit, such as 64k.
func number(least, most uint64) check {
	return func(value string) error {
		if n, ok := units(value); !ok || n < least || n > most {
			return fmt.Errorf("it must be a number from %d to %d", least, most)
		}
		return nil
	}
}

// power is for a power of two, which may have a unit.
func power(least, most uint64) check {
	return func(value string) error {
		if n, ok := units(value); !ok || n < least || n > most || bits.OnesCount64(n) != 1 {
			return fmt.Errorf("it must be a power of two from %d to %d", least, most)
		}
		return nil
	}
}

// flag is for 0, 1 or nothing.
func flag(value string) error {
	return oneOf("", "0", "1")(value)
}

// oneOf is for one of some words.
func oneOf(words ...string) check {
	return func(value string) error {
		if !slices.Contains(words, value) {
			return fmt.Errorf("it must be one of %q", words)
		}
		return nil
	}
}

// percent is for a part of a hundred, up to most, which may have a fraction.
func percent(most float64) check {
	return func(value string) error {
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || !(n >= 0 && n <= most) || strings.ContainsAny(value, "eExXpP_") {
			return fmt.Errorf("it must be a number from 0 to %g", most)
		}
		return nil
	}
}

// ids is for a number of a user and one of a group, or nothing.
func ids(value string) error {
	user, group, both := strings.Cut(value, ":")
	_, uerr := strconv.ParseUint(user, 10, 32)
	_, gerr := strconv.ParseUint(group, 10, 32)
	if value != "" && (!both || uerr != nil || gerr != nil) {
		return errors.New("it must be as in 1000:1000")
	}
	return nil
}

// hashSeed is for a UUID in the form that mke2fs reads.
func hashSeed(value string) error {
	plain := strings.ReplaceAll(value, "-", "")
	if _, err := strconv.ParseUint(plain[:min(16, len(plain))], 16, 64); len(value) != 36 || len(plain) != 32 || err != nil {
		return errors.New("it must be a UUID")
	}
	return nil
}

// each is for words with : between them, as in usrquota:grpquota.
func each(c check) check {
	return func(value string) error {
		for word := range strings.SplitSeq(value, ":") {
			if err := c(word); err != nil {
				return err
			}
		}
		return nil
	}
}

// units reads a whole number with a unit of 1024 or none.
func units(value string) (uint64, bool) {
	if value == "" {
		return 0, false
	}
	shift := 10 * (1 + strings.IndexByte("kmgt", value[len(value)-1]|0x20))
	if shift > 0 {
		value = value[:len(value)-1]
	}
	if len(value) > 1 && value[0] == '0' { // octal to some
		return 0, false
	}
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil || n > 1<<62>>shift {
		return 0, false
	}
	return n << shift, true
}

// label is for a name of so many bytes.
func label(most int) check {
	return func(value string) error {
		if len(value) > most {
			return fmt.Errorf("it must not be longer than %d bytes", most)
		}
		return nil
	}
}
