// Package cluster runs a Kubernetes cluster on one machine, from nothing but Go
// and Debian packages: etcd, the control plane and three nodes, with the
// development cloud (devcloud) as the OpenStack that they are servers of.
//
// # How a machine becomes three nodes
//
// A node is one process with a network, mount, pid, uts and ipc namespace of
// its own ("init", see node_init.go) that starts containerd, kubelet and
// kube-proxy. Its root is an overlay of the machine's root, so that every path
// is its own; its /dev is the device directory of its server in devcloud, so
// that a disk that is detached is gone. Killing init is pulling the plug: the
// kernel takes down everything in the namespaces, network included.
//
// # How nothing is left
//
// Every process is born in a control group below /cinder-e2e (cgroup2) and
// cannot leave it, so that "down" kills what is there without knowing any pid,
// also after a crash. Everything on disk is in one directory. The bridge carries
// that directory's name, so that two clusters never take each other for
// themselves.
package cluster
