package tests

import (
	"context"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
)

// told looks for an event about an object, by its reason and a part of its
// message. Events about what has no namespace are in the namespace "default".
func (e *environment) told(ctx context.Context, namespace, object, reason, part string) error {
	about := fields.Set{"involvedObject.name": object, "reason": reason}
	events, err := e.kube.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: about.String()})
	if err != nil {
		return err
	}
	var messages []string
	for _, event := range events.Items {
		if strings.Contains(event.Message, part) {
			return nil
		}
		messages = append(messages, event.Message)
	}
	return fmt.Errorf("no event %s of %s says %q; there are %q", reason, object, part, messages)
}
