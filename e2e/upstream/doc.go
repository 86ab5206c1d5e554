// Package upstream runs Kubernetes' own storage suite (e2e.test) against the
// driver in a cluster of package cluster: what the suite may expect is in the
// test driver files, which specs are run in profiles.go, and why a spec isn't
// run in reasons.go. A key that the suite wouldn't know, a capability that
// nobody decided on, and a spec that was skipped for an unknown reason are errors.
package upstream
