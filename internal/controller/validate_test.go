package controller_test

import (
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
)

func TestOnlyTheParametersThatAVolumeHasAreConfirmed(t *testing.T) {
	w := newWorld(t, devcloud.Instant())
	create := request("pvc-1", 1)
	create.Parameters = map[string]string{"type": "standard"}
	v := w.create(create).GetVolumeId()
	for name, test := range map[string]struct {
		parameters, mutable map[string]string
		says                string
	}{
		"none":                     {},
		"those of its class":       {parameters: create.Parameters},
		"what a class may also be": {parameters: map[string]string{"Type": "standard", "mkfsOptions": "-m 1"}, mutable: map[string]string{"type": "standard", "metadata/a": "b"}},
		"another type":             {parameters: map[string]string{"type": "multiattach"}, says: "standard"},
		"another type later on":    {mutable: map[string]string{"type": "multiattach"}, says: "standard"},
		"what no class may have":   {parameters: map[string]string{"speed": "9"}, says: "speed"},
		"what nobody can change":   {mutable: map[string]string{"speed": "9"}, says: "speed"},
		"a size that is none":      {parameters: map[string]string{"blockSize": "big"}, says: "blockSize"},
	} {
		t.Run(name, func(t *testing.T) {
			resp, err := w.ValidateVolumeCapabilities(w.within(time.Minute), &csi.ValidateVolumeCapabilitiesRequest{
				VolumeId: v, VolumeCapabilities: []*csi.VolumeCapability{singleWriter}, Parameters: test.parameters, MutableParameters: test.mutable,
			})
			if err != nil {
				t.Fatal(err)
			}
			confirmed := resp.GetConfirmed()
			if (confirmed == nil) != (test.says != "") || !strings.Contains(resp.GetMessage(), test.says) {
				t.Fatalf("got %v", resp)
			}
			if confirmed != nil && (len(confirmed.GetParameters()) != len(test.parameters) || len(confirmed.GetMutableParameters()) != len(test.mutable)) {
				t.Errorf("confirmed %v", confirmed)
			}
		})
	}
}
