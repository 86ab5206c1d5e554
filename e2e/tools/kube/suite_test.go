// Package kube pins the Kubernetes that the end-to-end tests run: its
// programs by tool lines in go.mod, and its storage suite by this import.
package kube

import _ "k8s.io/kubernetes/test/e2e"
