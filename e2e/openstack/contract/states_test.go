package contract

import "testing"

func TestWhatCountsAsHavingPassedStates(t *testing.T) {
	attach := []string{"reserved", "attaching", "in-use/1"}
	for name, c := range map[string]struct {
		states, seen []string
		// all and some are the verdicts where each state has to be seen, and where
		// some can be missed.
		all, some bool
	}{
		"each once":            {attach, []string{"reserved", "attaching", "in-use/1"}, true, true},
		"counted a bit early":  {attach, []string{"reserved", "attaching", "attaching/1", "in-use/1"}, true, true},
		"the middle is missed": {attach, []string{"reserved", "in-use/1"}, false, true},
		"the first is missed":  {attach, []string{"attaching", "in-use/1"}, false, true},
		"only the last":        {attach, []string{"in-use/1"}, false, true},
		"not at the end":       {attach, []string{"reserved", "attaching"}, false, false},
		"another order":        {attach, []string{"attaching", "reserved", "in-use/1"}, false, false},
		"back again":           {attach, []string{"reserved", "attaching", "in-use/1", "reserved", "in-use/1"}, false, false},
		"another state":        {attach, []string{"reserved", "attaching", "error"}, false, false},
		"one too many":         {attach, []string{"reserved", "attaching", "available", "in-use/1"}, false, false},
		"always miscounted":    {[]string{"detaching/1", "available"}, []string{"detaching", "available"}, false, true},
		"miscounted at last":   {attach, []string{"reserved", "attaching", "in-use"}, false, false},
		"nothing":              {attach, nil, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := passed(c.states, c.seen, true); got != c.all {
				t.Errorf("where each has to be seen: %t", got)
			}
			if got := passed(c.states, c.seen, false); got != c.some {
				t.Errorf("where some can be missed: %t", got)
			}
		})
	}
}
