package main

import (
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// Colours by what they mean.
const (
	good    = "green"
	bad     = "red"
	careful = "orange"
	neutral = "text"
)

// atFault are the codes of calls that failed by a fault of the driver, the cloud, a disk or
// the cloud's account: those of the alert CinderOperationsFailing.
const atFault = `grpc_code=~"Internal|Unavailable|DeadlineExceeded|ResourceExhausted|Unknown|DataLoss|PermissionDenied|Unauthenticated"`

func health(board *builder) {
	board.WithRow(dashboard.NewRowBuilder("Health")).
		WithPanel(worded(number("Clouds", "Whether the driver can work with each cloud.", "none", 4, thresholds(bad, step{1, good}),
			query{`min by (cloud) (cinder_csi_cloud_up{ITS})`, "{{cloud}}"}), map[string][2]string{"0": {"DOWN", bad}, "1": {"up", good}})).
		WithPanel(number("Controllers", "Replicas that are scraped. One leads, the others wait.", "none", 2, thresholds(bad, step{1, good}),
			query{`count(cinder_csi_build_info{HERE, role="controller"}) or vector(0)`, ""})).
		WithPanel(number("Nodes registered", "Nodes whose kubelet has taken the driver.", "none", 3, thresholds(neutral),
			query{`sum(cinder_csi_node_registered{HERE})`, ""}).ColorMode(common.BigValueColorModeValue)).
		WithPanel(number("Nodes not registered", "Nodes whose plugin runs, but whose kubelet has not taken it.", "none", 3, thresholds(good, step{1, bad}),
			query{`sum(1 - cinder_csi_node_registered{HERE})`, ""})).
		WithPanel(number("Calls failing", "Part of the calls of the last 15 minutes that failed by a fault of the driver, the cloud or a disk.", "percentunit", 3, thresholds(good, step{0.02, careful}, step{0.1, bad}),
			query{`sum(increase(grpc_server_handled_total{HERE, grpc_service=~"csi.v1.*", ` + atFault + `}[15m])) / (sum(increase(grpc_server_handled_total{HERE, grpc_service=~"csi.v1.*"}[15m])) > 0) or vector(0)`, ""}).Decimals(1)).
		WithPanel(number("Stuck", "Volumes whose operation the cloud doesn't finish, for 5 minutes and more.", "none", 2, thresholds(good, step{1, bad}),
			query{`count(max by (cloud, operation, volume_id, node_id, state) (cinder_csi_stuck_operation_seconds{ITS})) or vector(0)`, ""})).
		WithPanel(number("Orphans", "Volumes, snapshots, backups and attachments of this cluster that nothing in Kubernetes knows. They are counted with inspect.enabled of the chart.", "none", 2, thresholds(good, step{1, careful}),
			query{`sum(max by (cloud, kind) (cinder_csi_orphans{ITS}))`, ""}).NoValue("not counted")).
		WithPanel(number("Next expiry", "Time until the first credential or certificate expires.", "s", 5, thresholds(bad, step{2 * 86400, careful}, step{14 * 86400, good}),
			query{`min(cinder_csi_credential_expiry_timestamp_seconds{ITS} or cinder_csi_certificate_expiry_timestamp_seconds{ITS}) - time()`, ""}).NoValue("none known").Decimals(0)).
		WithPanel(list("Alerts", "The driver's alerts that fire now.", "none", 24,
			query{`ALERTS{HERE, alertname=~"Cinder.*", alertstate="firing"}`, ""},
			column{"alertname", "Alert"}, column{"severity", "Severity"}, column{"cloud", "Cloud"}, column{"node", "Node"}, column{"volume_id", "Volume"}, column{"grpc_method", "Call"}, column{"reason", "Reason"},
			column{"service", "Service"}, column{"resource", "Resource"}, column{"certificate", "Certificate"}, column{"status", "Status"}, column{"kind", "Kind"}).Height(6))
}

func calls(board *builder) {
	const csi = `HERE, grpc_service=~"csi.v1.*"`
	board.WithRow(dashboard.NewRowBuilder("CSI calls")).
		WithPanel(named(stacked(graph("Calls", "Calls of the side containers and the kubelet, by method. Those of the kubelet that ask a node what it is are left out.", "reqps", 8,
			query{`sum by (grpc_method) (rate(grpc_server_handled_total{` + csi + `, grpc_method!~".*Get.*|Probe"}[$__rate_interval])) > 0`, "{{grpc_method}}"})), kinds()...)).
		WithPanel(named(bars(graph("Calls that failed", "By code. Red ones are a fault of the driver, the cloud or a disk; grey ones are the caller's, or only under way.", "none", 8,
			query{`sum by (grpc_code) (increase(grpc_server_handled_total{` + csi + `, grpc_code!="OK"}[$__rate_interval])) > 0`, "{{grpc_code}}"})),
			failures("")...)).
		WithPanel(named(graph("Calls under way", "Calls that have begun and not ended.", "none", 8,
			query{`sum by (grpc_method) (grpc_server_started_total{` + csi + `, grpc_method!~".*Get.*|Probe"}) - sum by (grpc_method) (grpc_server_handled_total{` + csi + `}) > 0`, "{{grpc_method}}"}), kinds()...)).
		WithPanel(latency("Time of a controller's call, median", "Half of the calls took longer.",
			query{quantile("0.5", "grpc_server_handling_seconds", `HERE, grpc_service="csi.v1.Controller", grpc_method!~".*Get.*"`, "grpc_method"), "{{grpc_method}}"})).
		WithPanel(latency("Time of a controller's call, 99th percentile", "One in a hundred calls took longer.",
			query{quantile("0.99", "grpc_server_handling_seconds", `HERE, grpc_service="csi.v1.Controller", grpc_method!~".*Get.*"`, "grpc_method"), "{{grpc_method}}"})).
		WithPanel(latency("Time of a node's call, 99th percentile", "One in a hundred calls took longer.",
			query{quantile("0.99", "grpc_server_handling_seconds", `HERE, grpc_service="csi.v1.Node", grpc_method!~"NodeGet.*"`, "grpc_method"), "{{grpc_method}}"}))
}

func clouds(board *builder) {
	board.WithRow(dashboard.NewRowBuilder("Cloud")).
		WithPanel(stacked(graph("Requests by service", "What the driver asks of the cloud.", "reqps", 8,
			query{`sum by (cloud, service) (rate(cinder_csi_openstack_requests_total{ITS}[$__rate_interval])) > 0`, "{{cloud}} {{service}}"}))).
		WithPanel(named(stacked(graph("Requests by status", "5xx and none (no answer) are the cloud's errors. 404 and 409 are answers.", "reqps", 8,
			query{`sum by (status) (rate(cinder_csi_openstack_requests_total{ITS}[$__rate_interval])) > 0`, "{{status}}"})),
			[2]string{"2..", good}, [2]string{"3..", "blue"}, [2]string{"4..", "yellow"}, [2]string{"429", careful}, [2]string{"5..", bad}, [2]string{"none", "dark-red"})).
		WithPanel(named(bars(graph("Requests that were repeated", "By cause.", "none", 8,
			query{`sum by (cause) (increase(cinder_csi_openstack_retries_total{ITS}[$__rate_interval])) > 0`, "{{cause}}"})),
			[2]string{"throttled", careful}, [2]string{"5xx", bad}, [2]string{"connection", "dark-red"}, [2]string{"unsent", "blue"})).
		WithPanel(latency("Time of a request, 99th percentile", "By request, where that is more than a quarter of a second.",
			query{quantile("0.99", "openstack_api_request_duration_seconds", "HERE", "request") + " > 0.25", "{{request}}"})).
		WithPanel(latency("Wait for the limits on requests, 99th percentile", "How long requests wait, so that there are no more in a second than requestLimit allows.",
			query{quantile("0.99", "cinder_csi_openstack_limiter_wait_seconds", "ITS", "cloud, kind"), "{{cloud}} {{kind}}"})).
		WithPanel(shares("Quota used", "Parts of the limits of the project. What has no limit isn't here.", 8, thresholds(good, step{0.75, careful}, step{0.9, bad}),
			query{`max by (cloud, resource) (cinder_csi_quota_used{ITS}) / (max by (cloud, resource) (cinder_csi_quota_limit{ITS}) > 0 < +Inf)`, "{{cloud}} {{resource}}"})).
		WithPanel(list("Expiries", "When the driver's credentials and certificates expire.", "s", 12,
			query{`label_replace(min by (cloud) (cinder_csi_credential_expiry_timestamp_seconds{ITS}), "what", "credential", "", "") - time()
or label_replace(min by (cloud, certificate) (cinder_csi_certificate_expiry_timestamp_seconds{ITS}), "what", "certificate $1", "certificate", "(.*)") - time()
or label_replace(min by (cloud) (cinder_csi_token_expiry_timestamp_seconds{ITS}), "what", "token (renewed by itself)", "", "") - time()`, ""},
			column{"cloud", "Cloud"}, column{"what", "What"}, column{"Value", "Expires in"})).
		WithPanel(graph("Time since the last success", "How long ago each cloud last did what it was asked. It grows while nothing is asked, too.", "s", 12,
			query{`time() - max by (cloud) (cinder_csi_cloud_last_success_timestamp_seconds{ITS})`, "{{cloud}}"}))
}

func operations(board *builder) {
	board.WithRow(dashboard.NewRowBuilder("Operations")).
		WithPanel(latency("The cloud's own time, 99th percentile", "From the request until the cloud is done, as the cloud tells.",
			query{quantile("0.99", "cinder_csi_cloud_operation_duration_seconds", "ITS", "operation"), "{{operation}}"})).
		WithPanel(latency("Our lag, 99th percentile", "From when the cloud was done until the driver had noticed.",
			query{quantile("0.99", "cinder_csi_detection_lag_seconds", "ITS", "operation"), "{{operation}}"})).
		WithPanel(named(bars(graph("Operations", "How the cloud's operations ended.", "none", 8,
			query{`sum by (operation, result) (increase(cinder_csi_cloud_operation_duration_seconds_count{ITS}[$__rate_interval])) > 0`, "{{operation}} {{result}}"})),
			append(kinds(), [2]string{".* failed", bad})...)).
		WithPanel(graph("Waiting for the cloud", "Calls that wait for the cloud to finish something. Those that wait for one thing share its polls.", "none", 8,
			query{`sum by (cloud) (cinder_csi_watch_waiters{ITS})`, "{{cloud}}"})).
		WithPanel(graph("Polls", "Requests of the driver that only ask how far the cloud is.", "reqps", 8,
			query{`sum by (cloud) (rate(cinder_csi_watch_polls_total{ITS}[$__rate_interval]))`, "{{cloud}}"})).
		WithPanel(latency("Wait for a turn, 99th percentile", "Nova takes the changes of a server one after the other: how long calls wait for those before.",
			query{quantile("0.99", "cinder_csi_lock_wait_seconds", "ITS", "cloud"), "{{cloud}}"})).
		WithPanel(list("Stuck", "Operations that the cloud doesn't finish.", "s", 16,
			query{`max by (cloud, operation, volume_id, node_id, state) (cinder_csi_stuck_operation_seconds{ITS})`, ""},
			column{"volume_id", "Volume"}, column{"operation", "Operation"}, column{"state", "State"}, column{"node_id", "Server"}, column{"cloud", "Cloud"}, column{"Value", "For"})).
		WithPanel(named(stacked(graph("Volumes", "Those of the cloud's lists that the driver has seen, by status.", "none", 8,
			query{`max by (status) (cinder_csi_volumes{ITS})`, "{{status}}"})),
			[2]string{".*ing|reserved|retyping|backing-up", "yellow"}, [2]string{"error.*", bad}, [2]string{"in-use", good}, [2]string{"available", "blue"}))
}

func nodes(board *builder) {
	board.WithRow(dashboard.NewRowBuilder("Nodes")).
		WithPanel(latency("Time of programs, 99th percentile", "mkfs, fsck, mount and so on.",
			query{quantile("0.99", "cinder_csi_node_tool_duration_seconds", "HERE", "tool"), "{{tool}}"})).
		WithPanel(latency("Wait for a disk, 99th percentile", "From when the cloud said that a volume is attached until the node had found its disk, by what it was found by.",
			query{quantile("0.99", "cinder_csi_node_device_wait_seconds", "HERE", "found_by"), "{{found_by}}"})).
		WithPanel(named(bars(graph("Refusals", "Disks that nodes refused. Red ones may be about data in danger.", "none", 8,
			query{`sum by (reason) (increase(cinder_csi_node_refusals_total{HERE}[$__rate_interval])) > 0`, "{{reason}}"})),
			[2]string{".*", "gray"}, [2]string{"not_blank", bad}, [2]string{"wrong_serial", "dark-red"}, [2]string{"corrupt", "light-red"})).
		WithPanel(shares("Volumes of a node", "Part of the volumes that each node can have; the fullest 12.", 8, thresholds(good, step{0.8, careful}, step{0.95, bad}),
			query{`topk(12, max by (node) (cinder_csi_node_attached_volumes{HERE} / (cinder_csi_node_attach_limit{HERE} > 0)))`, "{{node}}"})).
		WithPanel(list("Abnormal volumes", "Volumes in use that a node finds something wrong with.", "none", 8,
			query{`max by (node, volume_id, reason) (cinder_csi_node_volume_abnormal{HERE}) > 0`, ""},
			column{"volume_id", "Volume"}, column{"node", "Node"}, column{"reason", "What"})).
		WithPanel(graph("Memory", "Resident memory of the driver's processes: the largest of each role.", "bytes", 8,
			query{`max by (role) (process_resident_memory_bytes{HERE} * on (namespace, pod, container) group_left (role) cinder_csi_build_info{HERE})`, "{{role}}"}))
}

func sidecars(board *builder) {
	const ours = `HERE, driver_name="cinder.csi.openstack.org", method_name!~".*(/Probe|/Get.*|GetCapabilities)"`
	// /csi.v1.Controller/CreateVolume is called CreateVolume.
	short := func(expr string) string {
		return `label_replace(` + expr + `, "method", "$1", "method_name", ".*/(.*)")`
	}
	board.WithRow(dashboard.NewRowBuilder("Side containers")).
		WithPanel(named(stacked(graph("Calls", "What the side containers ask of the driver, by method.", "reqps", 8,
			query{short(`sum by (method_name) (rate(csi_sidecar_operations_seconds_count{` + ours + `}[$__rate_interval])) > 0`), "{{method}}"})), kinds()...)).
		WithPanel(named(bars(graph("Calls that failed", "As the side containers see them: an answer that came too late for them is here, and not above. Red ones are a fault of the driver or the cloud.", "none", 8,
			query{short(`sum by (method_name, grpc_status_code) (increase(csi_sidecar_operations_seconds_count{` + ours + `, grpc_status_code!="OK"}[$__rate_interval])) > 0`), "{{method}} {{grpc_status_code}}"})),
			failures(".* ")...)).
		WithPanel(latency("Time of a call, 99th percentile", "As the side containers see it.",
			query{short(quantile("0.99", "csi_sidecar_operations_seconds", ours, "method_name")), "{{method}}"}))
}

// kinds are the colours of CSI methods and of the cloud's operations: what takes something
// away has the lighter colour of what makes it.
func kinds() [][2]string {
	return [][2]string{
		{"(Create|volume_create|NodeStage).*", "green"}, {"(Delete|volume_delete|NodeUnstage).*", "super-light-green"},
		{"(ControllerPublish|volume_attach|NodePublish).*", "blue"}, {"(ControllerUnpublish|volume_detach|NodeUnpublish).*", "super-light-blue"},
		{"(ControllerExpand|volume_extend|NodeExpand).*", "yellow"}, {"(ControllerModify|volume_retype).*", "super-light-yellow"},
		{"(CreateSnapshot|snapshot_create|backup_create).*", "purple"}, {"(DeleteSnapshot|snapshot_delete|backup_delete).*", "super-light-purple"},
		{"List.*", "gray"},
	}
}

// failures are the colours of codes, whose series have names that begin with something.
func failures(begin string) [][2]string {
	return [][2]string{
		{begin + ".*", "gray"}, {begin + "Internal", "dark-red"}, {begin + "Unavailable", bad}, {begin + "DeadlineExceeded", careful},
		{begin + "ResourceExhausted", "purple"}, {begin + "(Unknown|DataLoss)", "light-red"}, {begin + "(PermissionDenied|Unauthenticated)", "dark-orange"},
	}
}
