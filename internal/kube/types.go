package kube

import (
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The objects of Kubernetes, with the fields that the driver reads. They are k8s.io/api's
// by the same names; see the package's comment.

// PersistentVolumeClaim asks for a volume.
type PersistentVolumeClaim struct {
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		VolumeName       string   `json:"volumeName"`
		StorageClassName string   `json:"storageClassName"`
		AccessModes      []string `json:"accessModes"`
		Resources        struct {
			Requests Resources `json:"requests"`
		} `json:"resources"`
	} `json:"spec"`
	Status struct {
		Phase                     string            `json:"phase"`
		Capacity                  Resources         `json:"capacity"`
		Conditions                []Condition       `json:"conditions"`
		AllocatedResourceStatuses map[string]string `json:"allocatedResourceStatuses"`
	} `json:"status"`
}

// Resources are amounts of what Kubernetes counts.
type Resources struct {
	Storage resource.Quantity `json:"storage"`
}

// Condition is what a controller says of an object.
type Condition struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// PersistentVolume is a volume as Kubernetes knows it.
type PersistentVolume struct {
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Capacity         Resources  `json:"capacity"`
		AccessModes      []string   `json:"accessModes"`
		ClaimRef         *Reference `json:"claimRef"`
		ReclaimPolicy    string     `json:"persistentVolumeReclaimPolicy"`
		StorageClassName string     `json:"storageClassName"`
		CSI              *CSISource `json:"csi"`
		// Cinder is the source of the driver that was built into Kubernetes.
		Cinder *struct {
			VolumeID string `json:"volumeID"`
		} `json:"cinder"`
	} `json:"spec"`
	Status struct {
		Phase   string `json:"phase"`
		Message string `json:"message"`
		Reason  string `json:"reason"`
	} `json:"status"`
}

// CSISource is the volume of a CSI driver.
type CSISource struct {
	Driver       string `json:"driver"`
	VolumeHandle string `json:"volumeHandle"`
	// PublishSecret names the Secret whose cloud has the volume.
	PublishSecret *Reference `json:"controllerPublishSecretRef"`
}

// Reference names another object.
type Reference struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
}

// VolumeAttachment asks for a volume on a node.
type VolumeAttachment struct {
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Attacher string `json:"attacher"`
		NodeName string `json:"nodeName"`
		Source   struct {
			PersistentVolumeName string `json:"persistentVolumeName"`
			// Inline is the volume of a pod that uses the driver built into Kubernetes.
			Inline *struct {
				CSI *CSISource `json:"csi"`
			} `json:"inlineVolumeSpec"`
		} `json:"source"`
	} `json:"spec"`
	Status struct {
		Attached    bool         `json:"attached"`
		AttachError *VolumeError `json:"attachError"`
		DetachError *VolumeError `json:"detachError"`
	} `json:"status"`
}

// VolumeError is what went wrong with an attachment last.
type VolumeError struct {
	Time    metav1.Time `json:"time"`
	Message string      `json:"message"`
}

// Node is a node of the cluster.
type Node struct {
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Unschedulable bool `json:"unschedulable"`
		Taints        []struct {
			Key    string `json:"key"`
			Value  string `json:"value"`
			Effect string `json:"effect"`
		} `json:"taints"`
	} `json:"spec"`
	Status struct {
		Conditions []Condition `json:"conditions"`
	} `json:"status"`
}

// CSINode tells which CSI drivers have registered on a node.
type CSINode struct {
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Drivers []struct {
			Name        string `json:"name"`
			NodeID      string `json:"nodeID"`
			Allocatable *struct {
				Count *int32 `json:"count"`
			} `json:"allocatable"`
		} `json:"drivers"`
	} `json:"spec"`
}

// Pod is a pod.
type Pod struct {
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		NodeName string `json:"nodeName"`
		Volumes  []struct {
			Name  string `json:"name"`
			Claim *struct {
				ClaimName string `json:"claimName"`
			} `json:"persistentVolumeClaim"`
			Ephemeral *struct{} `json:"ephemeral"`
		} `json:"volumes"`
	} `json:"spec"`
	Status struct {
		Phase string `json:"phase"`
	} `json:"status"`
}

// Event is what a component of Kubernetes says of an object.
type Event struct {
	metav1.ObjectMeta `json:"metadata"`
	InvolvedObject    Reference `json:"involvedObject"`
	Type              string    `json:"type"`
	Reason            string    `json:"reason"`
	Message           string    `json:"message"`
	// LastTimestamp is empty in the events of the scheduler: those have EventTime, and
	// Series where there are several.
	LastTimestamp metav1.Time      `json:"lastTimestamp"`
	EventTime     metav1.MicroTime `json:"eventTime"`
	Series        struct {
		LastObservedTime metav1.MicroTime `json:"lastObservedTime"`
	} `json:"series"`
}

// Last is when an event was seen last.
func (e *Event) Last() time.Time {
	switch {
	case !e.Series.LastObservedTime.IsZero():
		return e.Series.LastObservedTime.Time
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.Time
	}
	return e.EventTime.Time
}

// SnapshotContent is a VolumeSnapshotContent.
type SnapshotContent struct {
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Driver string `json:"driver"`
		Source struct {
			VolumeHandle   string `json:"volumeHandle"`
			SnapshotHandle string `json:"snapshotHandle"`
		} `json:"source"`
		Snapshot Reference `json:"volumeSnapshotRef"`
	} `json:"spec"`
	Status struct {
		SnapshotHandle string       `json:"snapshotHandle"`
		ReadyToUse     *bool        `json:"readyToUse"`
		Error          *VolumeError `json:"error"`
	} `json:"status"`
}
