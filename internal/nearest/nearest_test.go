package nearest

import "testing"

func TestOf(t *testing.T) {
	known := []string{"username", "user-id", "password", "region", "tenant-name"}
	for word, want := range map[string]string{
		"user-name": "username", "UserID": "user-id", "pasword": "password", "regions": "region", "tenant_name": "tenant-name", "": "region",
	} {
		if got := Of(word, known); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
	if got := Of("x", nil); got != "" {
		t.Errorf("%q of nothing", got)
	}
}
