package openstack

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestTheFingerprintChangesWithEveryFileThatCounts(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(at(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("clouds.yaml", "clouds: {}")
	write("ca.pem", "x")
	write("cloud.conf", fmt.Sprintf("[Global]\nca-file=%s\n[Global \"b\"]\nuse-clouds=true\nclouds-file=%s\n", at("ca.pem"), at("clouds.yaml")))
	paths := []string{at("cloud.conf"), at("more.conf")}
	seen := map[string]string{}
	note := func(what string) {
		t.Helper()
		now := Fingerprint(paths)
		if now != Fingerprint(paths) {
			t.Errorf("%s: it changes by itself", what)
		}
		if before, known := seen[now]; known {
			t.Errorf("%s: as %s", what, before)
		}
		seen[now] = what
	}
	note("the beginning")
	for _, name := range []string{"more.conf", "ca.pem", "clouds.yaml", "secure.yaml"} {
		write(name, "# changed")
		note(name)
	}
	write("unrelated", "x")
	if _, known := seen[Fingerprint(paths)]; !known {
		t.Error("a file that nobody named counts")
	}
	if err := os.Remove(at("cloud.conf")); err != nil {
		t.Fatal(err)
	}
	note("without its first file")
}

func TestTheFingerprintChangesWithWhatACloudsFileNames(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	conf := write("cloud.conf", "[Global]\nuse-clouds=true\nclouds-file="+filepath.Join(dir, "clouds.yaml")+"\n")
	write("clouds.yaml", "clouds: {c: {profile: p, cacert: "+filepath.Join(dir, "ca.pem")+"}}")
	write("clouds-public.yaml", "public-clouds: {p: {auth: {auth_url: 'http://k/v3'}}}")
	last := Fingerprint([]string{conf})
	for _, name := range []string{"ca.pem", "clouds-public.yaml", "secure.yaml"} {
		write(name, "public-clouds: {p: {auth: {auth_url: 'http://other/v3'}}} # "+name)
		now := Fingerprint([]string{conf})
		if now == last {
			t.Errorf("%s does not count", name)
		}
		last = now
	}
}
