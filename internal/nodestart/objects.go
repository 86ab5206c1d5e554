package nodestart

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// node and csiNode are as much of a Node and of a CSINode as is kept: a Node has tens of
// kilobytes of images and conditions, and a cluster a thousand of them.

type node struct {
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Taints []struct {
			Key string `json:"key"`
		} `json:"taints"`
	} `json:"spec"`
}

type csiNode struct {
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Drivers []struct {
			Name        string `json:"name"`
			Allocatable *struct {
				Count *int32 `json:"count"`
			} `json:"allocatable"`
		} `json:"drivers"`
	} `json:"spec"`
}

// slim turns what the API server sends into a T, before it is kept.
func slim[T any](object any) (any, error) {
	sent, ok := object.(*unstructured.Unstructured)
	if !ok {
		return object, nil // it is a T already
	}
	strip(sent)
	kept := new(T)
	return kept, runtime.DefaultUnstructuredConverter.FromUnstructured(sent.Object, kept)
}

// strip drops from an object what nobody here reads.
func strip(sent *unstructured.Unstructured) {
	delete(sent.Object, "status")
	sent.SetManagedFields(nil)
	sent.SetAnnotations(nil)
	sent.SetLabels(nil)
}
