// Package wire is what the host and the guest say to each other: lines of JSON
// over a virtio serial port.
package wire

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Port is the name of the virtio serial port.
const Port = "org.cinder-csi.guest"

// Message is one line. Exactly one of its fields is set.
type Message struct {
	// Ready comes from the guest once, when it has started.
	Ready *Ready `json:"ready,omitempty"`
	// Run goes to the guest: run one test.
	Run *Run `json:"run,omitempty"`
	// Output comes from the guest: a line that the running test has written.
	Output *string `json:"output,omitempty"`
	// Ended comes from the guest: the test's process has ended.
	Ended *Ended `json:"ended,omitempty"`
	// Request comes from the guest: the running test wants something done.
	Request *Request `json:"request,omitempty"`
	// Answer goes to the guest: what became of the request.
	Answer *Answer `json:"answer,omitempty"`
	// Off goes to the guest: end.
	Off bool `json:"off,omitempty"`
}

// Ready tells how the guest has started.
type Ready struct {
	// Kernel is the kernel's release.
	Kernel string `json:"kernel"`
	// Uptime is how long it has taken, by the guest's clock.
	Uptime time.Duration `json:"uptime"`
}

// Run names a test and bounds it.
type Run struct {
	Test    string        `json:"test"`
	Timeout time.Duration `json:"timeout"`
}

// Ended tells how the process of a test has ended.
type Ended struct {
	// Status is the exit status.
	Status int `json:"status"`
	// Left is what the test has left mounted; a test has to clean up.
	Left []string `json:"left,omitempty"`
}

// Action is what the host can do for a test.
type Action string

// The actions.
const (
	// Plug attaches a disk. The image of that name is made if there is none.
	Plug Action = "plug"
	// Pull detaches the disk and waits until the guest has let go of it. The
	// image stays until the test ends.
	Pull Action = "pull"
	// Resize sets the size of an attached disk.
	Resize Action = "resize"
	// Hang lets an attached disk answer one more request and then none, until
	// Resume.
	Hang Action = "hang"
	// Resume lets it answer again, first what has waited.
	Resume Action = "resume"
	// Hash answers what identifies the content of an image, as the host sees it.
	Hash Action = "hash"
)

// Bus is how a disk is attached.
type Bus string

// The buses.
const (
	// VirtioBlk is a PCI device of its own for each disk.
	VirtioBlk Bus = "virtio-blk"
	// Bridged is VirtioBlk behind a PCI bridge, where there is room for many.
	Bridged Bus = "virtio-blk behind a bridge"
	// VirtioSCSI is a unit of a controller that tells of every change.
	VirtioSCSI Bus = "virtio-scsi"
	// MuteSCSI is a unit of a controller that tells neither that a disk has
	// come or gone nor that its capacity has changed.
	MuteSCSI Bus = "virtio-scsi without events"
	// NVMe is an NVMe controller of its own for each disk.
	NVMe Bus = "nvme"
	// CDROM is the drive that is there from the start; a medium is put into it.
	CDROM Bus = "cd-rom"
)

// Content is what a new image holds.
type Content string

// The contents.
const (
	// Blank is nothing at all.
	Blank Content = ""
	// ConfigDrive is the config drive of this server.
	ConfigDrive Content = "config drive"
	// Impostor is the config drive of another server.
	Impostor Content = "config drive of another server"
)

// Disk is a disk to be plugged.
type Disk struct {
	// Image names the backing file, and the disk as long as it is attached.
	Image string `json:"image"`
	// Bus is how to attach it.
	Bus Bus `json:"bus"`
	// Serial is what the hypervisor is told, a volume's id; cut by the buses
	// that can't carry it all.
	Serial string `json:"serial,omitempty"`
	// Size is the size in bytes of an image that is made.
	Size int64 `json:"size,omitempty"`
	// Content is what an image holds that is made.
	Content Content `json:"content,omitempty"`
	// ReadOnly refuses all writes.
	ReadOnly bool `json:"readOnly,omitempty"`
	// Every read that touches one of BadBytes bytes from BadFrom on, multiples
	// of 512 both, ends in an I/O error.
	BadFrom  int64 `json:"badFrom,omitempty"`
	BadBytes int64 `json:"badBytes,omitempty"`
	// CanHang is for VirtioBlk: Hang and Resume apply to it, and the guest has
	// room for 4 requests at once.
	CanHang bool `json:"canHang,omitempty"`
}

// Request asks the host to do something.
type Request struct {
	// ID is repeated in the answer.
	ID int `json:"id"`
	// Action is what to do, to Disk.Image; Plug alone looks at the rest of Disk.
	Action Action `json:"action"`
	Disk   Disk   `json:"disk"`
	// Size is the new size in bytes of Resize.
	Size int64 `json:"size,omitempty"`
	// After lets the host answer at once and act later. A failure then fails the
	// test when it ends.
	After time.Duration `json:"after,omitempty"`
}

// Answer is what became of a request.
type Answer struct {
	ID int `json:"id"`
	// Error is empty for success.
	Error string `json:"error,omitempty"`
	// Hash is the answer to the action Hash.
	Hash string `json:"hash,omitempty"`
}

// Err returns the error of the answer; nil for success.
func (a Answer) Err() error {
	if a.Error == "" {
		return nil
	}
	return errors.New(a.Error)
}

// maxLine bounds a line. Tests don't write longer ones.
const maxLine = 1 << 20

// Conn sends and receives messages. It is safe for concurrent use.
type Conn struct {
	writing sync.Mutex
	w       io.Writer
	reading sync.Mutex
	lines   *bufio.Scanner
}

// NewConn returns a Conn over rw, which stays the caller's to close.
func NewConn(rw io.ReadWriter) *Conn {
	lines := bufio.NewScanner(rw)
	lines.Buffer(nil, maxLine)
	return &Conn{w: rw, lines: lines}
}

// Send sends a message.
func (c *Conn) Send(m Message) error {
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("send: %w", err)
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	if _, err := c.w.Write(append(data, '\n')); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// Receive waits for the next message. It returns io.EOF when there are no more.
func (c *Conn) Receive() (Message, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if !c.lines.Scan() {
		if err := c.lines.Err(); err != nil {
			return Message{}, fmt.Errorf("receive: %w", err)
		}
		return Message{}, io.EOF
	}
	var m Message
	if err := json.Unmarshal(c.lines.Bytes(), &m); err != nil {
		return Message{}, fmt.Errorf("receive %.80q: %w", c.lines.Text(), err)
	}
	return m, nil
}
