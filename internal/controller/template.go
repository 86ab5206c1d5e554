package controller

import (
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// appendedMetadata reads the parameter appendVolumeMetadata: a JSON object of
// strings, in which ${pvc.name}, ${pvc.namespace} and ${pv.name} stand for what
// the volume is made for.
func appendedMetadata(params parameters, raw map[string]string) (map[string]string, error) {
	text := params.get(paramAppendMetadata)
	if text == "" {
		return nil, nil
	}
	var templates map[string]string
	if err := json.Unmarshal([]byte(text), &templates); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "parameter %s is not a JSON object of strings: %v", paramAppendMetadata, err)
	}
	metadata := make(map[string]string, len(templates))
	for key, template := range templates {
		value, err := expand(template, raw)
		if err == nil {
			err = checkMetadata(key, value)
		}
		if err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "parameter %s, key %q: %v", paramAppendMetadata, key, err)
		}
		metadata[key] = value
	}
	return metadata, nil
}

// expand replaces the variables of a template by what the sidecar tells.
func expand(template string, raw map[string]string) (string, error) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(template, "${")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		name, rest, closed := strings.Cut(after, "}")
		if !closed {
			return "", fmt.Errorf("${%s is not closed", after)
		}
		key, ok := map[string]string{"pvc.name": pvcName, "pvc.namespace": pvcNamespace, "pv.name": pvName}[name]
		if !ok {
			return "", fmt.Errorf("${%s} is unknown; there are ${pvc.name}, ${pvc.namespace} and ${pv.name}", name)
		}
		value, ok := raw[key]
		if !ok {
			return "", fmt.Errorf("${%s} is known only if the provisioner runs with --extra-create-metadata", name)
		}
		b.WriteString(value)
		template = rest
	}
}
