package openstack

import (
	"cmp"
	"maps"
	"os"
	"slices"
)

// Secrets returns all that is secret in the configuration of the driver, so that it can be
// kept out of what is written, and the files like clouds.yaml that it names besides. What
// can't be read has no secrets.
func Secrets(paths ...string) (secrets, clouds []string) {
	config, err := ReadConfig(paths...)
	if err != nil {
		return nil, nil
	}
	for _, name := range slices.Sorted(maps.Keys(config.Global)) {
		section := *config.Global[name]
		layers := []CloudConfig{section}
		if section.UseClouds {
			env := environment()
			if path, err := cloudsFile(cmp.Or(section.CloudsFile, env["client_config_file"])); err == nil && path != "" {
				secure, public := besides(path, env)
				clouds = append(clouds, path, secure, public)
			}
			if filled, err := section.withClouds(); err == nil {
				layers = append(layers, filled)
			}
		}
		for _, c := range layers {
			secrets = append(secrets, c.Password, c.TrusteePassword, c.Token, c.ApplicationCredentialSecret)
			if text, err := os.ReadFile(c.KeyFile); c.KeyFile != "" && err == nil { // #nosec G304 -- a path from the operator
				secrets = append(secrets, string(text))
			}
		}
	}
	empty := func(s string) bool { return s == "" }
	slices.Sort(clouds)
	return slices.DeleteFunc(secrets, empty), slices.DeleteFunc(slices.Compact(clouds), empty)
}
