package bastion

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// node runs nothing; it remembers what it was asked.
type node struct {
	kubelet bool
	broken  error
}

func (n *node) Run(_ context.Context, command string) (Result, error) {
	return Result{Stdout: "out of " + command, Stderr: "warning", Status: 3}, n.broken
}
func (n *node) StartKubelet(context.Context) error { n.kubelet = true; return n.broken }
func (n *node) StopKubelet(context.Context) error  { n.kubelet = false; return n.broken }
func (n *node) KubeletRuns(context.Context) bool   { return n.kubelet }
func env(b *Bastion) map[string]string {
	vars := map[string]string{}
	for _, v := range b.Env() {
		name, value, _ := strings.Cut(v, "=")
		vars[name] = value
	}
	return vars
}

// dial goes the way that the suite goes: through the bastion to the node.
func dial(t *testing.T, b *Bastion, address string) (*ssh.Client, error) {
	t.Helper()
	vars := env(b)
	key, err := os.ReadFile(vars["KUBE_SSH_KEY_PATH"])
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ClientConfig{
		User: vars["KUBE_SSH_USER"], Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 10 * time.Second,
	}
	outer, err := ssh.Dial("tcp", vars["KUBE_SSH_BASTION"], config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = outer.Close() })
	conn, err := outer.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	inner, channels, requests, err := ssh.NewClientConn(conn, address, config)
	if err != nil {
		t.Fatal(err)
	}
	client := ssh.NewClient(inner, channels, requests)
	t.Cleanup(func() { _ = client.Close() })
	return client, nil
}

func start(t *testing.T, nodes map[string]Node) *Bastion {
	t.Helper()
	b, err := Start(t.Context(), t.TempDir(), nodes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(env(b)["KUBE_SSH_KEY_PATH"]); !os.IsNotExist(err) {
			t.Errorf("the key is still there: %v", err)
		}
	})
	return b
}

// call runs a command and returns what the suite would see of it.
func call(t *testing.T, client *ssh.Client, command string) Result {
	t.Helper()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = session.Close() }()
	var stdout, stderr bytes.Buffer
	session.Stdout, session.Stderr = &stdout, &stderr
	status := 0
	var exit *ssh.ExitError
	if err := session.Run(command); errors.As(err, &exit) {
		status = exit.ExitStatus()
	} else if err != nil {
		t.Fatal(err)
	}
	return Result{Stdout: stdout.String(), Stderr: stderr.String(), Status: status}
}

func TestCommandsReachTheNodeOfTheAddress(t *testing.T) {
	b := start(t, map[string]Node{"10.0.0.1": &node{}, "10.0.0.2": &node{kubelet: true}})
	client, err := dial(t, b, "10.0.0.2:22")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		command string
		want    Result
	}{
		{"mount | grep x", Result{"out of mount | grep x", "warning", 3}},
		{"systemctl show kubelet --property ActiveState --value", Result{Stdout: "active\n"}},
		{"systemctl stop kubelet", Result{}},
		{"systemctl show kubelet --property ActiveState --value", Result{Stdout: "inactive\n"}},
		{"systemctl start kubelet", Result{}},
		{"systemctl show kubelet --property ActiveState --value", Result{Stdout: "active\n"}},
		{"systemctl mask kubelet", Result{Stderr: "not understood here: systemctl mask kubelet\n", Status: 1}},
		{"sudo --version", Result{Stderr: "sudo: command not found\n", Status: 127}},
	} {
		if got := call(t, client, test.command); got != test.want {
			t.Errorf("%s: got %+v, want %+v", test.command, got, test.want)
		}
	}
}

func TestWhatFailsOnTheNodeIsTold(t *testing.T) {
	b := start(t, map[string]Node{"10.0.0.1": &node{broken: errors.New("no power")}})
	client, err := dial(t, b, "10.0.0.1:22")
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"true", "systemctl stop kubelet", "systemctl start kubelet"} {
		if got := call(t, client, command); got.Status != 1 || !strings.Contains(got.Stderr, "no power") {
			t.Errorf("%s: got %+v", command, got)
		}
	}
}

func TestUnknownAddressesAndKeysAreRefused(t *testing.T) {
	b := start(t, map[string]Node{"10.0.0.1": &node{}})
	for _, address := range []string{"10.0.0.9:22", "10.0.0.1:80"} {
		if _, err := dial(t, b, address); err == nil || !strings.Contains(err.Error(), "no node at "+address) {
			t.Errorf("%s: got %v", address, err)
		}
	}
	other, err := newKey("")
	if err != nil {
		t.Fatal(err)
	}
	_, err = ssh.Dial("tcp", env(b)["KUBE_SSH_BASTION"], &ssh.ClientConfig{
		User: User, Auth: []ssh.AuthMethod{ssh.PublicKeys(other)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err == nil {
		t.Error("somebody with another key came in")
	}
}
