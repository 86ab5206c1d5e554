package tests

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

// run makes what all tests share, runs them, and removes it.
func run(m *testing.M) int {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f != nil && f.Value.String() == f.DefValue {
		_ = f.Value.Set("4") // scenarios wait more than they work
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tidy, err := setUp(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	ctx, cancel = context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := tidy(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "removing the classes of this run:", err)
		return 1
	}
	return code
}

// TestVolumes is what users do every day, several at a time.
func TestVolumes(t *testing.T) {
	sideBySide(t, []story{
		{"a volume with xfs grows by kubectl edit while its pod writes", func(s *scenario) { growsWhileWritten(s, xfs) }},
		{"a volume with btrfs grows by kubectl edit while its pod writes", func(s *scenario) { growsWhileWritten(s, btrfs) }},
		{"a volume with ext4 grows by kubectl edit as soon as the kernel lets it", growsExt4},
		{"a volume that no pod uses grows for the next one", func(s *scenario) { growsUnused(s, ext4) }},
		{"a StatefulSet spread over the zones has each volume in its pod's zone", spreads},
		{"a class that allows one zone makes volumes only there", onlyWhereAllowed},
		{"a pod that cannot go to its volume's zone is told so", cannotFollow},
		{"the scheduler knows how much room each zone has", roomIsKnown},
		{"a pod that moves to another node finds its data", moves},
		{"snapshots with ext4 are restored, enlarged and cloned with their data", func(s *scenario) { copies(s, ext4) }},
		{"snapshots with xfs are restored, enlarged and cloned with their data", func(s *scenario) { copies(s, xfs) }},
		{"copies are made in their source's zone wherever their pod would like to run", copiesFollow},
		{"a volume whose claim is gone stays until its snapshot is", outlives},
		{"a raw block volume grows while it is used and moves with its content", growsAsBlock},
		{"a raw block volume is shared by pods on two nodes", isShared},
		{"a generic ephemeral volume comes and goes with its pod", comesAndGoes},
		{"a ReadWriteOncePod volume is for one pod", isForOnePod},
		{"a volume belongs to the group of its pod", isForItsGroup},
		{"a volume mounted read-only cannot be written", isReadOnly},
		{"a volume changes its VolumeAttributesClass while its pod writes", changes},
		{"a retained volume is kept for another claim", isKept},
		{"a claim deleted under its pod goes with the pod", isProtected},
		{"the support bundle has the driver's objects, logs and metrics and no secret", isBundled},
	})
}

// TestTrouble is what befalls the cluster or the driver, one after another.
func TestTrouble(t *testing.T) {
	oneByOne(t, []story{
		{"no volume is lost or made twice when the controller dies while making twenty", losesNone},
		{"a leader that is told to end hands its work over before its lease expires", handsOver},
		{"a node that is drained lets its volumes go", isDrained},
		{"a node that loses its power loses its volumes to another and comes back", isGone},
		{"a node that is full gets no more volumes and the scheduler says so", isFull},
		{"a volume that its server has no room for is refused as such and attached later", isRefused},
		{"a kubelet that is restarted finds the driver again", survivesKubelet},
		{"a driver whose registration socket is removed is registered again", survivesCleaning},
		{"a driver whose registration socket is removed while the kubelet is down is registered again", survivesBoth},
		{"a driver that doesn't register itself is registered by a side container", isRegisteredByAnother},
		{"an upgrade of the driver stops no write", isUpgraded},
	})
}

// TestNodes is nodes that come and go, each cure beside its failure, and what is told of a
// cloud.
func TestNodes(t *testing.T) {
	oneByOne(t, []story{
		{"a node that joins untainted gets more volumes than it has room for", joinsUntainted},
		{"a node that joins with the start-up taint gets pods once its limit is known", joinsTainted},
		{"a node that is emptied of the driver first keeps its volumes", isEmptiedTooFast},
		{"a node whose driver waits for its volumes is emptied of them", isEmptiedInOrder},
		{"a cloud that is down is told of in an event and so is its end", isNoticed},
	})
}

// TestUninstall comes last: it takes the driver away, and installs it again.
func TestUninstall(t *testing.T) {
	oneByOne(t, []story{
		{"a pod writes on without the driver, which takes up its volume when it is back", isUninstalled},
		{"nothing is left that waits for the driver when it is uninstalled", leavesNothing},
	})
}
