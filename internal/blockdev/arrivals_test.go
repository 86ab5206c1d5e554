package blockdev

import (
	"testing"
	"time"
)

func TestNewsOfDisks(t *testing.T) {
	for message, want := range map[string]bool{
		"add@/devices/virtual/block/loop0\x00ACTION=add\x00DEVPATH=/devices/virtual/block/loop0\x00SUBSYSTEM=block\x00SEQNUM=1\x00": true,
		"change@/devices/x\x00ACTION=change\x00SUBSYSTEM=block\x00":                                                                 true,
		"remove@/devices/x\x00ACTION=remove\x00SUBSYSTEM=block\x00":                                                                 false,
		"add@/devices/x\x00ACTION=add\x00SUBSYSTEM=net\x00":                                                                         false,
		"add@/devices/x\x00ACTION=add\x00SUBSYSTEM=blocks\x00":                                                                      false,
		"libudev\x00\xfe\xed\xca\xfe\x00\x00\x00\x28\x01ACTION=add\x00SUBSYSTEM=net\x00":                                            false,
		"libudev\x00\xfe\xed\xca\xfe\x00\x00\x00\x28\x01\x00ACTION=add\x00SUBSYSTEM=block\x00":                                      true,
		"libudev\x00\xfe\xed\xca\xfe\x00\x00\x00\x28\x01\x00ACTION=remove\x00SUBSYSTEM=block\x00":                                   false,
		"add@/devices/x\x00": false,
		"@":                  false,
		"":                   false,
	} {
		if got := isDiskEvent([]byte(message)); got != want {
			t.Errorf("%q: %t", message, got)
		}
	}
}

func FuzzNewsOfDisk(f *testing.F) {
	f.Add([]byte("add@/devices/virtual/block/loop0\x00ACTION=add\x00SUBSYSTEM=block\x00"))
	f.Add([]byte("\x00@\x00=\x00SUBSYSTEM="))
	f.Fuzz(func(_ *testing.T, message []byte) { isDiskEvent(message) })
}

func TestTheKernelTellsOfADiskThatComes(t *testing.T) {
	var a arrivals
	leave := a.join()
	defer leave()
	if a.socket == nil {
		t.Fatal("this process may not listen to the kernel: run the test as root, outside of a user namespace")
	}
	next := a.next()
	happen(t)
	select {
	case <-next:
	case <-time.After(time.Minute):
		t.Error("it didn't")
	}
}

// TestAnEventIsToldOnceToAllWhoWait and to nobody who asks for the next one later.
func TestAnEventIsToldOnceToAllWhoWait(t *testing.T) {
	var a arrivals
	a.wake() // nobody waits
	first, second := a.next(), a.next()
	a.wake()
	<-first
	<-second
	select {
	case <-a.next():
		t.Error("an event of the past is told")
	default:
	}
}
