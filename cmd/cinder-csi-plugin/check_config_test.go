package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
)

func TestCheckConfigExits(t *testing.T) {
	cloud, err := devcloud.Start(t.Context(), devcloud.Config{StateDir: filepath.Join(t.TempDir(), "cloud"), Disks: devcloud.DisksNone, Ephemeral: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cloud.Close() })
	path := filepath.Join(t.TempDir(), "cloud.conf")
	good := cloud.CloudConf()
	for name, row := range map[string]struct {
		conf   string
		args   []string
		status int
		says   string
	}{
		"well":         {conf: good, status: 0, says: "Nothing is to be done"},
		"wrong":        {conf: strings.Replace(good, "password=", "password=x", 1), status: 1, says: "What to do"},
		"unseen":       {conf: strings.Replace(good, cloud.URL(), "http://127.0.0.1:1", 1), status: 2, says: "can't be reached"},
		"wrong counts": {conf: good + "[Global \"b\"]\nauth-url=http://127.0.0.1:1\nusername=u\npassword=p\ndomain-name=d\n[Global \"c\"]\n", status: 1, says: "cloud c: wrong"},
		"in brief":     {conf: strings.Replace(good, "password=", "password=x", 1), args: []string{"--brief"}, status: 1, says: "cloud default: wrong\n\n  login  "},
		"one of them":  {conf: good + "[Global \"c\"]\n", args: []string{"--cloud-name=default"}, status: 0, says: "cloud default: well"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(row.conf), 0o600); err != nil {
				t.Fatal(err)
			}
			var out, errs bytes.Buffer
			args := append([]string{"check-config", "--cloud-config=" + path}, row.args...)
			if got := run(args, &out, &errs); got != row.status || !strings.Contains(out.String(), row.says) {
				t.Errorf("exit status %d, want %d\n%s%s", got, row.status, out.String(), errs.String())
			}
			out.Reset()
			if got := run(append(args, "-o", "json"), &out, &errs); got != row.status || !json.Valid(out.Bytes()) {
				t.Errorf("exit status %d, want %d\n%s", got, row.status, out.String())
			}
		})
	}
	var out, errs bytes.Buffer
	if got := run([]string{"check-config"}, &out, &errs); got != 2 || !strings.Contains(errs.String(), "--cloud-config is missing") {
		t.Errorf("exit status %d: %s", got, errs.String())
	}
}
