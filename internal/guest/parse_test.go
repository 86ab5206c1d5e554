package guest_test

import "testing"

func TestTheLinesOfATestAreUnderstood(t *testing.T) {
	for line, want := range map[string]event{
		"\x16=== RUN   TestOne/two":                  {"RUN", "TestOne/two"},
		"\x16=== NAME  TestOne":                      {"NAME", "TestOne"},
		"\x16=== NAME  ":                             {"NAME", ""},
		"    \x16--- PASS: TestOne/two (0.1s)":       {"PASS", "TestOne/two"},
		"--- FAIL: TestOne (12.00s)":                 {"FAIL", "TestOne"},
		"--- SKIP: TestOne (0.00s)":                  {"SKIP", "TestOne"},
		"\x16PASS":                                   {"END", ""},
		"    one_test.go:12: a word":                 {},
		"    one_test.go:12: --- PASS: not a result": {},
		"": {},
	} {
		got, ok := parse(line)
		if got != want || ok != (want != event{}) {
			t.Errorf("%q: got %v, %t, want %v", line, got, ok, want)
		}
	}
}
