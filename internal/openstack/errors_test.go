package openstack

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// TestFailureOfRealAnswers has the bodies as a real Cinder, Nova and Keystone
// sent them.
func TestFailureOfRealAnswers(t *testing.T) {
	const v, s = "bc6bc888-ce01-45a3-985e-e2df9eeb47ca", "c7b7d04e-9842-4769-93ac-eeba8d184f2f"
	tests := []struct {
		name    string
		status  int
		body    string
		kind    error
		message string
	}{
		{"a volume that is missing", 404, `{"itemNotFound": {"code": 404, "message": "Volume ` + v + ` could not be found."}}`,
			cloud.ErrNotFound, "Volume " + v + " could not be found."},
		{"a volume type that is missing", 404, `{"itemNotFound": {"code": 404, "message": "Volume type with name nope could not be found."}}`,
			cloud.ErrNotFound, "Volume type with name nope could not be found."},
		{"a zone that there isn't", 400, `{"badRequest": {"code": 400, "message": "Availability zone 'mars' is invalid."}}`,
			cloud.ErrZone, "Availability zone 'mars' is invalid."},
		{"a type whose zones there aren't", 400, `{"badRequest": {"code": 400, "message": "Volume type is only supported in these availability zones: ['mars']"}}`,
			cloud.ErrZone, "Volume type is only supported in these availability zones: ['mars']"},
		{"a copy in another zone", 400, `{"badRequest": {"code": 400, "message": "Invalid input received: Volume must be in the same availability zone as the source volume"}}`,
			cloud.ErrSourceZone, "Invalid input received: Volume must be in the same availability zone as the source volume"},
		{"another type for a volume that is busy", 400, `{"badRequest": {"code": 400, "message": "Invalid volume: Retype needs volume to be in available or in-use state, not be part of an active migration or a consistency group."}}`,
			cloud.ErrConflict, "Invalid volume: Retype needs volume to be in available or in-use state, not be part of an active migration or a consistency group."},
		{"a volume that is not attached", 404, `{"itemNotFound": {"code": 404, "message": "Instance ` + s + ` is not attached to volume ` + v + `"}}`,
			cloud.ErrNotFound, "Instance " + s + " is not attached to volume " + v},
		{"a volume that is attached elsewhere", 400, `{"badRequest": {"code": 400, "message": "Invalid volume: volume ` + v + ` is already attached to instances: ` + s + `"}}`,
			cloud.ErrInvalid, "Invalid volume: volume " + v + " is already attached to instances: " + s},
		{"a status with a Python dictionary in it", 400, `{"badRequest": {"code": 400, "message": "Invalid volume: Volume ` + v + ` status must be '{'status': 'available'}' to extend, currently in-use."}}`,
			cloud.ErrInvalid, "Invalid volume: Volume " + v + " status must be '{'status': 'available'}' to extend, currently in-use."},
		{"force where it is not wanted", 400, `{"badRequest": {"code": 400, "message": "Since microversion 3.66 the 'force' flag is invalid for this request.  For backward compatability, however, when the 'force' flag is passed with a value evaluating to True, it is silently ignored."}}`, //nolint:misspell // Cinder writes it so
			cloud.ErrInvalid, "Since microversion 3.66 the 'force' flag is invalid for this request. For backward compatability, however, when the 'force' flag is passed with a value evaluating to True, it is silently ignored."}, //nolint:misspell // Cinder writes it so
		{"a volume that is attached to the server", 400, `{"badRequest": {"code": 400, "message": "Invalid volume: volume ` + v + ` already attached"}}`,
			cloud.ErrAlreadyAttached, "Invalid volume: volume " + v + " already attached"},
		{"a volume that is reserved", 400, `{"badRequest": {"code": 400, "message": "Invalid input received: Invalid volume: Volume ` + v + ` status must be available or downloading to reserve, but the current status is reserved. (HTTP 400) (Request-ID: req-1)"}}`,
			cloud.ErrWrongStatus, "Invalid input received: Invalid volume: Volume " + v + " status must be available or downloading to reserve, but the current status is reserved. (HTTP 400) (Request-ID: req-1)"},
		{"a server that is locked", 409, `{"conflictingRequest": {"code": 409, "message": "Instance ` + s + ` is locked"}}`,
			cloud.ErrServerState, "Instance " + s + " is locked"},
		{"a server in error", 409, `{"conflictingRequest": {"code": 409, "message": "Cannot 'attach_volume' instance ` + s + ` while it is in vm_state error"}}`,
			cloud.ErrServerState, "Cannot 'attach_volume' instance " + s + " while it is in vm_state error"},
		{"a server in the wrong state", 409, `{"conflictingRequest": {"code": 409, "message": "Cannot 'attach_volume' instance ` + s + ` while it is in vm_state building"}}`,
			cloud.ErrConflict, "Cannot 'attach_volume' instance " + s + " while it is in vm_state building"},
		{"a server that is locked", 409, `{"conflictingRequest": {"code": 409, "message": "Instance ` + s + ` is locked"}}`, cloud.ErrConflict, "Instance " + s + " is locked"},
		{"a detach past Nova", 409, `{"conflictingRequest": {"code": 409, "message": "ConflictNovaUsingAttachment: Detach volume from instance ` + s + ` using the Compute API"}}`,
			cloud.ErrConflict, "ConflictNovaUsingAttachment: Detach volume from instance " + s + " using the Compute API"},
		{"the attach limit", 403, `{"forbidden": {"code": 403, "message": "The maximum allowed number of disk devices (3) to attach to a single instance has been exceeded."}}`,
			cloud.ErrAttachLimit, "The maximum allowed number of disk devices (3) to attach to a single instance has been exceeded."},
		{"a policy", 403, `{"forbidden": {"code": 403, "message": "Policy doesn't allow volume_extension:volume_admin_actions:force_delete to be performed."}}`,
			cloud.ErrForbidden, "Policy doesn't allow volume_extension:volume_admin_actions:force_delete to be performed."},
		{"the quota of gigabytes", 413, `{"overLimit": {"code": 413, "message": "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. Requested 1999G, quota is 1000G and 7G has been consumed.", "retryAfter": "0"}}`,
			cloud.ErrQuota, "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. Requested 1999G, quota is 1000G and 7G has been consumed."},
		{"the quota of volumes", 413, `{"overLimit": {"code": 413, "message": "VolumeLimitExceeded: Maximum number of volumes allowed (1) exceeded for quota 'volumes'.", "retryAfter": "0"}}`,
			cloud.ErrQuota, "VolumeLimitExceeded: Maximum number of volumes allowed (1) exceeded for quota 'volumes'."},
		{"the quota of snapshots", 413, `{"overLimit": {"code": 413, "message": "SnapshotLimitExceeded: Maximum number of snapshots allowed (0) exceeded", "retryAfter": "0"}}`,
			cloud.ErrQuota, "SnapshotLimitExceeded: Maximum number of snapshots allowed (0) exceeded"},
		{"throttling as old clouds do it", 413, `{"overLimit": {"code": 413, "message": "This request was rate-limited.", "retryAfter": "7"}}`,
			cloud.ErrUnavailable, "This request was rate-limited."},
		{"a bad token", 401, `{"error": {"code": 401, "title": "Unauthorized", "message": "The request you have made requires authentication."}}`,
			cloud.ErrUnauthorized, "The request you have made requires authentication."},
		{"a microversion that is too new", 406, `{"computeFault": {"code": 406, "message": "Version 2.999 is not supported by the API. Minimum is 2.1 and maximum is 2.93."}}`,
			cloud.ErrUnsupported, "Version 2.999 is not supported by the API. Minimum is 2.1 and maximum is 2.93."},
		{"a microversion that is too old", 400, `{"badRequest": {"code": 400, "message": "Multiattach volumes are only supported starting with compute API version 2.60."}}`,
			cloud.ErrUnsupported, "Multiattach volumes are only supported starting with compute API version 2.60."},
		{"a hung compute service", 500, `{"computeFault": {"code": 500, "message": "Unexpected API Error. Please report this at http://bugs.launchpad.net/nova/ and attach the Nova API log if possible.\n<class 'oslo_messaging.exceptions.MessagingTimeout'>"}}`,
			cloud.ErrUnavailable, "Unexpected API Error. Please report this at http://bugs.launchpad.net/nova/ and attach the Nova API log if possible. <class 'oslo_messaging.exceptions.MessagingTimeout'>"},
		{"a project that is not the token's", 400, `{"badRequest": {"code": 400, "message": "Malformed request url"}}`, cloud.ErrInvalid, "Malformed request url"},
		{"a proxy's page", 503, "<html><head><title>503 Service Unavailable</title></head><body><h1>503</h1>\nNo server is available</body></html>",
			cloud.ErrUnavailable, "503 Service Unavailable"},
		{"a gateway's plain text", 502, "upstream\nconnect error\n", cloud.ErrUnavailable, "upstream connect error"},
		{"a gateway's own JSON", 429, `{"message": "API rate limit exceeded"}`, cloud.ErrUnavailable, "API rate limit exceeded"},
		{"a fault string", 400, `{"error_message": {"faultcode": "Client", "faultstring": "bad thing"}}`, cloud.ErrInvalid, "bad thing"},
		{"no body", 404, "", cloud.ErrNotFound, ""},
		{"a body that says nothing", 400, `[1, {"a": 2}]`, cloud.ErrInvalid, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			header := http.Header{}
			header.Set("X-Compute-Request-Id", "req-7")
			status := gophercloud.ErrUnexpectedResponseCode{Actual: test.status, Body: []byte(test.body), ResponseHeader: header}
			for _, method := range []string{http.MethodPost, http.MethodDelete, http.MethodGet} {
				got := call{operation: "do", resource: "it", method: method}.failure(status)
				if !errors.Is(got, test.kind) || got.Message != test.message || got.StatusCode != test.status || got.RequestID != "req-7" {
					t.Errorf("%s: %#v", method, got)
				}
				if want := test.status >= 500 && method != http.MethodGet; got.Uncertain != want {
					t.Errorf("%s: uncertain is %t", method, got.Uncertain)
				}
				if strings.Contains(got.Error(), "\n") {
					t.Errorf("%s: several lines: %q", method, got)
				}
			}
		})
	}
}

func TestOnlyTheServiceItselfKnowsWhatIsMissing(t *testing.T) {
	withID := http.Header{"X-Openstack-Request-Id": {"req-1"}}
	tests := []struct {
		name   string
		header http.Header
		body   string
		kind   error
	}{
		{"a fault of Cinder", nil, `{"itemNotFound": {"code": 404, "message": "Volume x could not be found."}}`, cloud.ErrNotFound},
		{"an answer with a request id", withID, "", cloud.ErrNotFound},
		{"a web server's page", nil, "<html><title>404 Not Found</title></html>", cloud.ErrUnavailable},
		{"a gateway's JSON", nil, `{"message": "no Route matched with those values"}`, cloud.ErrUnavailable},
		{"nothing", nil, "", cloud.ErrUnavailable},
	}
	for _, test := range tests {
		status := gophercloud.ErrUnexpectedResponseCode{Actual: 404, Body: []byte(test.body), ResponseHeader: test.header}
		got := call{operation: "detach volume", resource: "it", method: http.MethodDelete}.failure(status)
		if !errors.Is(got, test.kind) || got.Uncertain {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func TestTooLongAMessageIsCut(t *testing.T) {
	got := faultMessage([]byte(strings.Repeat("ä", 5000)))
	if runes := []rune(got); len(runes) != maxMessage+1 || runes[maxMessage] != '…' {
		t.Errorf("%d runes", len(runes))
	}
}

func FuzzFaultMessage(f *testing.F) {
	f.Add([]byte(`{"badRequest": {"message": "x"}}`))
	f.Add([]byte(`{"error": {"error": {"error": {"error": "deep"}}}}`))
	f.Add([]byte("<title>\xff"))
	f.Fuzz(func(t *testing.T, body []byte) {
		if got := faultMessage(body); strings.ContainsAny(got, "\n\r") || len([]rune(got)) > maxMessage+1 {
			t.Errorf("%q", got)
		}
	})
}
