package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// componentPatience is how long a part of the control plane may take to be
// ready: measured 1 to 5 s each, alone on two cores.
const componentPatience = 3 * time.Minute

// component is a process of the machine itself; its log and its control group
// have its name.
func (p Paths) component(name string, args ...string) process {
	return process{group: []string{hostGroup, name}, log: p.log(name), args: append([]string{p.Bin(name)}, args...)}
}

func (p Paths) etcd() process {
	return p.component("etcd",
		"--name=e2e", "--data-dir="+p.run("etcd"),
		"--listen-client-urls="+etcdURL, "--advertise-client-urls="+etcdURL,
		"--listen-peer-urls="+etcdPeer, "--initial-advertise-peer-urls="+etcdPeer, "--initial-cluster=e2e="+etcdPeer,
		"--unsafe-no-fsync", // it is thrown away with the machine's next breath
		"--log-level=warn")
}

func (p Paths) apiserver() process {
	return p.component("kube-apiserver",
		"--etcd-servers="+etcdURL, "--bind-address="+hostIP, "--advertise-address="+hostIP, fmt.Sprint("--secure-port=", apiPort),
		"--service-cluster-ip-range="+serviceCIDR, "--authorization-mode=Node,RBAC", "--allow-privileged=true",
		"--enable-admission-plugins=NodeRestriction",
		"--client-ca-file="+p.pki("ca.crt"), "--tls-cert-file="+p.pki("apiserver.crt"), "--tls-private-key-file="+p.pki("apiserver.key"),
		"--kubelet-client-certificate="+p.pki("apiserver-kubelet-client.crt"), "--kubelet-client-key="+p.pki("apiserver-kubelet-client.key"),
		"--kubelet-certificate-authority="+p.pki("ca.crt"), "--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file="+p.pki("accounts.pub"), "--service-account-signing-key-file="+p.pki("accounts.key"),
		"--requestheader-client-ca-file="+p.pki("front-ca.crt"), "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group", "--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file="+p.pki("front-proxy-client.crt"), "--proxy-client-key-file="+p.pki("front-proxy-client.key"),
		"--v=1")
}

func (p Paths) controllerManager() process {
	config := p.pki("controller-manager.kubeconfig")
	return p.component("kube-controller-manager",
		"--kubeconfig="+config, "--authentication-kubeconfig="+config, "--authorization-kubeconfig="+config,
		"--bind-address="+controlIP, "--leader-elect=false", "--use-service-account-credentials=true",
		"--root-ca-file="+p.pki("ca.crt"), "--service-account-private-key-file="+p.pki("accounts.key"),
		"--client-ca-file="+p.pki("ca.crt"), "--requestheader-client-ca-file="+p.pki("front-ca.crt"),
		"--cluster-signing-cert-file="+p.pki("ca.crt"), "--cluster-signing-key-file="+p.pki("ca.key"),
		"--allocate-node-cidrs=false", "--cluster-cidr="+podCIDR, "--service-cluster-ip-range="+serviceCIDR,
		// A node that is gone is noticed after 20 s instead of 50 s, which only
		// shortens the tests that wait for it.
		"--node-monitor-grace-period=20s", "--attach-detach-reconcile-sync-period=10s",
		"--v=1")
}

func (p Paths) scheduler() process {
	config := p.pki("scheduler.kubeconfig")
	return p.component("kube-scheduler",
		"--kubeconfig="+config, "--authentication-kubeconfig="+config, "--authorization-kubeconfig="+config,
		"--bind-address="+controlIP, "--leader-elect=false", "--v=1")
}

// startControlPlane starts what isn't running of etcd and the API server, and
// returns when the API answers.
func (c *Cluster) startControlPlane(ctx context.Context, g groups) error {
	p := c.paths()
	if err := g.ensure(ctx, p.etcd(), componentPatience, httpOK(etcdURL+"/readyz")); err != nil {
		return err
	}
	if err := g.ensure(ctx, p.apiserver(), componentPatience, c.apiReady); err != nil {
		return err
	}
	return nil
}

// startControllers starts what needs the API.
func (c *Cluster) startControllers(ctx context.Context, g groups) error {
	p := c.paths()
	return errors.Join(
		g.ensure(ctx, p.controllerManager(), componentPatience, httpOK("https://"+controlIP+":10257/healthz")),
		g.ensure(ctx, p.scheduler(), componentPatience, httpOK("https://"+controlIP+":10259/readyz")),
	)
}

func (c *Cluster) apiReady(ctx context.Context) error {
	_, err := c.Kubectl(ctx, "get", "--raw=/readyz", "--request-timeout=5s")
	return err
}
