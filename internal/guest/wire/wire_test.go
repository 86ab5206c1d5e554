package wire

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWhatIsSentIsReceived(t *testing.T) {
	line := "a line of \"output\"\n with \x16 in it"
	messages := []Message{
		{Ready: &Ready{Kernel: "6.1.0", Uptime: time.Second}},
		{Run: &Run{Test: "TestOne", Timeout: time.Minute}},
		{Output: &line},
		{Request: &Request{ID: 1, Action: Plug, Disk: Disk{Image: "one", Bus: NVMe, Serial: "s", Size: 1 << 40}, After: time.Second}},
		{Answer: &Answer{ID: 1, Error: "no"}},
		{Ended: &Ended{Status: 1, Left: []string{"/mnt"}}},
		{Off: true},
	}
	var stream bytes.Buffer
	c := NewConn(&stream)
	for _, m := range messages {
		if err := c.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range messages {
		got, err := c.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if difference := cmp.Diff(want, got); difference != "" {
			t.Error(difference)
		}
	}
	if _, err := c.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v at the end", err)
	}
}

func TestWhatIsNoMessageIsAnError(t *testing.T) {
	if m, err := NewConn(bytes.NewBufferString("hello\n")).Receive(); err == nil {
		t.Errorf("got %+v", m)
	}
}
