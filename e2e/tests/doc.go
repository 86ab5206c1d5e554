// Package tests tries the driver in a real cluster, as its users meet it: claims,
// pods, snapshots, nodes that go away, upgrades. It needs the cluster of
// e2e/cluster with the driver installed, and says so when there is none:
//
//	make cluster-up && cd e2e && go run ./cmd/cluster install
//	go test ./tests -count=1 -v -timeout 20m
//	go test ./tests -count=1 -v -run TestVolumes/a_volume_with_xfs
//
// Every scenario has a namespace of its own and ends with the proof that the
// cluster, its nodes and the cloud hold nothing of it any more. Waiting is
// watching: a wait that runs out tells what was still missing, and a scenario
// that fails shows the events of its namespace, its claims and pods, and what
// the driver logged about them.
package tests
