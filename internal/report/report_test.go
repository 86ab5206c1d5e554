package report

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
)

type answer struct {
	VolumeID string `json:"volumeID"`
	wrong    bool
	err      error
}

func (a answer) Wrong() bool { return a.wrong }

func (a answer) Print(w io.Writer) error {
	_, _ = fmt.Fprintf(w, "volume %s\n", a.VolumeID)
	return a.err
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestAnAnswerIsShownAndSaysTheStatus(t *testing.T) {
	var out bytes.Buffer
	for _, test := range []struct {
		name   string
		answer Answer
		format string
		w      io.Writer
		out    string
		status int
	}{
		{"well", answer{VolumeID: "<1>"}, Text, &out, "volume <1>\n", Well},
		{"wrong", answer{VolumeID: "1", wrong: true}, Text, &out, "volume 1\n", SomethingWrong},
		{"JSON that is well", answer{VolumeID: "<1>"}, JSON, &out, "{\n  \"volumeID\": \"<1>\"\n}\n", Well},
		{"JSON that is wrong", answer{VolumeID: "1", wrong: true}, JSON, &out, "{\n  \"volumeID\": \"1\"\n}\n", SomethingWrong},
		{"text that a terminal would obey", answer{VolumeID: "a\x1b]0;b\a\u009b2J\x9b\r\tc"}, Text, &out, "volume a\ufffd]0;b\ufffd\ufffd2J\ufffd\ufffd\tc\n", Well},
		{"text that is turned around", answer{VolumeID: "a\u202eb\u200bc é 卷"}, Text, &out, "volume a\ufffdb\ufffdc é 卷\n", Well},
		{"JSON that turns the text around", answer{VolumeID: "a\u202eb\U000e0041"}, JSON, &out, "{\n  \"volumeID\": \"a\\u202eb\\udb40\\udc41\"\n}\n", Well},
		{"JSON that a terminal would obey", answer{VolumeID: "\x1b\u009b2J\x7f"}, JSON, &out, "{\n  \"volumeID\": \"\\u001b\\u009b2J\\u007f\"\n}\n", Well},
		{"another format", answer{VolumeID: "1", wrong: true}, "yaml", &out, "", NoAnswer},
		{"an answer that can't be printed", answer{wrong: true, err: errors.New("no")}, Text, &out, "", NoAnswer},
		{"nowhere to write it", answer{wrong: true}, Text, fullDisk{}, "", NoAnswer},
	} {
		out.Reset()
		err := Show(test.w, test.answer, test.format)
		if out.String() != test.out || Status(err) != test.status {
			t.Errorf("%s: %q, status %d (%v); want %q, %d", test.name, out.String(), Status(err), err, test.out, test.status)
		}
	}
}

func TestAStatusIsKnownOfAnErrorWithin(t *testing.T) {
	if got := Status(fmt.Errorf("volume 1: %w", ErrWrong)); got != SomethingWrong {
		t.Errorf("status %d", got)
	}
}
