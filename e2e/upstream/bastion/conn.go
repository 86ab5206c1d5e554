package bastion

import (
	"net"
	"time"

	"golang.org/x/crypto/ssh"
)

// channelConn is a channel of one SSH connection as the network connection of
// another. It has no deadlines: whoever waits on it closes it.
type channelConn struct {
	ssh.Channel
	local, remote net.Addr
}

// LocalAddr is that of the connection around it.
func (c channelConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is that of the connection around it.
func (c channelConn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline does nothing.
func (c channelConn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (c channelConn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (c channelConn) SetWriteDeadline(time.Time) error { return nil }
