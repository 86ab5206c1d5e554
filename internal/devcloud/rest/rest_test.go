package rest_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
)

func TestValuesAreQuotedAsPythonDoes(t *testing.T) {
	for in, want := range map[string]string{
		`{"size": 1, "foo": "x"}`:  `{'size': 1, 'foo': 'x'}`,
		`[true, false, null, 1.5]`: `[True, False, None, 1.5]`,
		`"it's"`:                   `"it's"`,
		`"it's \"so\""`:            `'it\'s "so"'`,
		`{}`:                       `{}`,
		``:                         `None`,
		`{"a": {"b": [1, "c"]}}`:   `{'a': {'b': [1, 'c']}}`,
		`"a\nb"`:                   `'a\nb'`,
	} {
		if got := rest.Python(json.RawMessage(in)); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func TestUnknownKeysAreNamedInTheirOrder(t *testing.T) {
	err := rest.CheckKeys("volume", []byte(`{"b": 1, "size": 2, "a": 3}`), "size")
	want := "Invalid input for field/attribute volume. Value: {'b': 1, 'size': 2, 'a': 3}. Additional properties are not allowed ('b', 'a' were unexpected)"
	var e *rest.Error
	if !errors.As(err, &e) || e.Message != want || e.Status != 400 {
		t.Errorf("%v", err)
	}
	if err := rest.CheckKeys("volume", []byte(`[]`)); err == nil {
		t.Error("a list passes for an object")
	}
}

func TestVersionsAreNegotiated(t *testing.T) {
	low, high := rest.Microversion{Major: 2, Minor: 1}, rest.Microversion{Major: 2, Minor: 93}
	for name, tc := range map[string]struct {
		header http.Header
		want   string
		status int
	}{
		"nothing asked":        {http.Header{}, "2.1", 0},
		"of another service":   {header("OpenStack-API-Version", "volume 3.70"), "2.1", 0},
		"asked for":            {header("OpenStack-API-Version", "compute 2.60"), "2.60", 0},
		"among others":         {header("OpenStack-API-Version", "volume 3.70, compute 2.60"), "2.60", 0},
		"latest":               {header("OpenStack-API-Version", "compute latest"), "2.93", 0},
		"the older header":     {header("X-OpenStack-Nova-API-Version", "2.5"), "2.5", 0},
		"too new":              {header("OpenStack-API-Version", "compute 2.94"), "2.94", 406},
		"too old":              {header("OpenStack-API-Version", "compute 2.0"), "2.0", 406},
		"of another major one": {header("OpenStack-API-Version", "compute 3.0"), "3.0", 406},
		"nonsense":             {header("OpenStack-API-Version", "compute x"), "2.1", 400},
	} {
		got, err := rest.Negotiate(tc.header, "compute", "X-OpenStack-Nova-API-Version", low, high)
		var e *rest.Error
		status := 0
		if errors.As(err, &e) {
			status = e.Status
		}
		if got.String() != tc.want || status != tc.status {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
}

func header(name, value string) http.Header {
	h := http.Header{}
	h.Set(name, value)
	return h
}

func TestEnvelopes(t *testing.T) {
	for status, want := range map[int]string{
		400: `{"badRequest":{"code":400,"message":"m"}}`,
		401: `{"error":{"code":401,"title":"Unauthorized","message":"m"}}`,
		403: `{"forbidden":{"code":403,"message":"m"}}`,
		404: `{"itemNotFound":{"code":404,"message":"m"}}`,
		409: `{"conflictingRequest":{"code":409,"message":"m"}}`,
		413: `{"overLimit":{"code":413,"message":"m","retryAfter":"0"}}`,
		500: `{"computeFault":{"code":500,"message":"m"}}`,
	} {
		if got, err := json.Marshal(rest.Classic(status, "m")); err != nil || string(got) != want {
			t.Errorf("%d: %s %v", status, got, err)
		}
	}
	if got, _ := json.Marshal(rest.Identity(401, "m")); string(got) != `{"error":{"code":401,"message":"m","title":"Unauthorized"}}` {
		t.Errorf("%s", got)
	}
}
