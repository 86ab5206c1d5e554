package images

import (
	"strings"
	"testing"
)

func TestPackagesComeFromTheMirrorsOfTheMachine(t *testing.T) {
	const public = "deb http://deb.debian.org/debian bookworm main\n" +
		"deb http://deb.debian.org/debian bookworm-updates main\n" +
		"deb http://deb.debian.org/debian-security bookworm-security main\n"
	for _, test := range []struct{ name, targets, want string }{
		{
			"a mirror of one's own, each target once, and nothing but Debian's main",
			`Packages Debian deb http://mirror.example/debian/ bookworm main
Translations Debian deb http://mirror.example/debian/ bookworm main
Packages Debian deb http://mirror.example/debian/ bookworm main
Packages Debian deb http://mirror.example/debian/ bookworm contrib
Packages Debian deb http://mirror.example/debian/ sid main
Packages Node deb http://node.example nodistro main
Packages Debian deb http://mirror.example/security/ bookworm-security main
`,
			"deb http://mirror.example/debian/ bookworm main\ndeb http://mirror.example/security/ bookworm-security main\n",
		},
		{"no security updates", "Packages Debian deb http://mirror.example/debian/ bookworm main\n", public},
		{"another Debian", strings.ReplaceAll("Packages Debian deb http://m/d/ X main\nPackages Debian deb http://m/s/ X-security main\n", "X", "trixie"), public},
		{"another distribution", "Packages Ubuntu deb http://archive.ubuntu.com/ubuntu noble main\n", public},
		{
			"a mirror that needs certificates",
			"Packages Debian deb https://m/d/ bookworm main\nPackages Debian deb https://m/s/ bookworm-security main\n", public,
		},
		{"nothing", "", public},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := mirrors(test.targets); got != test.want {
				t.Errorf("got\n%swant\n%s", got, test.want)
			}
		})
	}
}
