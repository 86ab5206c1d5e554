package driver

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/events"
	"github.com/cinder-csi/cinder-csi/internal/identity"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
)

const (
	// endsSoon is how long before the end of a credential or a certificate is told of it.
	endsSoon = 14 * 24 * time.Hour
	// silence is after how long without a request nothing is known of a cloud: a replica
	// that doesn't lead any more asks nothing.
	silence = 15 * time.Minute
)

// notices are what is wrong with the clouds, or well, for those who look at Kubernetes' events.
// What concerns one claim is not among them: the provisioner, the attacher and the kubelet
// put the text of the driver's error into events of their own.
func notices(all []openstack.Health, refused map[string]error, now time.Time) (wrong []events.Notice) {
	for _, h := range all {
		of := fmt.Sprintf("cloud %q", h.Cloud)
		if h.Up || h.LastSuccess.IsZero() || now.Sub(h.LastRequest) < silence {
			wrong = append(wrong, events.Notice{
				Reason: "CloudUnavailable", Of: h.Cloud, Well: h.Up,
				Message:     fmt.Sprintf("%s can't be used, last used %s: %v", of, moment(h.LastSuccess, "never since this start"), h.Err),
				Over:        "CloudAvailable",
				OverMessage: of + " can be used again",
			})
		}
		if err, tried := refused[h.Cloud]; tried {
			wrong = append(wrong, events.Notice{
				Reason: "CredentialsRefused", Of: h.Cloud, Well: err == nil,
				Message:     fmt.Sprintf("%s: the changed configuration does not work, the one before stays in use until this pod ends: %v", of, err),
				Over:        "CredentialsAccepted",
				OverMessage: of + ": the configuration as it is now is in use",
			})
		}
		where := "cloud.conf, which is read again while the driver runs"
		if h.OfSecret {
			where = "the Secret that has it"
		}
		if end := h.CredentialExpiry; ends(end, now) {
			wrong = append(wrong, events.Notice{
				Reason: "CredentialExpiring", Of: h.Cloud,
				Message: fmt.Sprintf("%s: the driver's credential ends at %s; put a new one into %s", of, moment(end, ""), where),
			})
		}
		for _, name := range slices.Sorted(maps.Keys(h.Certificates)) {
			if end := h.Certificates[name]; ends(end, now) {
				wrong = append(wrong, events.Notice{
					Reason: "CertificateExpiring", Of: h.Cloud + " " + name,
					Message: fmt.Sprintf("%s: the certificate of %s ends at %s; after that the driver can't connect", of, certificateOf(name), moment(end, "")),
				})
			}
		}
	}
	return wrong
}

func ends(end, now time.Time) bool { return !end.IsZero() && end.Sub(now) < endsSoon }

func moment(at time.Time, never string) string {
	if at.IsZero() {
		return never
	}
	return at.UTC().Format(time.RFC3339)
}

// certificateOf says in words whose certificate has a name in openstack.Health.
func certificateOf(name string) string {
	switch name {
	case "ca":
		return "an authority that vouches for the cloud's"
	case "client":
		return "the driver (cert-file in cloud.conf)"
	}
	return name + ", which the cloud shows"
}

// eventObject is what the events are about: the pod of this controller, as its environment
// tells; the CSIDriver where that tells nothing, as for a controller whose cluster is
// another one.
func eventObject(environment func(string) string) events.Object {
	pod := events.Object{APIVersion: "v1", Kind: "Pod", Namespace: environment("POD_NAMESPACE"), Name: environment("POD_NAME"), UID: environment("POD_UID")}
	if pod.Namespace == "" || pod.Name == "" {
		return events.Object{APIVersion: "storage.k8s.io/v1", Kind: "CSIDriver", Name: identity.DriverName}
	}
	return pod
}
