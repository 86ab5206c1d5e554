package nodestart

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Nodes and CSINodes with the fields that matter here. What else a Node has, tens of
// kilobytes of images and conditions, is skipped while its JSON is read: the controller
// of a cluster of a thousand nodes has no room for that.

//nolint:gochecknoglobals // they are constants
var (
	nodes    = schema.GroupVersion{Version: "v1"}
	csiNodes = schema.GroupVersion{Group: "storage.k8s.io", Version: "v1"}
)

type node struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Taints []taint `json:"taints"`
	} `json:"spec"`
}

type nodeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []node `json:"items"`
}

type taint struct {
	Key string `json:"key"`
}

type csiNode struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Drivers []csiDriver `json:"drivers"`
	} `json:"spec"`
}

type csiDriver struct {
	Name        string `json:"name"`
	Allocatable *struct {
		Count *int32 `json:"count"`
	} `json:"allocatable"`
}

type csiNodeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []csiNode `json:"items"`
}

// Nobody changes an object that the cache holds, so that copies may share what is in it.

func (n *node) DeepCopyObject() runtime.Object    { c := *n; return &c }
func (n *csiNode) DeepCopyObject() runtime.Object { c := *n; return &c }
func (l *nodeList) DeepCopyObject() runtime.Object {
	c := *l
	c.Items = slices.Clone(l.Items)
	return &c
}
func (l *csiNodeList) DeepCopyObject() runtime.Object {
	c := *l
	c.Items = slices.Clone(l.Items)
	return &c
}

// objects knows these types by their names in the API.
func objects() *runtime.Scheme {
	scheme := runtime.NewScheme()
	scheme.AddKnownTypeWithName(nodes.WithKind("Node"), &node{})
	scheme.AddKnownTypeWithName(nodes.WithKind("NodeList"), &nodeList{})
	scheme.AddKnownTypeWithName(csiNodes.WithKind("CSINode"), &csiNode{})
	scheme.AddKnownTypeWithName(csiNodes.WithKind("CSINodeList"), &csiNodeList{})
	for _, group := range []schema.GroupVersion{nodes, csiNodes} {
		metav1.AddToGroupVersion(scheme, group)
	}
	return scheme
}
