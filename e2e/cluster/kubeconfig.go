package cluster

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// writeKubeconfig writes NAME.kubeconfig for the identity in NAME.crt and
// NAME.key. JSON is YAML, and needs no library.
func writeKubeconfig(dir, name string) error {
	data := map[string][]byte{} // encoding/json writes bytes as base64, as kubeconfigs want them
	for _, file := range []string{"ca.crt", name + ".crt", name + ".key"} {
		content, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return err
		}
		data[file] = content
	}
	type object = map[string]any
	config := object{
		"apiVersion":      "v1",
		"kind":            "Config",
		"current-context": "cinder-csi-e2e",
		"clusters": []object{{"name": "cinder-csi-e2e", "cluster": object{
			"server": apiURL, "certificate-authority-data": data["ca.crt"],
		}}},
		"users": []object{{"name": name, "user": object{
			"client-certificate-data": data[name+".crt"], "client-key-data": data[name+".key"],
		}}},
		"contexts": []object{{"name": "cinder-csi-e2e", "context": object{
			"cluster": "cinder-csi-e2e", "user": name,
		}}},
	}
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name+".kubeconfig"), append(text, '\n'), 0o600)
}
