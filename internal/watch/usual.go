package watch

import "time"

const (
	// gapMin and gapMax bound the time between two questions about one operation:
	// gapMin is a few times what a cloud needs to answer, gapMax is how late an
	// answer is noticed at worst.
	gapMin = 200 * time.Millisecond
	gapMax = 950 * time.Millisecond
	// firstGap is when to ask first about a kind of operation that was never seen.
	firstGap = 300 * time.Millisecond
	// tolerance is how well the duration of operations that all take the same time
	// is known before it is not searched for any closer.
	tolerance = 200 * time.Millisecond
)

// usual is what questions have shown about how long the operations of one kind
// take. Where open is less than done, all of them took about the same time,
// which lies between the two; otherwise they took from done to open.
type usual struct {
	// done is the shortest time after which an operation was found done, open the
	// longest after which one was found not to be done.
	done, open time.Duration
}

// next returns how long after its start an operation is to be asked about, when
// it was last found not to be done after elapsed (0: never asked).
func (u usual) next(elapsed time.Duration) time.Duration {
	first := u.done
	if gap := u.done - u.open; gap > tolerance {
		first = u.open + gap/2
	}
	switch {
	case u.done == 0 && elapsed == 0:
		return firstGap
	case elapsed < first:
		// An operation that takes long may fail soon.
		return min(first, elapsed+max(3*gapMax, first/2))
	case elapsed < u.done:
		return u.done
	case elapsed < u.open:
		return elapsed + bounded(min((u.open-u.done)/5, elapsed/3))
	}
	return elapsed + bounded(elapsed/3)
}

func bounded(gap time.Duration) time.Duration { return min(max(gap, gapMin), gapMax) }

// finding is what one question has shown about operations of one kind.
type finding struct {
	// open is the longest time after which one was not done, done the shortest
	// after which one was; 0: there was none.
	open, done time.Duration
	// late: the one that was done first had not been asked about before, so that
	// it may have been done for long.
	late bool
}

// learn takes in a finding. What was learned long ago fades.
func (u *usual) learn(f finding) {
	if f.done > 0 {
		u.open -= min(u.open/25, tolerance/4)
		varies := u.done <= u.open
		switch {
		case u.done == 0:
			u.done = f.done
		case varies && f.late:
			u.done = min(u.done, f.done) * 9 / 10
		case f.done < u.done && f.late:
			// Operations may have become much shorter.
			u.open = max(u.open-2*(u.done-f.done), 0)
			u.done = f.done
		case f.done < u.done:
			u.done = f.done
		case varies:
			u.done += (f.done - u.done) / 40
		}
	}
	if f.open >= u.done && u.done > u.open {
		// Not all take the same time: that is to be remembered for some rounds.
		f.open += f.open / 10
	}
	u.open = max(u.open, f.open)
}
