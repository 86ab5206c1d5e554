package luks

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"golang.org/x/sys/unix"
)

// What the keys of a disk may take. cryptsetup takes whatever the header says,
// up to all memory of a node and for years, and the header of a restored or
// cloned volume is what somebody wrote there. No key that cryptsetup makes by
// itself comes near.
const (
	mostMemory     = 1 << 20   // KiB for one key
	mostWork       = 64 << 20  // KiB gone through for all keys: about a minute
	mostIterations = 200 << 20 // of PBKDF2, for all keys: about two
	mostThreads    = 16
)

// secondMagic begins the second copy of a header.
const secondMagic = "SKUL\xba\xbe"

// secondCopies returns where the second copy of a header may be.
func secondCopies() []int64 {
	var places []int64
	for at := int64(16 << 10); at <= largestHeader; at *= 2 {
		places = append(places, at)
	}
	return places
}

// checkSecondCopies is checkCost for every second copy that cryptsetup may go by,
// which it does when the first one is damaged, or older.
func checkSecondCopies(r io.ReaderAt) error {
	for _, at := range secondCopies() {
		head := make([]byte, binarySize)
		if _, err := r.ReadAt(head, at); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		size := binary.BigEndian.Uint64(head[8:])
		if !bytes.HasPrefix(head, []byte(secondMagic)) || size <= binarySize || size > largestHeader {
			continue
		}
		text := make([]byte, size-binarySize)
		if _, err := r.ReadAt(text, at+binarySize); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if damaged(head, text) {
			continue
		}
		text, _, _ = bytes.Cut(text, []byte{0})
		if err := checkCost(text); err != nil {
			return fmt.Errorf("second copy at byte %d: %w", at, err)
		}
	}
	return nil
}

// damaged tells whether a copy of a header isn't what its checksum says, so that
// cryptsetup passes it by. Of a checksum of another kind nothing is known.
func damaged(head, text []byte) bool {
	const name, sum, length = 72, 448, 64
	if unix.ByteSliceToString(head[name:name+32]) != "sha256" {
		return false
	}
	hash := sha256.New()
	_, _ = hash.Write(head[:sum])
	_, _ = hash.Write(make([]byte, length))
	_, _ = hash.Write(head[sum+length:])
	_, _ = hash.Write(text)
	return !bytes.Equal(hash.Sum(nil), head[sum:sum+sha256.Size])
}

// checkCost refuses a header whose keys take too much to be tried. Names are
// compared letter by letter, as cryptsetup does; a Go struct wouldn't.
func checkCost(text []byte) error {
	doc, err := object(text)
	if err != nil {
		return err
	}
	slots, err := object(doc["keyslots"])
	if err != nil {
		return err
	}
	digests, err := object(doc["digests"])
	if err != nil {
		return err
	}
	var all cost
	for _, raw := range slots {
		slot, err := object(raw)
		if err == nil {
			err = all.add(slot["kdf"])
		}
		if err != nil {
			return err
		}
	}
	for _, raw := range digests {
		if err := all.add(raw); err != nil {
			return err
		}
	}
	return nil
}

// cost is what it takes to try all keys.
type cost struct{ work, iterations float64 }

// add adds one way to make a key, and refuses what is too much.
func (c *cost) add(raw json.RawMessage) error {
	var of map[string]any
	if err := parse(raw, &of); err != nil {
		return err
	}
	memory, passes, threads, rounds := number(of, "memory"), number(of, "time"), number(of, "cpus"), number(of, "iterations")
	c.work += memory * passes
	c.iterations += rounds
	if memory <= mostMemory && threads <= mostThreads && c.work <= mostWork && c.iterations <= mostIterations {
		return nil
	}
	return fmt.Errorf("%w: to try its keys takes too much (%v KiB of memory, %v passes, %v threads, %v iterations)",
		ErrNotLUKS, memory, passes, threads, rounds)
}

// object reads the members of an object.
func object(text []byte) (map[string]json.RawMessage, error) {
	var members map[string]json.RawMessage
	err := parse(text, &members)
	return members, err
}

// parse reads what may be missing.
func parse(text []byte, into any) error {
	if text == nil {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%w: %w", ErrNotLUKS, err)
	}
	return nil
}

// number returns a number that is above 0, 0 where there is none, and infinity
// for what isn't a number.
func number(of map[string]any, name string) float64 {
	value, there := of[name]
	if !there {
		return 0
	}
	if n, ok := value.(float64); ok && n >= 0 {
		return n
	}
	return math.Inf(1)
}
