package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cinder-csi/cinder-csi/e2e/upstream/bastion"
)

// Suite is Kubernetes' storage suite and the cluster to run it in.
type Suite struct {
	// Bin has e2e.test, ginkgo and kubectl.
	Bin        string
	Kubeconfig string
	// Dir takes the suite's files, logs and reports.
	Dir string
	// Nodes by their addresses, for specs that stop kubelets.
	Nodes map[string]bastion.Node
	// Out is told how far things are.
	Out io.Writer
}

const (
	// stageTimeout is when ginkgo gives up; nothing takes half as long.
	stageTimeout = 2 * time.Hour
	// cleanupTime is what specs may take to clean up when the run is interrupted.
	cleanupTime = 3 * time.Minute
)

// Prepare empties the directory and writes the suite's files into it.
func (s *Suite) Prepare() error {
	for _, program := range []string{"e2e.test", "ginkgo", "kubectl"} {
		if _, err := os.Stat(filepath.Join(s.Bin, program)); err != nil {
			return fmt.Errorf("the suite is not built, run `cluster build --suite`: %w", err)
		}
	}
	if err := os.RemoveAll(s.Dir); err != nil {
		return fmt.Errorf("reports of an earlier run: %w", err)
	}
	return writeFiles(s.Dir)
}

// List returns the specs that the suite has for the test driver files.
func (s *Suite) List(ctx context.Context) ([]Spec, error) {
	path := filepath.Join(s.Dir, "specs.json")
	args := append(s.flags(), "-ginkgo.dry-run", "-ginkgo.focus="+specPrefix[:len("External Storage")], "-ginkgo.json-report="+path)
	cmd := exec.CommandContext(ctx, filepath.Join(s.Bin, "e2e.test"), args...)
	cmd.Dir = s.Dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("list the suite's specs: %w: %s", err, lastLines(out, 5))
	}
	r, err := readReport(path)
	if err != nil {
		return nil, err
	}
	return r.specs, os.Remove(path)
}

// flags are what e2e.test is always told.
func (s *Suite) flags() []string {
	flags := []string{
		"-provider=local", "-kubeconfig=" + s.Kubeconfig, "-kubectl-path=" + filepath.Join(s.Bin, "kubectl"),
		"-num-nodes=3", "-report-dir=" + s.Dir,
	}
	for _, name := range definitions() {
		flags = append(flags, "-storage.testdriver="+filepath.Join(s.Dir, name))
	}
	return flags
}

// Run runs the stages of a profile and returns what became of the specs.
func (s *Suite) Run(ctx context.Context, p Profile) (summary Summary, err error) {
	start := time.Now()
	if err := s.kubectl(ctx, "apply", "-f", filepath.Join(s.Dir, classesFile)); err != nil {
		return Summary{}, err
	}
	defer func() {
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, s.kubectl(after, "delete", "--ignore-not-found", "-f", filepath.Join(s.Dir, classesFile)))
	}()
	var whole report
	for _, stage := range p.Stages {
		if len(stage.Specs) == 0 {
			continue
		}
		r, err := s.stage(ctx, stage)
		if err != nil {
			return Summary{}, err
		}
		whole.merge(r)
	}
	return judge(p, whole, time.Since(start)), nil
}

// stage runs one stage. That specs fail is no error.
func (s *Suite) stage(ctx context.Context, stage Stage) (report, error) {
	var env []string
	if stage.SSH {
		b, err := bastion.Start(ctx, s.Dir, s.Nodes)
		if err != nil {
			return report{}, err
		}
		defer func() { _ = b.Close() }()
		env = b.Env()
	}
	name := stage.Name + ".json"
	args := []string{
		fmt.Sprintf("--procs=%d", stage.Procs), "--timeout=" + stageTimeout.String(), "--grace-period=" + cleanupTime.String(),
		"--no-color", "-v", "--silence-skips", "--output-dir=" + s.Dir, "--json-report=" + name, "--junit-report=" + stage.Name + ".xml",
	}
	for _, spec := range stage.Specs {
		args = append(args, "--focus="+spec.pattern())
	}
	args = append(append(args, filepath.Join(s.Bin, "e2e.test"), "--"), s.flags()...)
	logFile, err := os.Create(filepath.Join(s.Dir, stage.Name+".log"))
	if err != nil {
		return report{}, fmt.Errorf("log of the suite: %w", err)
	}
	defer func() { _ = logFile.Close() }()
	watch := newProgress(s.Out, logFile, stage)
	defer watch.end()
	cmd := exec.CommandContext(ctx, filepath.Join(s.Bin, "ginkgo"), args...)
	cmd.Dir, cmd.Env = s.Dir, append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = watch, watch
	// The specs that are under way clean up. All processes of the suite have to be
	// told: ginkgo doesn't pass it on. SIGINT wouldn't do, since what a shell has
	// started in the background ignores it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 2 * cleanupTime
	err = cmd.Run()
	if ctx.Err() != nil {
		return report{}, fmt.Errorf("the suite was interrupted: %w", ctx.Err())
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return report{}, fmt.Errorf("start the suite: %w", err)
	}
	r, readErr := readReport(filepath.Join(s.Dir, name))
	if readErr != nil {
		return r, fmt.Errorf("%w: %w; see %s", readErr, err, logFile.Name())
	}
	if err != nil && !r.unhappy() {
		r.broken = append(r.broken, fmt.Sprintf("ginkgo ended with %v, but no spec failed: see %s", err, logFile.Name()))
	}
	return r, nil
}

func (s *Suite) kubectl(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(s.Bin, "kubectl"), append([]string{"--kubeconfig=" + s.Kubeconfig}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

func lastLines(out []byte, n int) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
