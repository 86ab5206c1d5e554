package controller_test

import (
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/cinder-csi/cinder-csi/internal/controller"
	"github.com/cinder-csi/cinder-csi/internal/controller/controllertest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/logging"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

func TestEveryRequestIsInTheLogAtDebugLevel(t *testing.T) {
	w := newWorld(t, devcloud.Fast())
	core, logs := observer.New(zapcore.DebugLevel)
	logger := zap.New(core)
	service := volumes.New(w.client, volumes.Options{Cluster: "test", Logger: logger})
	w.Server = controller.New(controller.Config{Source: controllertest.Clouds{"": service}})
	w.resetRequests()
	ctx := logging.Into(w.within(time.Minute), logger)
	created, err := w.CreateVolume(ctx, request("pvc-1", 1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.ControllerPublishVolume(ctx, publishRequest(created.GetVolume().GetVolumeId(), w.server("one"))); err != nil {
		t.Fatal(err)
	}
	told, made := logs.FilterMessage("openstack request").Len(), w.requests()
	if int64(told) != made.Total {
		t.Errorf("%d of %d requests are in the log: %v", told, made.Total, made.Operations)
	}
}
