// Package bastion lets Kubernetes' test suite reach the nodes of a cluster by
// SSH without an SSH server on any of them. The suite dials nodes through the
// bastion host that KUBE_SSH_BASTION names; this one answers for the nodes
// itself, and runs the commands where package cluster runs commands.
package bastion

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// User is who the suite logs in as.
const User = "root"

// Node is a machine that commands can be run on.
type Node interface {
	// Run runs a shell command; a status that isn't 0 is no error.
	Run(ctx context.Context, command string) (Result, error)
	StartKubelet(ctx context.Context) error
	StopKubelet(ctx context.Context) error
	// KubeletRuns reports whether the kubelet is there.
	KubeletRuns(ctx context.Context) bool
}

// Result is what came of a command.
type Result struct {
	Stdout, Stderr string
	Status         int
}

// Bastion answers for nodes by their addresses.
type Bastion struct {
	nodes    map[string]Node
	config   *ssh.ServerConfig
	listener net.Listener
	keyPath  string
	stop     context.CancelFunc
	done     sync.WaitGroup
}

// Start listens on the loopback interface, and writes the key that lets one in
// to the directory. The context ends the commands that are under way.
func Start(ctx context.Context, dir string, nodes map[string]Node) (*Bastion, error) {
	keyPath := filepath.Join(dir, "ssh-key")
	client, err := newKey(keyPath)
	if err != nil {
		return nil, err
	}
	host, err := newKey("")
	if err != nil {
		return nil, err
	}
	config := &ssh.ServerConfig{
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if string(key.Marshal()) != string(client.PublicKey().Marshal()) {
				return nil, errors.New("another key is wanted")
			}
			return &ssh.Permissions{}, nil
		},
	}
	config.AddHostKey(host)
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the suite's SSH: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	b := &Bastion{nodes: nodes, config: config, listener: listener, keyPath: keyPath, stop: stop}
	b.done.Go(func() { b.accept(ctx) })
	return b, nil
}

// Env is what the suite wants to know of the bastion.
func (b *Bastion) Env() []string {
	return []string{
		"KUBE_SSH_BASTION=" + b.listener.Addr().String(),
		"KUBE_SSH_USER=" + User,
		"KUBE_SSH_KEY_PATH=" + b.keyPath,
	}
}

// Close ends everything, and removes the key.
func (b *Bastion) Close() error {
	b.stop()
	err := b.listener.Close()
	b.done.Wait()
	return errors.Join(err, os.Remove(b.keyPath))
}

func (b *Bastion) accept(ctx context.Context) {
	for {
		conn, err := b.listener.Accept()
		if err != nil {
			return // closed
		}
		b.done.Go(func() {
			// An idle connection ends with the bastion.
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			b.serve(ctx, conn)
		})
	}
}

// serve answers a connection to the bastion: each of its channels leads to a node.
func (b *Bastion) serve(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	server, channels, requests, err := ssh.NewServerConn(conn, b.config)
	if err != nil {
		return // the client has been told
	}
	defer func() { _ = server.Close() }()
	go ssh.DiscardRequests(requests)
	var open sync.WaitGroup
	defer open.Wait()
	for newChannel := range channels {
		node, err := b.destination(newChannel)
		if err != nil {
			_ = newChannel.Reject(ssh.ConnectionFailed, err.Error())
			continue
		}
		channel, requests, err := newChannel.Accept()
		if err != nil {
			continue
		}
		go ssh.DiscardRequests(requests)
		open.Go(func() {
			b.answer(ctx, channelConn{Channel: channel, local: conn.LocalAddr(), remote: conn.RemoteAddr()}, node)
		})
	}
}

// destination returns the node that a channel wants to be led to.
func (b *Bastion) destination(channel ssh.NewChannel) (Node, error) {
	if channel.ChannelType() != "direct-tcpip" {
		return nil, fmt.Errorf("this bastion leads to nodes only, by direct-tcpip, not by %s", channel.ChannelType())
	}
	var want struct {
		Host       string
		Port       uint32
		Origin     string
		OriginPort uint32
	}
	if err := ssh.Unmarshal(channel.ExtraData(), &want); err != nil {
		return nil, fmt.Errorf("direct-tcpip: %w", err)
	}
	node := b.nodes[want.Host]
	if node == nil || want.Port != 22 {
		return nil, fmt.Errorf("no node at %s", net.JoinHostPort(want.Host, strconv.FormatUint(uint64(want.Port), 10)))
	}
	return node, nil
}

// answer is the SSH server of a node.
func (b *Bastion) answer(ctx context.Context, conn net.Conn, node Node) {
	defer func() { _ = conn.Close() }()
	server, channels, requests, err := ssh.NewServerConn(conn, b.config)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	go ssh.DiscardRequests(requests)
	var open sync.WaitGroup
	defer open.Wait()
	for newChannel := range channels {
		if newChannel.ChannelType() != "session" {
			_ = newChannel.Reject(ssh.UnknownChannelType, "only sessions")
			continue
		}
		channel, requests, err := newChannel.Accept()
		if err != nil {
			continue
		}
		open.Go(func() { session(ctx, channel, requests, node) })
	}
}

// session runs the command of a session.
func session(ctx context.Context, channel ssh.Channel, requests <-chan *ssh.Request, node Node) {
	defer func() { _ = channel.Close() }()
	for request := range requests {
		var wanted struct{ Command string }
		if request.Type != "exec" || ssh.Unmarshal(request.Payload, &wanted) != nil {
			_ = request.Reply(false, nil)
			continue
		}
		_ = request.Reply(true, nil)
		result := run(ctx, node, wanted.Command)
		_, _ = channel.Write([]byte(result.Stdout))
		_, _ = channel.Stderr().Write([]byte(result.Stderr))
		status := struct{ Status uint32 }{uint32(result.Status)} // #nosec G115 -- a status is 0 to 255
		_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(&status))
		return
	}
}

// run runs a command on a node. There is no service manager on the nodes: what
// the suite asks of systemctl is done here.
func run(ctx context.Context, node Node, command string) Result {
	words := strings.Fields(command)
	switch {
	case len(words) > 0 && words[0] == "sudo":
		// The suite looks for these words, and then does without.
		return Result{Stderr: "sudo: command not found\n", Status: 127}
	case command == "systemctl stop kubelet":
		return outcome(node.StopKubelet(ctx))
	case command == "systemctl start kubelet":
		return outcome(node.StartKubelet(ctx))
	case command == "systemctl show kubelet --property ActiveState --value":
		if node.KubeletRuns(ctx) {
			return Result{Stdout: "active\n"}
		}
		return Result{Stdout: "inactive\n"}
	case len(words) > 0 && words[0] == "systemctl":
		return Result{Stderr: "not understood here: " + command + "\n", Status: 1}
	}
	result, err := node.Run(ctx, command)
	if err != nil {
		return outcome(err)
	}
	return result
}

func outcome(err error) Result {
	if err != nil {
		return Result{Stderr: err.Error() + "\n", Status: 1}
	}
	return Result{}
}

// newKey makes a key, and writes it to a file where one is named.
func newKey(path string) (ssh.Signer, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make an SSH key: %w", err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, fmt.Errorf("make an SSH key: %w", err)
	}
	if path == "" {
		return signer, nil
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return nil, fmt.Errorf("make an SSH key: %w", err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, fmt.Errorf("write an SSH key: %w", err)
	}
	return signer, nil
}
